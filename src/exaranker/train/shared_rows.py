"""The pairs of a batch in fewer rows than pairs: as many in each, whatever their lengths.

Unpacked, a batch has as many pairs as it says, and every row is as long as its longest: of MS MARCO's pairs two fifths
is padding. Packed, it has as many pairs as happen to fit. Here a step keeps its pairs, and has less padding.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int, Num

Arrays = Mapping[str, Num[np.ndarray, "pairs length"]]
Lengths = Mapping[str, Int[np.ndarray, " pairs"]]  # tokens of each pair, by side: "encoder", "decoder"


def share_rows(lengths: Int[np.ndarray, " pairs"], pairs_per_row: int) -> list[list[int]]:
    """Which pairs are in each row: the longest first, each into the row that has the fewest tokens, if it has room.

    >>> share_rows(np.array([9, 2, 5, 6]), pairs_per_row=2)
    [[0, 1], [3, 2]]
    """
    rows: list[list[int]] = [[] for _ in range(len(lengths) // pairs_per_row)]
    for pair in np.argsort(-lengths, kind="stable").tolist():
        room = [row for row in rows if len(row) < pairs_per_row]
        min(room, key=lambda row: lengths[row].sum()).append(pair)
    return rows


def in_rows(arrays: Arrays, rows: Sequence[Sequence[int]], lengths: Lengths) -> dict[str, np.ndarray]:
    """The same features in these rows, each as long as all its pairs could be, with segments as SeqIO packs them.

    >>> both = in_rows({"decoder_input_tokens": np.array([[7, 8], [9, 0]])}, [[0, 1]], {"decoder": np.array([2, 1])})
    >>> {name: array.tolist() for name, array in both.items()}["decoder_positions"]
    [[0, 1, 0, 0]]
    """
    packed = {name: _joined(array, rows, lengths[_side(name)]) for name, array in arrays.items()}
    for side, each in lengths.items():
        length = next(array.shape[1] for name, array in arrays.items() if _side(name) == side)
        columns = np.broadcast_to(np.arange(length, dtype=np.int32), (len(each), length))
        numbers = np.zeros_like(columns)
        for row in rows:
            numbers[row] = np.arange(1, len(row) + 1)[:, None]
        packed[f"{side}_segment_ids"] = _joined(numbers, rows, each)
        packed[f"{side}_positions"] = _joined(columns, rows, each)
    return packed


def used_lengths(array: Int[np.ndarray, "pairs length"]) -> Int[np.ndarray, " pairs"]:
    """Columns up to the last that is not 0.

    >>> used_lengths(np.array([[5, 0, 7, 0], [0, 0, 0, 0]])).tolist()
    [3, 0]
    """
    return np.max(np.where(array != 0, np.arange(1, array.shape[1] + 1), 0), axis=1)


def _side(name: str) -> str:
    return "encoder" if name.startswith("encoder") else "decoder"


def _joined(
    array: Num[np.ndarray, "pairs length"], rows: Sequence[Sequence[int]], lengths: Int[np.ndarray, " pairs"]
) -> Num[np.ndarray, "rows total"]:
    joined = np.zeros((len(rows), len(array) // len(rows) * array.shape[1]), array.dtype)
    for line, row in zip(joined, rows, strict=True):
        texts = np.concatenate([array[pair, : lengths[pair]] for pair in row])
        line[: len(texts)] = texts
    return joined
