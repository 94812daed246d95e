"""Queries, passages, runs and qrels in the formats of TREC and MS MARCO, read strictly and written exactly.

A score is written with `repr`, so that reading it back gives the same float; equal scores are broken by doc id
descending, as trec_eval does, so the rank column and every evaluation tool agree.
"""

import json
import re
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from ctypes import c_float
from pathlib import Path
from typing import NamedTuple

from exaranker import numbers
from exaranker.errors import InputError
from exaranker.files import blank_line_hint, open_output, read_lines

TREC_QRELS = ("query", "0", "doc", "relevance")
BEIR_QRELS = ("query-id", "corpus-id", "score")

# Of BEIR, pyserini, Tevatron, ir_datasets and MS MARCO; of a row that has two of them the first counts.
ID_FIELDS = ("_id", "id", "docid", "doc_id", "pid", "passage_id", "query_id", "qid")
TEXT_FIELDS = ("text", "contents", "body", "passage", "query")
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


def read_text_rows(path: str | Path) -> Iterator[tuple[int, str, str]]:
    """Yields (line number, id, text) of queries or passages, streaming.

    `*.jsonl` (also gzipped) holds an object a line, with the fields of BEIR, pyserini, Tevatron or ir_datasets;
    anything else is a TSV of two columns, or MS MARCO's documents (id, URL, title, body). A row of column names at
    the top is passed over. A title is put before its text.

    Raises:
        InputError: a line is not of that form, or its id is empty or has a blank.
    """
    jsonl = ".jsonl" in [suffix.lower() for suffix in Path(path).suffixes]
    documents = False
    for number, line in read_lines(path):
        columns = line.split("\t")
        if number == 1 and not jsonl:
            documents = len(columns) == 4 and columns[1].startswith(("http://", "https://"))
            if _is_header(columns):
                continue
        row = _json_text(line) if jsonl else _document(columns) if documents else tuple(columns)
        if len(row) != 2 or not row[0]:
            raise _no_text(line, columns, path, number, jsonl)
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


def _is_header(columns: Sequence[str]) -> bool:
    names = [name.strip().lower() for name in columns]
    return len(names) in (2, 4) and names[0] in ID_FIELDS and (names[-1] in TEXT_FIELDS or names[-1] == "title")


def _document(columns: Sequence[str]) -> tuple[str, ...]:
    if len(columns) != 4:
        return ()
    identifier, _, title, body = columns
    return identifier, " ".join(filter(None, [title, body]))


def _json_text(line: str) -> tuple[str, ...]:
    """The (id, text) of a JSONL row, or () if it has none."""
    try:
        row = json.loads(line)
        identifier = row[next(field for field in ID_FIELDS if field in row)]
        text = row[next(field for field in TEXT_FIELDS if field in row)]
        title = row.get("title")
        texts = isinstance(text, str) and isinstance(title, str | None)
        if isinstance(identifier, bool) or not isinstance(identifier, str | int) or not texts:
            return ()
        return str(identifier), " ".join(filter(None, [title, text]))
    except (ValueError, StopIteration, TypeError, AttributeError, RecursionError):
        return ()


def _no_text(line: str, columns: Sequence[str], path: str | Path, number: int, jsonl: bool) -> InputError:
    form = '{"_id", "text"} or {"id", "contents"}' if jsonl else f"2 tab-separated columns, got {len(columns)}"
    hint = blank_line_hint(line)
    if not jsonl and line.lstrip().startswith("{"):
        hint = "these are JSON lines: name the file *.jsonl"
    elif not jsonl and len(columns) == 4:
        name = Path(path).name
        parts = f"cut -f1,3 {name} | sort -u gives the queries, cut -f2,4 the passages"
        hint = f"if these are MS MARCO's top1000 rows: {parts}"
    return InputError(f"expected an id and a text as {form}: {line[:60]!r}", path=path, line=number, hint=hint)


def _has_utf8(row: Iterable[str]) -> bool:
    """JSON may spell half of a surrogate pair."""
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        return False
    return True


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
