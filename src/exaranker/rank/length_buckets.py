"""Few static shapes for texts of any length, so that nothing recompiles once each shape has been seen.

Texts are sorted by length and cut into batches of about `token_budget` tokens, padding included: a batch of short
texts has many rows, a batch of long ones few, and every batch costs about the same.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

# Steps of 32 waste about 16 tokens a text (15 % of MS MARCO's mean of 110); finer ones cost more compiling than they
# save. Above 256, where few passages are, steps of 64.
LENGTHS = (*range(32, 257, 32), *range(320, 513, 64))
PAD = 0


class PaddedTexts(NamedTuple):
    """Texts of one static shape. Rows beyond `len(indices)` repeat the first: their results are thrown away."""

    indices: list[int]  # which text each row is
    tokens: Int32[np.ndarray, "rows length"]  # right-padded with 0


def static_length(length: int, max_length: int) -> int:
    """The shortest static length that holds `length` tokens.

    >>> [static_length(length, max_length=512) for length in (1, 33, 512)], static_length(700, max_length=2000)
    ([32, 64, 512], 1024)
    """
    fitting = [size for size in LENGTHS if size >= length] or [1 << (length - 1).bit_length()]
    return min(fitting[0], max_length)


def rows_in(length: int, token_budget: int, multiple_of: int = 1) -> int:
    """How many texts of a static length make a batch: a multiple of the number of devices, at least one each.

    >>> rows_in(96, token_budget=1024), rows_in(512, token_budget=256, multiple_of=8)
    (10, 8)
    """
    return max(1, token_budget // (length * multiple_of)) * multiple_of


def length_batches(
    texts: Sequence[Sequence[int]], *, max_length: int, token_budget: int, multiple_of: int = 1
) -> Iterator[PaddedTexts]:
    """Cuts token sequences into batches, longest first (so that running out of memory happens at once).

    The batches depend on nothing but the arguments: the same texts always meet the same neighbours.
    """
    order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
    start = 0
    while start < len(order):
        length = static_length(len(texts[order[start]]), max_length)
        rows = rows_in(length, token_budget, multiple_of)
        yield pad_batch(texts, order[start : start + rows], (rows, length))
        start += rows


def pad_batch(texts: Sequence[Sequence[int]], indices: list[int], shape: tuple[int, int]) -> PaddedTexts:
    """Stacks the chosen texts into an array of a static shape."""
    tokens = np.full(shape, PAD, np.int32)
    for row in range(shape[0]):
        text = texts[indices[row] if row < len(indices) else indices[0]]
        tokens[row, : len(text)] = text
    return PaddedTexts(indices, tokens)
