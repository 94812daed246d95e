"""Few static shapes for texts of any length, so that nothing recompiles once each shape has been seen.

A batch has rows of one static length, for attention, and room for `token_budget` tokens, for all else: padding is
computed by attention alone (`models/ragged.py`). A batch of short texts has many rows, a batch of long ones few, and
every batch costs about the same.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from exaranker.models.ragged import RaggedShape

# Finer steps would save little, as only attention computes padding, and cost more compiling. Above 256, where few
# passages are, steps of 64.
LENGTHS = (*range(32, 257, 32), *range(320, 513, 64))
PAD = 0


class BatchShape(NamedTuple):
    """Static: rows of each device, their length, and room for how many tokens, without padding, of a device's rows."""

    devices: int
    rows: int
    length: int
    tokens: int

    @property
    def ragged(self) -> RaggedShape:
        """What a model needs to know beside its padded rows."""
        return RaggedShape(self.devices, self.tokens)


class TextBatch(NamedTuple):
    """Texts of one static shape. What is computed of the rows of no text is thrown away."""

    indices: list[int]  # of the texts
    rows: list[int]  # of `tokens`, in which these texts are
    tokens: Int32[np.ndarray, "rows length"]  # right-padded with 0
    shape: BatchShape


def static_length(length: int, max_length: int) -> int:
    """The shortest static length that holds `length` tokens.

    >>> [static_length(length, max_length=512) for length in (1, 33, 512)], static_length(700, max_length=2000)
    ([32, 64, 512], 1024)
    """
    fitting = [size for size in LENGTHS if size >= length] or [1 << (length - 1).bit_length()]
    return min(fitting[0], max_length)


def batch_shape(length: int, token_budget: int, devices: int = 1) -> BatchShape:
    """How many texts of a static length make a batch: as many as fit into a device's part of the budget, at least one.

    There are rows for the shortest texts of that length, and one more than for middling ones, so that a shorter text
    can fill a batch up; but padded rows are at most twice the budget.

    >>> [batch_shape(length, token_budget=1024).rows for length in (32, 128, 512, 1024)]
    [64, 10, 3, 1]
    """
    tokens = token_budget // devices
    if length >= tokens:
        return BatchShape(devices, 1, length, length)
    shortest = max((size for size in LENGTHS if size < length), default=0) + 1
    rows = max(tokens // shortest, 2 * tokens // (shortest + length) + 1)
    return BatchShape(devices, min(rows, 2 * tokens // length), length, tokens)


def length_batches(
    texts: Sequence[Sequence[int]], *, max_length: int, token_budget: int, devices: int = 1
) -> Iterator[TextBatch]:
    """Cuts token sequences into batches, longest first (so that running out of memory happens at once).

    The batches depend on nothing but the arguments: the same texts always meet the same neighbours.
    """
    left = sorted(range(len(texts)), key=lambda index: (len(texts[index]), -index))
    while left:
        shape = batch_shape(static_length(len(texts[left[-1]]), max_length), token_budget, devices)
        groups = [_take_longest(texts, left, shape) for _ in range(devices)]
        indices = [index for group in groups for index in group]
        yield text_batch(texts, indices, [len(group) for group in groups], shape)


def _take_longest(texts: Sequence[Sequence[int]], left: list[int], shape: BatchShape) -> list[int]:
    """Takes the longest text that still fits, again and again; `left` is sorted by length."""
    taken: list[int] = []
    room = shape.tokens
    while len(taken) < shape.rows and (place := bisect_right(left, room, key=lambda index: len(texts[index]))):
        taken.append(left.pop(place - 1))
        room -= len(texts[taken[-1]])
    return taken


def text_batch(
    texts: Sequence[Sequence[int]], indices: list[int], sizes: Sequence[int], shape: BatchShape
) -> TextBatch:
    """Gives each device the next so many of the chosen texts, one after the other; its rows of no text are behind."""
    tokens = np.full((shape.devices * shape.rows, shape.length), PAD, np.int32)
    rows = [device * shape.rows + row for device, size in enumerate(sizes) for row in range(size)]
    for row, index in zip(rows, indices, strict=True):
        tokens[row, : len(texts[index])] = texts[index]
    return TextBatch(indices, rows, tokens, shape)


def pad_batch(
    texts: Sequence[Sequence[int]], indices: Sequence[int], shape: tuple[int, int]
) -> Int32[np.ndarray, "rows length"]:
    """Stacks the chosen texts into an array of a static shape; rows beyond them repeat the first."""
    tokens = np.full(shape, PAD, np.int32)
    for row in range(shape[0]):
        text = texts[indices[row] if row < len(indices) else indices[0]]
        tokens[row, : len(text)] = text
    return tokens
