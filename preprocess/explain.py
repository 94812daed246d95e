"""Pairs in, explanation shards out: the loop that ties a selection, a recipe, an engine and the folder together."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from exaranker.errors import require
from exaranker.logs import progress as progress_bar
from exaranker.preprocess.config import ExplainerConfig
from exaranker.preprocess.dataset.writer import DatasetWriter, Plan, open_dataset
from exaranker.preprocess.engines.runners import EngineSpec
from exaranker.preprocess.pairs.selection import Selection, chunks
from exaranker.preprocess.prompts.prompter import Prompter
from exaranker.preprocess.prompts.relevance import RelevanceAsker
from exaranker.preprocess.recipe import SAMPLING_FIELDS, Recipe, Shard
from exaranker.schema import Pair


class Job(NamedTuple):
    """One explanation run, with everything heavy handed in.

    `explainer` is the LLM's name as the rows carry it; `llm_digest` identifies its weights.
    """

    selection: Selection[Pair]
    input_name: str
    config: ExplainerConfig
    prompter: Prompter
    explainer: str
    llm_digest: str
    engine: EngineSpec
    asker: RelevanceAsker | None = None

    @property
    def recipe(self) -> Recipe:
        return Recipe(self.config, self.prompter, self.explainer, self.selection.positive_grade, self.asker)


def explain(job: Job, output_dir: str | Path) -> dict[str, Any]:
    """Fills `output_dir` with what is missing there and returns its complete manifest.

    Raises:
        InputError: another process is writing there, the folder was begun with other settings, or the disk is full.
    """
    recipe = job.recipe
    _ = recipe.sampling  # refuses impossible sampling before anything is written
    job.prompter.check()
    with open_dataset(output_dir, plan_of(job)) as dataset:
        if not dataset.complete:
            _generate(job, recipe, dataset)
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
        **_second_pass(job),
    }
    return Plan(settings, {"input_counts": selection.counts}, selection.num_pairs, config.shard_size)


def pending(job: Job, done: set[int]) -> Iterator[Shard]:
    """The shards still to be generated; at most one shard's pairs are in memory."""
    for index, pairs in enumerate(chunks(job.selection.pairs(), job.config.shard_size)):
        if index not in done:
            yield Shard(index, pairs)


def summary(manifest: dict[str, Any]) -> str:
    """One line: how many pairs were explained, how many were not, and why."""
    shards = manifest["shards"]
    rows, pairs = (sum(shard[name] for shard in shards) for name in ("rows", "pairs"))
    reasons = sum((Counter(shard["rejected"]["reasons"]) for shard in shards), Counter[str]())
    why = ", ".join(f"{name} {count}" for name, count in reasons.most_common())
    return (
        f"{rows} of {pairs} pairs explained in {len(shards)} shards; {pairs - rows} rejected{f': {why}' if why else ''}"
    )


def _generate(job: Job, recipe: Recipe, dataset: DatasetWriter) -> None:
    require("tensorflow", "explain")  # seconds that would else count as the first shard's
    total, done = job.selection.num_pairs, dataset.num_done_pairs
    shards = job.engine.run(recipe, job.engine.start, pending(job, dataset.done))
    progress = progress_bar(total=total, initial=done, desc="explain", unit="pair")
    with closing(shards), progress:
        for finished in shards:
            dataset.add(*finished)
            progress.update(finished.result.num_pairs)


def _second_pass(job: Job) -> dict[str, Any]:
    if job.asker is None:
        return {}
    name, digest = job.asker.style.name, job.asker.digest()
    return {"relevance": {"name": name, "sha256": digest, "max_disagreement": job.config.max_disagreement}}
