"""Pairs in, explanation shards out: the loop that ties readers, prompts, an engine and the output folder together."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from exaranker.errors import require
from exaranker.preprocess.configs import ExplainerConfig
from exaranker.preprocess.dataset import Dataset, Plan, RejectedPair, ShardResult, open_dataset
from exaranker.preprocess.engines import Completion, Engine, EngineSpec, Sampling
from exaranker.preprocess.filters import candidate_of, reason_to_reject
from exaranker.preprocess.prompting import Prompt, Prompter
from exaranker.preprocess.selection import Selection, batches
from exaranker.schema import ExplainedPair, Pair

TOO_LONG = "too_long"  # the reason of a pair whose question leaves no room for its passage

SAMPLING_FIELDS = ("max_tokens", "temperature", "top_p", "samples", "seed")


class Job(NamedTuple):
    """One explanation run, with everything heavy handed in.

    `explainer` is the LLM's name as the rows carry it; `llm_digest` identifies its weights.
    """

    selection: Selection
    input_name: str
    config: ExplainerConfig
    prompter: Prompter
    explainer: str
    llm_digest: str
    engine: EngineSpec

    @property
    def sampling(self) -> Sampling:
        fields = {name: getattr(self.config, name) for name in SAMPLING_FIELDS}
        return Sampling(**fields, stop=self.prompter.style.stop)


def explain(job: Job, output_dir: str | Path) -> dict[str, Any]:
    """Fills `output_dir` with what is missing there and returns its complete manifest.

    Raises:
        InputError: another process is writing there, or the folder was begun with other settings.
    """
    with open_dataset(output_dir, plan_of(job)) as dataset:
        if not dataset.complete:
            _generate(job, dataset)
        return dataset.manifest()


def plan_of(job: Job) -> Plan:
    """The settings that define the output's bytes, and notes on its input."""
    config, selection, style = job.config, job.selection, job.prompter.style
    settings = {
        "input": {"name": job.input_name, "pairs": selection.num_pairs, "sha256": selection.digest},
        "llm": {"name": job.explainer, "digest": job.llm_digest, "context_tokens": config.context_tokens},
        "prompt": {
            "name": style.name,
            "sha256": job.prompter.digest(),
            "chat": config.chat,
            "max_passage_tokens": config.max_passage_tokens,
        },
        "sampling": {name: getattr(config, name) for name in SAMPLING_FIELDS},
        "filters": list(config.filters),
        "positive_grade": selection.positive_grade,
        "shard_size": config.shard_size,
        "engine": job.engine.settings,
    }
    return Plan(settings, {"input_counts": selection.counts}, selection.num_pairs, config.shard_size)


def _generate(job: Job, dataset: Dataset) -> None:
    began = time.monotonic()
    engine = job.engine.start()
    require("tensorflow", "explain")  # seconds that would else count as the first shard's
    print(f"{engine.info.version} ready in {time.monotonic() - began:.0f} s", flush=True)
    total, done = job.selection.num_pairs, dataset.num_done_pairs
    try:
        with tqdm(total=total, initial=done, desc="explain", unit="pair", smoothing=0) as progress:
            for index, pairs in pending(job, dataset.done):
                began = time.monotonic()
                result = explain_shard(job, engine, pairs)
                dataset.add(index, result, engine.info, time.monotonic() - began)
                progress.update(len(pairs))
    finally:
        engine.close()


def pending(job: Job, done: set[int]) -> Iterator[tuple[int, list[Pair]]]:
    """The shards still to be generated; at most one shard's pairs are in memory."""
    for index, pairs in enumerate(batches(job.selection.pairs(), job.config.shard_size)):
        if index not in done:
            yield index, pairs


def explain_shard(job: Job, engine: Engine, pairs: Sequence[Pair]) -> ShardResult:
    """Prompts, one call of the engine, filters."""
    prompts = job.prompter.build(pairs, job.selection.positive_grade)
    asked = [prompt for prompt in prompts if prompt is not None]
    answers = iter(engine.generate(asked, job.sampling, job.prompter.prefix()) if asked else [])
    samples = [_with_opening(prompt, next(answers)) if prompt is not None else [] for prompt in prompts]
    return judge(job, pairs, samples)


def judge(job: Job, pairs: Sequence[Pair], samples: Sequence[Sequence[Completion]]) -> ShardResult:
    """Keeps each pair's best sample that no filter objects to: the one with the highest mean log-probability."""
    kept, rejected = [], []
    for pair, completions in zip(pairs, samples, strict=True):
        relevant = pair.label >= job.selection.positive_grade
        ranked = sorted(completions, key=lambda one: one.mean_logprob, reverse=True)
        reasons = [_reason(pair, relevant, completion, job.config.filters) for completion in ranked]
        best = next((i for i, reason in enumerate(reasons) if reason is None), None)
        if best is not None:
            kept.append(_row(pair, relevant, ranked[best], job.explainer))
        else:
            reason, text = (str(reasons[0]), ranked[0].text) if ranked else (TOO_LONG, "")
            rejected.append(RejectedPair(*pair, reason, text))
    return ShardResult(kept, rejected, sum(one.num_tokens for completions in samples for one in completions))


def summary(manifest: dict[str, Any]) -> str:
    """One line: how many pairs were explained, how many were not, and why."""
    shards = manifest["shards"]
    rows, pairs = (sum(shard[name] for shard in shards) for name in ("rows", "pairs"))
    reasons = sum((Counter(shard["rejected"]["reasons"]) for shard in shards), Counter[str]())
    why = ", ".join(f"{name} {count}" for name, count in reasons.most_common())
    return (
        f"{rows} of {pairs} pairs explained in {len(shards)} shards; {pairs - rows} rejected{f': {why}' if why else ''}"
    )


def _reason(pair: Pair, relevant: bool, completion: Completion, filters: Sequence[str]) -> str | None:
    return reason_to_reject(candidate_of(pair.query, pair.passage, relevant, completion), filters)


def _row(pair: Pair, relevant: bool, completion: Completion, explainer: str) -> ExplainedPair:
    return ExplainedPair(
        *pair,
        relevant=int(relevant),
        explanation=completion.text,
        explainer=explainer,
        finish_reason=completion.finish_reason,
        num_tokens=completion.num_tokens,
        mean_logprob=completion.mean_logprob,
    )


def _with_opening(prompt: Prompt, completions: Sequence[Completion]) -> list[Completion]:
    """The answer as one line of text: the words it was given, then the LLM's own; "" if it added none."""
    texts = [" ".join(one.text.split()) for one in completions]
    whole = [f"{prompt.opening} {text}".strip() if text else "" for text in texts]
    return [one._replace(text=text) for one, text in zip(completions, whole, strict=True)]
