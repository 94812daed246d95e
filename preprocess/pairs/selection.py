"""Which of the pairs read are explained: duplicates dropped, then the first N, or as many of each side."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from exaranker.errors import InputError
from exaranker.preprocess.pairs.explained import GivenPair
from exaranker.preprocess.pairs.mojibake import is_mojibake
from exaranker.schema import Pair

Row = TypeVar("Row")
PairRow = TypeVar("PairRow", Pair, GivenPair)


@dataclass(frozen=True)
class Quota:
    """How many pairs are taken: the first `total` (None: all), or `per_side` of the `sides` (irrelevant, relevant)."""

    total: int | None
    per_side: int | None = None
    sides: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Selection(Generic[PairRow]):
    """The pairs to explain, as a stream that can be read again, with what is known of it from a first reading."""

    reader: Callable[[], Iterator[PairRow]]
    positive_grade: int
    quota: Quota
    num_pairs: int
    digest: str  # sha256 of the selected pairs, in order
    counts: dict[str, Any]

    def pairs(self) -> Iterator[PairRow]:
        """Yields the selected pairs, reading the input again.

        Raises:
            InputError: the input is no longer what it was; before the last pair, so that no dataset gets whole.
        """
        taken = _take(unique(self.reader(), Counter()), self.positive_grade, self.quota)
        digest = hashlib.sha256()
        for pair in islice(taken, self.num_pairs - 1):
            digest.update(_line(pair))
            yield pair
        last = next(taken, None)
        digest.update(b"" if last is None else _line(last))
        if last is None or digest.hexdigest() != self.digest:
            raise InputError("the input changed while it was read", hint="explain it into another --output_dir")
        yield last


def select(
    reader: Callable[[], Iterator[PairRow]], positive_grade: int, limit: int | None = None, balance: bool = False
) -> Selection[PairRow]:
    """Reads the input twice: once to check and count every row, once to digest the rows selected.

    Raises:
        InputError: the reader's, nothing is left to explain, or `limit` is below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit is {limit}, expected at least 1")
    dropped: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    mojibake = 0
    for pair in unique(reader(), dropped):
        labels[str(pair.label)] += 1
        mojibake += is_mojibake(pair.query) or is_mojibake(pair.passage)
    quota = _quota(labels, positive_grade, limit, balance)
    digest, chosen = hashlib.sha256(), Counter[str]()
    for pair in _take(unique(reader(), Counter()), positive_grade, quota):
        digest.update(_line(pair))
        chosen[str(pair.label)] += 1
    if not chosen:
        raise InputError(_nothing_left(labels, positive_grade))
    counts = {
        "read": sum(labels.values()) + dropped["duplicate"] + dropped["blank"],
        "unique_by_label": dict(labels),
        "by_label": dict(chosen),
        **{name: dropped[name] for name in ("duplicate", "conflicting_label", "repeated_ids", "blank")},
        "mojibake": mojibake,
    }
    return Selection(reader, positive_grade, quota, sum(chosen.values()), digest.hexdigest(), counts)


def unique(pairs: Iterable[PairRow], dropped: Counter[str]) -> Iterator[PairRow]:
    """Yields pairs without those whose texts came before or are blank, counting both in `dropped`.

    A text pair that comes again with another label also counts as `conflicting_label`; ids that come again with
    other texts only count as `repeated_ids`: both pairs are kept, since ids of mixed collections may collide.
    Holds 8-byte digests, not texts: some 200 MB for a million pairs.
    """
    labels: dict[int, int] = {}
    ids: set[int] = set()
    for pair in pairs:
        if pair.is_blank:
            dropped["blank"] += 1
            continue
        key = _digest(pair.query, pair.passage)
        if key in labels:
            dropped["duplicate"] += 1
            dropped["conflicting_label"] += labels[key] != pair.label
            continue
        labels[key] = pair.label
        id_key = _digest(pair.query_id, pair.doc_id)
        dropped["repeated_ids"] += id_key in ids
        ids.add(id_key)
        yield pair


def chunks(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Lists of `size` rows, in order; the last may be shorter."""
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch


def _line(pair: Pair | GivenPair) -> bytes:
    return json.dumps(pair, ensure_ascii=False).encode() + b"\n"


def _nothing_left(labels: dict[str, int], positive_grade: int) -> str:
    if not labels:
        return "no pairs to explain are left after duplicates and blanks are dropped"
    counts = ", ".join(f"label {label}: {count}" for label, count in sorted(labels.items()))
    return f"--balance finds pairs on one side of grade {positive_grade} only ({counts})"


def _quota(labels: dict[str, int], positive_grade: int, limit: int | None, balance: bool) -> Quota:
    if not balance:
        return Quota(limit)
    positives = sum(count for label, count in labels.items() if int(label) >= positive_grade)
    sides = (sum(labels.values()) - positives, positives)
    per_side = min(sides)
    return Quota(None, per_side if limit is None else min(per_side, max(1, limit // 2)), sides)


def _take(pairs: Iterable[PairRow], positive_grade: int, quota: Quota) -> Iterator[PairRow]:
    if quota.per_side is None:
        yield from islice(pairs, quota.total)
        return
    seen = [0, 0]
    for pair in pairs:
        side = int(pair.label >= positive_grade)
        if is_taken(seen[side], quota.per_side, quota.sides[side]):
            yield pair
        seen[side] += 1


def is_taken(index: int, taken: int, total: int) -> bool:
    """Whether item `index` is one of `taken` items spread evenly over `total`: files are often ordered by query.

    >>> [index for index in range(10) if is_taken(index, 4, 10)]
    [2, 4, 7, 9]
    """
    return (index + 1) * taken // total > index * taken // total


def _digest(first: str, second: str) -> int:
    """64 bits of both texts: among a million pairs, a chance of 3e-8 that two differ and share it."""
    data = f"{first}\x00{second}".encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
