"""Documents that are longer than what a model reads at once: cut, or scored by windows of which the best counts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from exaranker.errors import InputError, nearest
from exaranker.rank.arguments import QueryPassage
from exaranker.tokenization import Tokenizer

LONG = ("truncate", "first_passage", "max_passage")


class Window(NamedTuple):
    """A part of a document, in characters."""

    start: int
    end: int


class BestWindow(NamedTuple):
    """A document's score, and the window that it is the score of."""

    score: float
    window: Window


@dataclass(frozen=True)
class LongDocuments:
    """How a document is scored: FirstP and MaxP of Dai and Callan (SIGIR 2019, arXiv 1905.09217), or cut by the model.

    The defaults are about their 150 words, every 75 words, in tokens.
    """

    how: str = LONG[0]
    length: int = 200  # tokens of a window
    stride: int = 100  # tokens from the start of one window to that of the next

    def __post_init__(self) -> None:
        if self.how not in LONG:
            raise InputError(f"long is {self.how!r}", hint=nearest(self.how, LONG))
        if not 1 <= self.stride <= self.length:
            problem = f"windows of {self.length} tokens every {self.stride}"
            raise InputError(problem, hint="expected --passage_stride from 1 to --passage_length")

    @property
    def has_windows(self) -> bool:
        """Whether documents are scored by their parts."""
        return self.how != LONG[0]

    def windows(self, tokenizer: Tokenizer, text: str) -> list[Window]:
        """The parts of a text that are scored: in order, the last one up to its end."""
        if not self.has_windows:
            return [Window(0, len(text))]
        found = windows(tokenizer, text, self.length, self.stride)
        return found if self.how == "max_passage" else found[:1]


def windows(tokenizer: Tokenizer, text: str, length: int, stride: int) -> list[Window]:
    """Windows of at most `length` tokens over the whole text, each at most `stride` tokens behind the one before.

    They begin and end between words where that is possible.

    >>> from exaranker.tokenization import load_tokenizer
    >>> [tuple(window) for window in windows(load_tokenizer("byt5"), "one two three", 8, 4)]
    [(0, 8), (4, 8), (8, 13)]
    """
    ends = tokenizer.token_ends(text)
    edges = [0, *ends[:-1], len(text)]
    found: list[Window] = []
    start = end = 0
    while not found or end < len(ends):
        start = _between_words(text, edges, start, start + stride) if found else 0
        end = min(start + length, len(ends))
        end = _between_words(text, edges, start, end) if end < len(ends) else end
        found.append(Window(edges[start], edges[end]))
    return found


def best_windows(
    pairs: Sequence[QueryPassage],
    cut: Sequence[Sequence[Window]],
    score: Callable[[Sequence[QueryPassage]], Float32[np.ndarray, " windows"]],
) -> list[BestWindow]:
    """Scores each pair by the best of its document's windows; of equal ones by the first."""
    parts = [(query, text[slice(*part)]) for (query, text), found in zip(pairs, cut, strict=True) for part in found]
    scores = np.split(score(parts), np.cumsum([len(found) for found in cut])[:-1])
    best = [int(np.argmax(of_one)) for of_one in scores]  # a score that is no number wins, and is seen
    return [BestWindow(float(of_one[at]), found[at]) for of_one, found, at in zip(scores, cut, best, strict=True)]


def _between_words(text: str, edges: Sequence[int], first: int, last: int) -> int:
    """The last token after `first` and up to `last` whose edge is a blank's; `last` if there is none."""
    return next((place for place in range(last, first, -1) if _is_blank(text, edges[place])), last)


def _is_blank(text: str, edge: int) -> bool:
    return text[edge - 1].isspace() or text[edge : edge + 1].isspace()
