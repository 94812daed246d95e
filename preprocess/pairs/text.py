"""Labelled pairs from one file, streaming in constant memory; every reader gives the same record.

The other readers: `readers_triples` (MS MARCO triples), `readers_judged` (BEIR and TREC folders), `readers_irds`.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from exaranker.checks import Positive, Seed, Text, check, one_of
from exaranker.errors import InputError
from exaranker.files import read_lines
from exaranker.schema import Pair

Reader = Callable[[], Iterator[Pair]]  # called again, it reads again from the start

TRIPLE_RULES = ("sampled", "full")
MAX_GRADE = 2**31 - 1  # grades are small; this only keeps what an int64 feature cannot hold out of the shards
_INTEGER = re.compile(r"[+-]?[0-9]{1,10}", re.ASCII)


@dataclass(frozen=True)
class InputConfig:
    """How labelled data becomes pairs.

    `triples` says what a (query, positive, negative) line gives: "sampled" is the reference rule, one pair per
    chosen line, positives and negatives alternating, until there are `positives` different positives; "full" gives
    both pairs.
    `split` is the file of a BEIR folder's `qrels/`.
    """

    positive_grade: int = 1
    triples: Annotated[str, one_of(TRIPLE_RULES)] = "sampled"
    positives: Positive = 15_000
    seed: Seed = 2
    split: Text = "train"

    def __post_init__(self) -> None:
        check(self, "pairs.")


def read_jsonl(path: str | Path) -> Iterator[Pair]:
    """Yields the rows of `{"query_id", "doc_id", "query", "passage", "label"}` lines; ids may be left out.

    Raises:
        InputError: a line is not such an object, or its label is not an integer.
    """
    for number, line in read_lines(path):
        yield _pair_of_json(line, path, number)


def read_tsv(path: str | Path) -> Iterator[Pair]:
    r"""Yields the rows of the reference TSV, `label \t query \t passage`; ids are digests of the texts.

    Raises:
        InputError: a line has another number of columns, or its label is not an integer.
    """
    for number, line in read_lines(path):
        label, query, passage = three_columns(line, "label, query, passage", path, number)
        yield with_text_ids(query, passage, _grade(label, path, number))


def with_text_ids(query: str, passage: str, label: int) -> Pair:
    """A pair from a format without ids: equal texts get equal ids, wherever they come from."""
    return Pair(text_id(query), text_id(passage), query, passage, label)


def text_id(text: str) -> str:
    """An id for a text that came without one: 12 hexadecimal digits of its sha256.

    >>> text_id("how tall is the eiffel tower")
    'a74d5ec31460'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def three_columns(line: str, names: str, path: str | Path, number: int) -> tuple[str, str, str]:
    """The three tab-separated columns of a line.

    Raises:
        InputError: the line has another number of tab-separated columns.
    """
    columns = line.split("\t")
    if len(columns) != 3:
        problem = f"expected 3 tab-separated columns ({names}), got {len(columns)}: {line[:60]!r}"
        raise InputError(problem, path=path, line=number, hint="tabs within a text must be made blanks")
    return columns[0], columns[1], columns[2]


def is_unicode(text: str) -> bool:
    r"""Whether UTF-8 can hold it: JSON may spell half a surrogate pair, `"\ud83d"`, which no text has."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _grade(text: str, path: str | Path, number: int) -> int:
    """Only ASCII digits: `int` would also take `1_0` or Arabic digits."""
    if not _INTEGER.fullmatch(text) or abs(int(text)) > MAX_GRADE:
        hint = "the label is the grade as judged, such as 0 or 1"
        raise InputError(f"label {text[:60]!r} is not an integer", path=path, line=number, hint=hint)
    return int(text)


def _pair_of_json(line: str, path: str | Path, number: int) -> Pair:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        hint = 'a line is {"query": ..., "passage": ..., "label": ...}'
        raise InputError(f"not a JSON object: {line[:60]!r}", path=path, line=number, hint=hint) from error
    if not isinstance(row, dict):
        raise InputError(f"expected a JSON object, got {line[:60]!r}", path=path, line=number)
    query, passage = (_text(row, field, path, number) for field in ("query", "passage"))
    label = row.get("label")
    if not isinstance(label, int) or isinstance(label, bool) or abs(label) > MAX_GRADE:
        problem = f"label {_shown(label)} is not an integer"
        raise InputError(problem, path=path, line=number, hint="the label is the grade as judged, such as 0 or 1")
    query_id, doc_id = (_id(row, field, path, number) for field in ("query_id", "doc_id"))
    return Pair(query_id or text_id(query), doc_id or text_id(passage), query, passage, label)


def _text(row: dict[str, Any], field: str, path: str | Path, number: int) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        got = "is missing" if value is None else f"is {_shown(value)}, expected a string"
        raise InputError(f"{field!r} {got}", path=path, line=number)
    if not is_unicode(value):
        raise InputError(f"{field!r} has half of a surrogate pair: {_shown(value)}", path=path, line=number)
    return value


def _id(row: dict[str, Any], field: str, path: str | Path, number: int) -> str:
    """The id as text, "" where it is left out; numbers count as ids."""
    value = row.get(field, "")
    if value is None or isinstance(value, bool) or not isinstance(value, str | int) or not is_unicode(str(value)):
        raise InputError(f"{field!r} is {_shown(value)}, expected a string or left out", path=path, line=number)
    return str(value)


def _shown(value: Any) -> str:
    return f"{value!r}"[:60]
