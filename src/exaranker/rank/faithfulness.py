"""Do explanations name the sentences that the scores rest on? ERASER's measures (arXiv 1911.03429), in log-odds.

An explanation points to the sentences with which it shares most stems. Comprehensiveness is what the label's log-odds
lose without them, sufficiency what they lose when nothing else is left, agreement the rank correlation with what each
sentence contributes by itself (occlusion). Other ways to choose as many sentences are the controls.
"""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from exaranker.rank.arguments import QueryPassage
from exaranker.rank.bm25 import Bm25Index, Bm25Params, analyze
from exaranker.rank.reranker import Reranker
from exaranker.rank.sentences import Sentence, keep_sentences, sentences

PART = 3  # a third of a passage's sentences is chosen, at least one: MS MARCO's passages have three or four
DRAWS = 5  # random choices whose mean is one control; all of them where they are no more than the sentences
ONE_SENTENCE = "the passage has one sentence"
NO_OVERLAP = "the explanation shares no word with the passage"

ScoreOf = dict[QueryPassage, float]
Choice = tuple[int, ...]  # numbers of sentences


class ExplainedPassage(NamedTuple):
    """A passage of a run with its explanation, and the explanations that are controls, where there are any."""

    query: str
    passage: str
    relevant: bool  # the label that was explained
    explanation: str
    other_passage: str | None  # explanation of another passage of the same query
    other_query: str | None  # explanation of a passage of another query


def measure(reranker: Reranker, rows: Sequence[ExplainedPassage]) -> list[dict[str, Any]]:
    """The figures of each row, or under `left_out` why it has none; JSON, as a finished chunk is kept."""
    cases = [_Case.of(row, reranker.cut(row.query, row.passage)) for row in rows]
    used = [case for case in cases if not case.left_out]
    scores: ScoreOf = {}
    _score(reranker, scores, (text for case in used for text in case.occluded()))
    _score(reranker, scores, (text for case in used for text in case.contrasted(scores)))
    return [{"left_out": case.left_out} if case.left_out else case.figures(scores) for case in cases]


def overlap(explanation: str, texts: Iterable[str]) -> list[float]:
    """How many different stems of the explanation each text has; stop words are none.

    >>> overlap("It says that bees made the honey.", ["Bees make honey.", "A bee flies.", "Rain fell."])
    [2.0, 1.0, 0.0]
    """
    stems = set(analyze(explanation))
    return [float(len(stems & set(analyze(text)))) for text in texts]


@dataclass(frozen=True)
class _Case:
    """A row with its passage as far as it is read, in sentences."""

    row: ExplainedPassage
    read: str
    found: list[Sentence]

    @classmethod
    def of(cls, row: ExplainedPassage, read: str) -> "_Case":
        return cls(row, read, sentences(read))

    @property
    def left_out(self) -> str:
        if len(self.found) < 2:
            return ONE_SENTENCE
        return "" if any(self.weights["explanation"]) else NO_OVERLAP

    @cached_property
    def weights(self) -> dict[str, list[float]]:
        """How much each way of choosing wants each sentence."""
        texts = [self.read[start:stop] for start, stop in self.found]
        row = self.row
        told = {"explanation": row.explanation, "other_passage": row.other_passage, "other_query": row.other_query}
        weights = {name: overlap(text, texts) for name, text in told.items() if text is not None}
        weights["lead"] = [-float(index) for index in range(len(texts))]
        if any(weights["explanation"]):
            weights["bm25"] = _bm25(row.query, texts)
        return weights

    @property
    def size(self) -> int:
        return max(1, len(self.found) // PART)

    def occluded(self) -> list[QueryPassage]:
        """The whole passage, and it without each sentence."""
        return [self._without(()), *(self._without((index,)) for index in range(len(self.found)))]

    def contrasted(self, scores: ScoreOf) -> list[QueryPassage]:
        """The passage without each choice, and each choice alone."""
        chosen = [choice for group in self._choices(scores).values() for choice in group]
        return [text for choice in chosen for text in (self._without(choice), self._only(choice))]

    def figures(self, scores: ScoreOf) -> dict[str, Any]:
        choices = self._choices(scores)
        contributions = self._contributions(scores)
        return {
            "score": scores[self._without(())],
            "sentences": len(self.found),
            "chosen": self.size,
            "comprehensiveness": {
                name: _mean(self._lost(scores, self._without(choice)) for choice in group)
                for name, group in choices.items()
            },
            "sufficiency": {
                name: _mean(self._lost(scores, self._only(choice)) for choice in group)
                for name, group in choices.items()
            },
            "agreement": {name: _correlation(weight, contributions) for name, weight in self.weights.items()},
        }

    def _choices(self, scores: ScoreOf) -> dict[str, list[Choice]]:
        """The sentences that each way chooses; the random one has several, of which the mean counts."""
        rng = random.Random(f"{self.row.query}\n{self.read}")  # the same in every process
        order = rng.sample(range(len(self.found)), len(self.found))  # which of equal sentences comes first
        weights = self.weights | {"occlusion": self._contributions(scores)}
        chosen = {
            name: [tuple(sorted(sorted(order, key=lambda index: -weight[index])[: self.size]))]
            for name, weight in weights.items()
        }
        return chosen | {"random": self._random(rng)}

    def _random(self, rng: random.Random) -> list[Choice]:
        count = len(self.found)
        if math.comb(count, self.size) <= max(DRAWS, count):
            return list(combinations(range(count), self.size))
        return [tuple(sorted(rng.sample(range(count), self.size))) for _ in range(DRAWS)]

    def _contributions(self, scores: ScoreOf) -> list[float]:
        return [self._lost(scores, self._without((index,))) for index in range(len(self.found))]

    def _lost(self, scores: ScoreOf, text: QueryPassage) -> float:
        """By how much the log-odds of the label that was explained are lower for another text."""
        loss = scores[self._without(())] - scores[text]
        return loss if self.row.relevant else -loss

    def _without(self, choice: Choice) -> QueryPassage:
        kept = set(range(len(self.found))) - set(choice)
        return self.row.query, keep_sentences(self.read, self.found, kept)

    def _only(self, choice: Choice) -> QueryPassage:
        return self.row.query, keep_sentences(self.read, self.found, choice)


def _score(reranker: Reranker, scores: ScoreOf, texts: Iterable[QueryPassage]) -> None:
    """Adds the scores that are not there yet, in one call."""
    wanted = [text for text in dict.fromkeys(texts) if text not in scores]
    if wanted:
        scores.update(zip(wanted, reranker.score_window(wanted).tolist(), strict=True))


def _bm25(query: str, texts: Sequence[str]) -> list[float]:
    """Scores of the sentences as a collection of their own."""
    index = Bm25Index.build(((str(number), text) for number, text in enumerate(texts)), Bm25Params())
    found = {doc.doc_id: doc.score for doc in index.search("", query, len(texts))}
    return [found.get(str(number), 0.0) for number in range(len(texts))]


def _correlation(weights: Sequence[float], contributions: Sequence[float]) -> float | None:
    """Spearman's; 0 if the weights say nothing of an order, None if there is no order to agree with."""
    if np.ptp(contributions) == 0:
        return None
    if np.ptp(weights) == 0:
        return 0.0
    return float(stats.spearmanr(weights, contributions).statistic)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
