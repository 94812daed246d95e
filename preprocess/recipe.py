"""One shard, from its pairs to the rows that are kept: the unit that is generated, written and repeated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from exaranker.preprocess.config import ExplainerConfig
from exaranker.preprocess.dataset.files import RejectedPair
from exaranker.preprocess.dataset.writer import ShardResult
from exaranker.preprocess.engines.base import Call, Completion, EngineInfo, Sampling
from exaranker.preprocess.filters.rules import Candidate, reason_to_reject
from exaranker.preprocess.prompts.prompter import Prompt, Prompter
from exaranker.preprocess.prompts.relevance import NOT_ASKED, RelevanceAsker
from exaranker.schema import ExplainedPair, Pair

TOO_LONG = "too_long"  # the reason of a pair whose question leaves no room for its passage
INCONSISTENT = "inconsistent"  # the reason of a pair whose label the LLM's own probability contradicts

SAMPLING_FIELDS = ("max_tokens", "temperature", "top_p", "samples", "seed")


class Shard(NamedTuple):
    """The pairs of one output file, which are explained together."""

    number: int
    pairs: list[Pair]


class Finished(NamedTuple):
    """What came of a shard, by which engine, in how many seconds."""

    number: int
    result: ShardResult
    engine: EngineInfo
    seconds: float


class Asked(NamedTuple):
    """A shard's calls of the engine, and what they do not carry: prompts are None where a pair does not fit."""

    shard: Shard
    prompts: list[Prompt | None]
    questions: list[Prompt | None]  # after the pair's relevance; empty if that is not asked
    calls: list[Call]


@dataclass(frozen=True)
class Recipe:
    """All that turns a shard's pairs into rows, given an engine; it is sent to wherever the engine runs."""

    config: ExplainerConfig
    prompter: Prompter
    explainer: str
    positive_grade: int
    asker: RelevanceAsker | None = None

    @property
    def sampling(self) -> Sampling:
        fields = {name: getattr(self.config, name) for name in SAMPLING_FIELDS}
        return Sampling(**fields, stop=self.prompter.style.stop)

    def ask(self, shard: Shard) -> Asked:
        """Writes the shard's prompts."""
        prompts = self.prompter.build(shard.pairs, self.positive_grade)
        calls = [Call(_present(prompts), self.sampling, self.prompter.prefix())]
        if self.asker is None:
            return Asked(shard, prompts, [], calls)
        questions = self.asker.build(shard.pairs)
        calls.append(Call(_present(questions), self.asker.sampling, self.asker.prefix()))
        return Asked(shard, prompts, questions, calls)

    def judge(self, asked: Asked, answers: Sequence[list[list[Completion]]]) -> ShardResult:
        """Keeps each pair's best sample that no filter objects to: the one with the highest mean log-probability."""
        texts = iter(answers[0])
        samples = [_with_opening(prompt, next(texts)) if prompt is not None else [] for prompt in asked.prompts]
        triples = zip(asked.shard.pairs, samples, self._beliefs(asked, answers), strict=True)
        rows = [self._row(*triple) for triple in triples]
        kept = [row for row in rows if isinstance(row, ExplainedPair)]
        rejected = [row for row in rows if isinstance(row, RejectedPair)]
        return ShardResult(kept, rejected, sum(one.num_tokens for answer in answers for many in answer for one in many))

    def _beliefs(self, asked: Asked, answers: Sequence[list[list[Completion]]]) -> list[float]:
        """The LLM's P(relevant) for each pair, NOT_ASKED where there is none."""
        if self.asker is None:
            return [NOT_ASKED] * len(asked.prompts)
        replies = iter(answers[1])
        return [
            self.asker.probability(next(replies)[0]) if question is not None else NOT_ASKED
            for question in asked.questions
        ]

    def _row(self, pair: Pair, completions: Sequence[Completion], belief: float) -> ExplainedPair | RejectedPair:
        relevant = pair.label >= self.positive_grade
        ranked = sorted(completions, key=lambda one: one.mean_logprob, reverse=True)
        if not ranked:
            return RejectedPair(*pair, TOO_LONG, "")
        reasons = [self._reason(pair, relevant, completion) for completion in ranked]
        best = next((i for i, reason in enumerate(reasons) if reason is None), None)
        if best is None:
            return RejectedPair(*pair, str(reasons[0]), ranked[0].text)
        if belief != NOT_ASKED and abs(relevant - belief) > self.config.max_disagreement:
            return RejectedPair(*pair, INCONSISTENT, ranked[best].text)
        return _explained(pair, relevant, ranked[best], self.explainer, belief)

    def _reason(self, pair: Pair, relevant: bool, completion: Completion) -> str | None:
        prompts = self.prompter.style.texts
        answer = (completion.text, completion.finish_reason)
        return reason_to_reject(Candidate(pair.query, pair.passage, relevant, *answer, prompts), self.config.filters)


def _present(prompts: Sequence[Prompt | None]) -> list[Prompt]:
    return [prompt for prompt in prompts if prompt is not None]


def _explained(pair: Pair, relevant: bool, completion: Completion, explainer: str, belief: float) -> ExplainedPair:
    return ExplainedPair(
        *pair,
        relevant=int(relevant),
        explanation=completion.text,
        explainer=explainer,
        finish_reason=completion.finish_reason,
        num_tokens=completion.num_tokens,
        mean_logprob=completion.mean_logprob,
        llm_relevance=belief,
    )


def _with_opening(prompt: Prompt, completions: Sequence[Completion]) -> list[Completion]:
    """The answer as one line of text: the words it was given, then the LLM's own; "" if it added none."""
    texts = [" ".join(one.text.split()) for one in completions]
    whole = [f"{prompt.opening} {text}".strip() if text else "" for text in texts]
    return [one._replace(text=text) for one, text in zip(completions, whole, strict=True)]
