"""Queries, passages, runs and qrels in the formats of TREC and MS MARCO, read strictly and written exactly.

A score is written with `repr`, so that reading it back gives the same float; equal scores are broken by doc id
descending, as trec_eval does, so the rank column and every evaluation tool agree.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from exaranker.errors import InputError
from exaranker.files import atomic_path, read_lines

Number = TypeVar("Number", int, float)


class ScoredDoc(NamedTuple):
    query_id: str
    doc_id: str
    score: float


class Qrel(NamedTuple):
    query_id: str
    doc_id: str
    relevance: int


def read_tsv_texts(path: str | Path) -> Iterator[tuple[str, str]]:
    """Yields (id, text) from a two-column TSV.

    Raises:
        InputError: a line has another number of columns or an empty id, or an id comes twice.
    """
    seen: dict[str, int] = {}
    for number, line in read_lines(path):
        columns = line.split("\t")
        if len(columns) != 2 or not columns[0]:
            raise InputError(
                f"expected 2 tab-separated columns (id, text), got {len(columns)}: {line[:60]!r}",
                path=path,
                line=number,
            )
        identifier, text = columns
        if identifier in seen:
            raise InputError(f"id {identifier!r} was already on line {seen[identifier]}", path=path, line=number)
        seen[identifier] = number
        yield identifier, text


def read_texts(path: str | Path) -> dict[str, str]:
    """Reads a two-column TSV of ids and texts into a dict, in file order."""
    return dict(read_tsv_texts(path))


def read_run(path: str | Path) -> Iterator[ScoredDoc]:
    """Yields the rows of a TREC run (`query Q0 doc rank score tag`), in file order.

    Raises:
        InputError: wrong column count, a score that is not a finite number, or a doc listed twice for a query.
    """
    seen: set[tuple[str, str]] = set()
    for number, line in read_lines(path):
        columns = line.split()
        if len(columns) != 6:
            raise InputError(
                f"expected 6 columns (query Q0 doc rank score tag), got {len(columns)}: {line[:60]!r}",
                path=path,
                line=number,
            )
        query_id, _, doc_id, _, text, _ = columns
        score = _number(text, float, "score", path, number)
        if not math.isfinite(score):
            raise InputError(f"score {text!r} is not a finite number", path=path, line=number)
        if (query_id, doc_id) in seen:
            raise InputError(f"doc {doc_id!r} comes twice for query {query_id!r}", path=path, line=number)
        seen.add((query_id, doc_id))
        yield ScoredDoc(query_id, doc_id, score)


def read_qrels(path: str | Path) -> Iterator[Qrel]:
    """Yields the rows of TREC qrels (`query 0 doc relevance`).

    Raises:
        InputError: wrong column count or a relevance that is not an integer.
    """
    for number, line in read_lines(path):
        columns = line.split()
        if len(columns) != 4:
            raise InputError(
                f"expected 4 columns (query 0 doc relevance), got {len(columns)}: {line[:60]!r}",
                path=path,
                line=number,
            )
        query_id, _, doc_id, text = columns
        yield Qrel(query_id, doc_id, _number(text, int, "relevance", path, number))


def write_run(path: str | Path, rows: Iterable[ScoredDoc], tag: str) -> None:
    """Writes a TREC run, queries in first-seen order, docs by score descending then doc id descending."""
    with atomic_path(path) as aside, aside.open("w", encoding="utf-8") as stream:
        for query_id, docs in by_query(rows).items():
            for rank, doc in enumerate(ranked(docs), start=1):
                stream.write(f"{query_id} Q0 {doc.doc_id} {rank} {doc.score!r} {tag}\n")


def by_query(rows: Iterable[ScoredDoc]) -> dict[str, list[ScoredDoc]]:
    """Groups rows by query, both in first-seen order."""
    groups: dict[str, list[ScoredDoc]] = {}
    for row in rows:
        groups.setdefault(row.query_id, []).append(row)
    return groups


def ranked(docs: Iterable[ScoredDoc]) -> list[ScoredDoc]:
    """Sorts one query's docs as trec_eval does: by score, then by doc id, both descending.

    >>> [d.doc_id for d in ranked([ScoredDoc("q", "a", 1.0), ScoredDoc("q", "b", 1.0), ScoredDoc("q", "c", 2.0)])]
    ['c', 'b', 'a']
    """
    return sorted(docs, key=lambda doc: (doc.score, doc.doc_id), reverse=True)


def _number(text: str, kind: Callable[[str], Number], name: str, path: str | Path, line: int) -> Number:
    try:
        return kind(text)
    except ValueError as error:
        what = "an integer" if kind is int else "a number"
        raise InputError(f"{name} {text!r} is not {what}", path=path, line=line) from error
