"""Runs and qrels in the formats of TREC and MS MARCO, read strictly and written exactly.

A score is written with `repr`, so that reading it back gives the same float; equal scores are broken by doc id
descending, as trec_eval does, so the rank column and every evaluation tool agree.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from ctypes import c_float
from pathlib import Path
from typing import NamedTuple

from exaranker.errors import InputError
from exaranker.files import blank_line_hint, numbers, open_output, read_lines

TREC_QRELS = ("query", "0", "doc", "relevance")
BEIR_QRELS = ("query-id", "corpus-id", "score")

MAX_GRADE = 1000  # evaluation tools keep a counter for every grade up to the highest: one of 3e9 takes all memory


class ScoredDoc(NamedTuple):
    """One line of a run: a passage that was found for a query, and its score."""

    query_id: str
    doc_id: str
    score: float


class RunRow(NamedTuple):
    """A row of a run as its file has it: line from 1, rank column, and what was retrieved."""

    line: int
    rank: str
    doc: ScoredDoc


class Qrel(NamedTuple):
    """One line of the qrels: how relevant a passage was judged for a query."""

    query_id: str
    doc_id: str
    relevance: int


def read_run(path: str | Path) -> Iterator[ScoredDoc]:
    """Yields the rows of a run, in file order: TREC's (`query Q0 doc rank score tag`), or MS MARCO's.

    Of `query doc rank` the score is minus the rank; of top1000's rows (query id, doc id, query, passage) it is minus
    the place in the file.

    Raises:
        InputError: wrong column count, a score that is not a finite number, or a doc listed twice for a query.
    """
    return (row.doc for row in read_run_rows(path))


def read_run_rows(path: str | Path) -> Iterator[RunRow]:
    """Yields what `read_run` does, with the line and the rank column of each."""
    seen: dict[str, set[str]] = {}
    for number, line in read_lines(path):
        query_id, doc_id, rank, score = _run_columns(line, path, number)
        docs = seen.setdefault(query_id, set())
        if doc_id in docs:
            raise InputError(f"doc {doc_id!r} comes twice for query {query_id!r}", path=path, line=number)
        docs.add(doc_id)
        yield RunRow(number, rank, ScoredDoc(sys.intern(query_id), doc_id, score))


def _run_columns(line: str, path: str | Path, number: int) -> tuple[str, str, str, float]:
    """(query id, doc id, rank as it is written, score) of a line."""
    columns = _columns(line)
    if line.count("\t") == 3 and columns[1:2] != ["Q0"]:
        query_id, doc_id, *_ = line.split("\t")
        return query_id, doc_id, str(number), -float(number)
    if len(columns) == 3:
        query_id, doc_id, rank = columns
        return query_id, doc_id, rank, -float(_integer(rank, "rank", path, number))
    if len(columns) != 6:
        raise InputError(
            f"expected 6 columns (query Q0 doc rank score tag), got {len(columns)}: {line[:60]!r}",
            path=path,
            line=number,
            hint=blank_line_hint(line),
        )
    query_id, _, doc_id, rank, score, _ = columns
    return query_id, doc_id, rank, _score(score, path, number)


def read_qrels(path: str | Path) -> Iterator[Qrel]:
    """Yields the rows of TREC qrels (`query 0 doc relevance`) or BEIR's (`query doc relevance` below a header).

    Raises:
        InputError: wrong column count, a relevance that is not an integer of a sensible size, a doc judged twice for a
            query, or only a header.
    """
    names: tuple[str, ...] = TREC_QRELS
    seen: set[tuple[str, str]] = set()
    for number, line in read_lines(path):
        columns = _columns(line)
        if number == 1 and columns[:2] == ["query-id", "corpus-id"]:
            names = BEIR_QRELS
            continue
        if len(columns) != len(names):
            raise InputError(
                f"expected {len(names)} columns ({' '.join(names)}), got {len(columns)}: {line[:60]!r}",
                path=path,
                line=number,
                hint=blank_line_hint(line),
            )
        query_id, doc_id, text = columns[0], columns[-2], columns[-1]
        if (query_id, doc_id) in seen:
            raise InputError(f"doc {doc_id!r} is judged twice for query {query_id!r}", path=path, line=number)
        seen.add((query_id, doc_id))
        relevance = _integer(text, "relevance", path, number)
        if abs(relevance) > MAX_GRADE:
            problem = f"relevance {text} is no grade, expected {-MAX_GRADE} to {MAX_GRADE}"
            raise InputError(problem, path=path, line=number, hint=f"are the columns {' '.join(names)}?")
        yield Qrel(query_id, doc_id, relevance)
    if not seen:
        raise InputError("no judgement below the header", path=path)


def write_run(path: str | Path, rows: Iterable[ScoredDoc], tag: str) -> None:
    """Writes a TREC run, queries in first-seen order, docs by score descending then doc id descending."""
    with open_output(path) as stream:
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
    """Sorts one query's docs as trec_eval does: by score in single precision, then by doc id, both descending.

    >>> [d.doc_id for d in ranked([ScoredDoc("q", "a", 1.0), ScoredDoc("q", "b", 1.0), ScoredDoc("q", "c", 2.0)])]
    ['c', 'b', 'a']
    """
    return sorted(docs, key=lambda doc: (c_float(doc.score).value, doc.doc_id), reverse=True)


def _columns(line: str) -> list[str]:
    """Separated by ASCII blanks, as trec_eval reads them; other scripts' blanks are parts of ids."""
    return re.findall(r"[^ \t\r\f\v]+", line)


def _score(text: str, path: str | Path, line: int) -> float:
    """A finite number in ASCII: neither `1_0` nor digits of another script."""
    if (value := numbers.number(text)) is not None:
        return value
    finite = "a finite number" if text.lstrip("+-").lower() in ("inf", "infinity", "nan") else "a number"
    raise InputError(f"score {text!r} is not {finite}", path=path, line=line)


def _integer(text: str, name: str, path: str | Path, line: int) -> int:
    if (value := numbers.integer(text)) is not None:
        return value
    raise InputError(f"{name} {text!r} is not an integer", path=path, line=line)
