"""What is scored together, and what one process of several does: never a part of a query's list.

A score's last bits depend on the pairs that share its batches. So a job is cut into units of whole queries, and a shard
has whole units: its bytes are those that the undivided job would write for the same queries.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeVar

from exaranker.errors import InputError
from exaranker.trec import ScoredDoc, by_query

Item = TypeVar("Item")
Docs = list[ScoredDoc]


@dataclass(frozen=True)
class JobShard:
    """One of `count` processes that share a job."""

    index: int = 0  # from 0
    count: int = 1

    @property
    def suffix(self) -> str:
        """Of the names of its outputs.

        >>> JobShard(1, 4).suffix, JobShard().suffix
        ('.shard-00001-of-00004', '')
        """
        return f".shard-{self.index:05}-of-{self.count:05}" if self.count > 1 else ""


def scoring_windows(candidates: Iterable[ScoredDoc], size: int) -> list[Docs]:
    """The pairs that are scored at once: of whole queries, `size` to twice as many where there are enough."""
    return [window for unit in _units(candidates, size) for window in even_parts(_flat(unit), size)]


def explanation_windows(best: Iterable[ScoredDoc], candidates: Iterable[ScoredDoc], sizes: "Sizes") -> list[Docs]:
    """The pairs that are explained at once, among the `best` of each query."""
    chosen = by_query(best)
    parts = _parts(candidates, sizes)
    return [window for part in parts for window in even_parts(_flat(_best_of(part, chosen)), sizes.explained)]


class Sizes(NamedTuple):
    """Pairs that are scored at once, that are explained at once, and that are explained of each query."""

    scored: int
    explained: int
    top_k: int


def of_shard(candidates: Sequence[ScoredDoc], shard: JobShard, sizes: Sizes) -> Docs:
    """The candidates of one shard, in their order.

    Raises:
        InputError: there are more shards than parts to share out.
    """
    if shard.count == 1:
        return list(candidates)
    parts = _parts(candidates, sizes)
    if shard.count > len(parts):
        problem = f"--num_shards {shard.count}, but this run has only {len(parts)} parts of whole queries"
        hint = f"a part has at least {sizes.scored} passages" + f" and {sizes.explained} to explain" * (sizes.top_k > 0)
        raise InputError(problem, hint=hint)
    first, last = (number * len(parts) // shard.count for number in (shard.index, shard.index + 1))
    return _flat(query for part in parts[first:last] for query in part)


def even_parts(items: Sequence[Item], size: int) -> list[list[Item]]:
    """Cuts a list into as many parts of at least `size` as it has, none longer than another by more than one.

    >>> even_parts("abcdefgh", 3), even_parts("ab", 3)
    ([['a', 'b', 'c', 'd'], ['e', 'f', 'g', 'h']], [['a', 'b']])
    """
    count = max(1, len(items) // size)
    ends = [number * len(items) // count for number in range(count + 1)]
    return [list(items[start:end]) for start, end in pairwise(ends) if start < end]


def _parts(candidates: Iterable[ScoredDoc], sizes: Sizes) -> list[list[Docs]]:
    """The least that a process does: units of scoring, as many as make a batch of explanations."""
    units = _units(candidates, sizes.scored)
    if sizes.top_k == 0:
        return units
    groups = _grouped(units, lambda unit: sum(min(len(docs), sizes.top_k) for docs in unit), sizes.explained)
    return [[docs for unit in group for docs in unit] for group in groups]


def _units(candidates: Iterable[ScoredDoc], size: int) -> list[list[Docs]]:
    """Consecutive whole queries, at least `size` pairs in each unit but the last."""
    return _grouped(by_query(candidates).values(), len, size)


def _grouped(items: Iterable[Item], size_of: Callable[[Item], int], least: int) -> list[list[Item]]:
    """Groups of consecutive items; each but the last just reaches `least`."""
    groups: list[list[Item]] = []
    total = least
    for item in items:
        if total >= least:
            groups.append([])
            total = 0
        groups[-1].append(item)
        total += size_of(item)
    return groups


def _best_of(part: Iterable[Docs], chosen: dict[str, Docs]) -> Iterable[Docs]:
    return (chosen[docs[0].query_id] for docs in part)


def _flat(queries: Iterable[Docs]) -> Docs:
    return [doc for docs in queries for doc in docs]
