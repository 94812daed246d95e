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
BLANK_WITHIN = 40  # characters before a window's edge in which a blank is looked for, so that no word is cut


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
    """Windows of at most `length` tokens, every `stride` tokens, over the whole text; they begin and end at blanks.

    >>> from exaranker.tokenization import load_tokenizer
    >>> [tuple(window) for window in windows(load_tokenizer("byt5"), "one two three", 8, 4)]
    [(0, 7), (4, 12), (8, 13)]
    """
    ends = tokenizer.token_ends(text)
    if len(ends) <= length:
        return [Window(0, len(text))]
    edges = [0, *ends[:-1], len(text)]
    starts = range(0, len(ends) - length + stride, stride)
    return [_between_words(text, edges[start], edges[min(start + length, len(ends))]) for start in starts]


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


def _between_words(text: str, start: int, end: int) -> Window:
    """A window whose edges are moved back to blanks, unless nothing would be left of it."""
    moved = Window(_at_a_blank(text, start), _at_a_blank(text, end))
    return moved if moved.start < moved.end else Window(start, end)


def _at_a_blank(text: str, offset: int) -> int:
    """The offset, or behind the blank before it if one is near."""
    if offset in (0, len(text)) or text[offset].isspace():
        return offset
    return text.rfind(" ", max(0, offset - BLANK_WITHIN), offset) + 1 or offset
