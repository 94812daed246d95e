"""Why a passage has its score: the explanations under both labels, and what each sentence adds to the log-odds.

The label is decoded before the explanation, so the explanation cannot have caused the score. The sentences' shares are
measured: a passage is scored again without each of its sentences (occlusion; Zeiler and Fergus, arXiv 1311.2901), and
a reader can hold the explanation against them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exaranker.rank.loaded_model import probability
from exaranker.rank.sentences import Sentence, keep_sentences, sentences

if TYPE_CHECKING:
    from exaranker.rank.reranker import Reranker


@dataclass(frozen=True)
class SentenceContribution:
    """A sentence, `passage[start:stop]`, and by how much the log-odds fall when it is taken out of the passage."""

    start: int
    stop: int
    text: str
    contribution: float  # above 0 it speaks for relevance, below 0 against it


@dataclass(frozen=True)
class Why:
    """The answer to why a passage has its score.

    A passage is only explained as far as it is read; what each sentence adds need not sum up to the score.
    """

    label: str  # that the score implies ("true")
    score: float  # log-odds of relevance
    explanation: str
    other_label: str
    other_explanation: str  # what the model says when it is made to begin with the other label
    sentences: tuple[SentenceContribution, ...]
    characters_read: int  # of the passage; the rest did not fit into the input

    @property
    def probability(self) -> float:
        """Of relevance, against irrelevance: the sigmoid of the score."""
        return probability(self.score)


def explain_why(reranker: "Reranker", query: str, passage: str, max_new_tokens: int) -> Why:
    """What `Reranker.why` gives; all texts are scored in one call."""
    read = reranker.cut(query, passage)
    found = sentences(read)
    score, *without = reranker.score_window([(query, text) for text in [read, *occluded(read, found)]]).tolist()
    false, true = reranker.explain([(query, passage)] * 2, scores=[-1.0, 1.0], max_new_tokens=max_new_tokens)
    given, other = (true, false) if score > 0 else (false, true)
    return Why(
        label=given.label,
        score=score,
        explanation=given.explanation,
        other_label=other.label,
        other_explanation=other.explanation,
        sentences=tuple(
            SentenceContribution(start, stop, read[start:stop], score - rest)
            for (start, stop), rest in zip(found, without, strict=True)
        ),
        characters_read=len(read),
    )


def occluded(passage: str, found: Sequence[Sentence]) -> list[str]:
    """The passage without each of its sentences in turn.

    >>> text = "Cats purr. Dogs bark."
    >>> occluded(text, sentences(text))
    ['Dogs bark.', 'Cats purr.']
    """
    everything = set(range(len(found)))
    return [keep_sentences(passage, found, everything - {index}) for index in range(len(found))]
