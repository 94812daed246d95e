"""Queries, passages, runs and qrels in the formats of TREC and MS MARCO, read strictly and written exactly.

A score is written with `repr`, so that reading it back gives the same float; equal scores are broken by doc id
descending, as trec_eval does, so the rank column and every evaluation tool agree.
"""

import json
import math
import sys
from collections.abc import Callable, Container, Iterable, Iterator
from ctypes import c_float
from pathlib import Path
from typing import NamedTuple, TypeVar

from exaranker.errors import InputError
from exaranker.files import open_output, read_lines

Number = TypeVar("Number", int, float)

TREC_QRELS = ("query", "0", "doc", "relevance")
BEIR_QRELS = ("query-id", "corpus-id", "score")
MAX_GRADE = 1000  # evaluation tools keep a counter for every grade up to the highest: one of 3e9 takes all memory


class ScoredDoc(NamedTuple):
    """One line of a run: a passage that was found for a query, and its score."""

    query_id: str
    doc_id: str
    score: float


class Qrel(NamedTuple):
    """One line of the qrels: how relevant a passage was judged for a query."""

    query_id: str
    doc_id: str
    relevance: int


def read_text_rows(path: str | Path) -> Iterator[tuple[int, str, str]]:
    """Yields (line number, id, text) of queries or passages, streaming.

    `*.jsonl` (also gzipped) holds BEIR's `{"_id", "title", "text"}` or pyserini's `{"id", "contents"}`; anything else
    is a two-column TSV. A title is put before its text.

    Raises:
        InputError: a line is not of that form, or its id is empty or has a blank.
    """
    jsonl = ".jsonl" in Path(path).suffixes
    for number, line in read_lines(path):
        row = _json_text(line) if jsonl else tuple(line.split("\t"))
        if len(row) != 2 or not row[0]:
            form = '{"_id", "text"} or {"id", "contents"}' if jsonl else f"2 tab-separated columns, got {len(row)}"
            raise InputError(f"expected an id and a text as {form}: {line[:60]!r}", path=path, line=number)
        if not _has_utf8(row):
            raise InputError("the text has half of a surrogate pair, which no tokenizer takes", path=path, line=number)
        if row[0].split() != [row[0]]:
            raise InputError(f"the id {row[0]!r} has a blank, which a TREC run cannot hold", path=path, line=number)
        yield number, row[0], row[1]


def iter_texts(path: str | Path, wanted: Container[str] | None = None) -> Iterator[tuple[str, str]]:
    """Yields (id, text), streaming; with `wanted`, only those ids, so that a huge file costs no memory.

    Raises:
        InputError: as `read_text_rows`, or an id comes twice.
    """
    seen: set[str] = set()
    for number, identifier, text in read_text_rows(path):
        if wanted is not None and identifier not in wanted:
            continue
        if identifier in seen:
            raise InputError(f"id {identifier!r} comes a second time", path=path, line=number, hint="ids are unique")
        seen.add(identifier)
        yield identifier, text


def read_texts(path: str | Path, wanted: Container[str] | None = None) -> dict[str, str]:
    """Reads ids and texts into a dict, in file order, as `iter_texts`."""
    return dict(iter_texts(path, wanted))


def read_run(path: str | Path) -> Iterator[ScoredDoc]:
    """Yields the rows of a TREC run (`query Q0 doc rank score tag`), in file order.

    Raises:
        InputError: wrong column count, a score that is not a finite number, or a doc listed twice for a query.
    """
    seen: dict[str, set[str]] = {}
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
        docs = seen.setdefault(query_id, set())
        if doc_id in docs:
            raise InputError(f"doc {doc_id!r} comes twice for query {query_id!r}", path=path, line=number)
        docs.add(doc_id)
        yield ScoredDoc(sys.intern(query_id), doc_id, score)


def read_qrels(path: str | Path) -> Iterator[Qrel]:
    """Yields the rows of TREC qrels (`query 0 doc relevance`) or BEIR's (`query doc relevance` below a header).

    Raises:
        InputError: wrong column count, a relevance that is not an integer of a sensible size, a doc judged twice for a
            query, or only a header.
    """
    names: tuple[str, ...] = TREC_QRELS
    seen: set[tuple[str, str]] = set()
    for number, line in read_lines(path):
        columns = line.split()
        if number == 1 and columns[:2] == ["query-id", "corpus-id"]:
            names = BEIR_QRELS
            continue
        if len(columns) != len(names):
            raise InputError(
                f"expected {len(names)} columns ({' '.join(names)}), got {len(columns)}: {line[:60]!r}",
                path=path,
                line=number,
            )
        query_id, doc_id, text = columns[0], columns[-2], columns[-1]
        if (query_id, doc_id) in seen:
            raise InputError(f"doc {doc_id!r} is judged twice for query {query_id!r}", path=path, line=number)
        seen.add((query_id, doc_id))
        relevance = _number(text, int, "relevance", path, number)
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


def _json_text(line: str) -> tuple[str, ...]:
    """The (id, text) of a JSONL row, or () if it has none."""
    try:
        row = json.loads(line)
        identifier = row["_id"] if "_id" in row else row["id"]
        text = row["text"] if "text" in row else row["contents"]
        if not (isinstance(identifier, str | int) and isinstance(text, str)):
            return ()
        return str(identifier), " ".join(filter(None, [row.get("title"), text]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ()


def _has_utf8(row: Iterable[str]) -> bool:
    """JSON may spell half of a surrogate pair."""
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(text: str, kind: Callable[[str], Number], name: str, path: str | Path, line: int) -> Number:
    try:
        return kind(text)
    except ValueError as error:
        what = "an integer" if kind is int else "a number"
        raise InputError(f"{name} {text!r} is not {what}", path=path, line=line) from error
