"""Tab-separated columns as people write them: bare or quoted as CSV, with or without a first line of names."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from exaranker.errors import InputError
from exaranker.files import read_lines
from exaranker.files.numbers import integer

QUOTES = ("auto", "csv", "none")
LOOKAHEAD = 2_000  # lines that decide whether quotes are CSV's, from the first that has one
FIRST_ROWS = 100  # that are looked at for ids in the place of texts
MIN_ROWS_OF_CODES = 10  # fewer rows of blankless words with digits may be texts after all

# Other names that a column goes by in a first line.
_ALIASES = {
    "relevance": "label",
    "grade": "label",
    "question": "query",
    "document": "passage",
    "doc": "passage",
    "text": "passage",
    "sentence": "passage",
    "pos": "positive",
    "positive_passage": "positive",
    "neg": "negative",
    "negative_passage": "negative",
}
_CODE = re.compile(r"\S*[0-9]\S*")
_JOIN = (
    "have ir_datasets join them: --pairs msmarco-passage/train/triples-small --format triples; or put queries.tsv, "
    "passages.tsv and qrels.txt into a folder and give that"
)


class Record(NamedTuple):
    """One row of a file: the line it begins on, and its columns."""

    line: int
    columns: list[str]


def read_columns(path: str | Path, names: Sequence[str], quotes: str = "auto") -> Iterator[Record]:
    """Yields the rows' columns in the order of `names`, which is that of the file unless its first line names them.

    `quotes` says what a quotation mark is: CSV's ("csv"), text ("none"), or whichever the first of them show ("auto").

    Raises:
        InputError: a row has another number of columns, quotes are CSV's in some lines only, or all texts are ids.
    """
    rows = _named(_records(path, quotes), names, path)
    first = list(islice(rows, FIRST_ROWS))
    _refuse_ids(first, names, path)
    yield from first
    yield from rows


def _records(path: str | Path, quotes: str) -> Iterator[Record]:
    lines = read_lines(path)
    if quotes == "csv":
        yield from csv_records(lines, path)
        return
    for number, line in lines:
        if quotes == "none" or '"' not in line:
            yield Record(number, line.split("\t"))
            continue
        ahead = [(number, line), *islice(lines, LOOKAHEAD)]
        rest = chain(ahead, lines)
        if _quotes_are_csv([text for _, text in ahead], path, number):
            yield from csv_records(rest, path)
        else:
            yield from (Record(number, line.split("\t")) for number, line in rest)


def csv_records(lines: Iterable[tuple[int, str]], path: str | Path) -> Iterator[Record]:
    """The rows of Python's csv module with a tab as delimiter; line ends within quotes become newlines.

    Raises:
        InputError: a line is not quoted as CSV is.
    """
    number = 0

    def texts() -> Iterator[str]:
        nonlocal number
        for number, line in lines:  # noqa: B007
            yield line + "\n"

    rows = csv.reader(texts(), delimiter="\t", strict=True)
    while True:
        begin = number
        try:
            columns = next(rows, None)
        except csv.Error as error:
            hint = "quotes within a quoted column are doubled; if they are text: --gin.pairs.quotes=\"'none'\""
            raise InputError(f"not quoted as CSV is: {error}", path=path, line=number, hint=hint) from error
        if columns is None:
            return
        first = begin + 1 if begin else number - sum(text.count("\n") for text in columns)
        yield Record(first, columns)


def _quotes_are_csv(lines: Iterable[str], path: str | Path, number: int) -> bool:
    """Whether the rows with a quotation mark are, to the last character, what a csv writer makes of their columns."""
    verdicts = {_is_csv(row) for row in _quoted_rows(lines)}
    if len(verdicts) > 1:
        problem = "from here on some lines are quoted as CSV is, and others are not"
        raise InputError(problem, path=path, line=number, hint="say which: --gin.pairs.quotes=\"'csv'\" or \"'none'\"")
    return verdicts == {True}


def _quoted_rows(lines: Iterable[str]) -> Iterator[str]:
    """Rows with a quotation mark, whole.

    A line with an odd number of them and the following lines up to the next such are one row. Of the last one, which
    may be cut off, nothing is told.
    """
    row: list[str] = []
    for line in lines:
        row.append(line)
        if sum(text.count('"') for text in row) % 2 and len(row) < 20 and _opens(row[0]):
            continue
        if '"' in "".join(row):
            yield "\n".join(row)
        row = []


def _opens(line: str) -> bool:
    """Whether the line's last column begins with a quotation mark, and so may go on in the next line."""
    return line.rpartition("\t")[2].startswith('"')


def _is_csv(row: str) -> bool:
    r"""Whether a writer of the csv module gives this row again.

    >>> _is_csv('1\t"a ""b"" c"\tp'), _is_csv('1\ta "b" c\tp'), _is_csv('1\t"a"\tp'), _is_csv('1\t"a"\t"p"')
    (True, False, False, True)
    """
    try:
        columns = next(csv.reader(row.splitlines(keepends=True), delimiter="\t", strict=True))
    except (csv.Error, StopIteration):
        return False
    some = "\t".join(_in_quotes(text) if any(mark in text for mark in '"\t\r\n') else text for text in columns)
    texts = "\t".join(text if integer(text) is not None else _in_quotes(text) for text in columns)
    return row in (some, texts, "\t".join(map(_in_quotes, columns)))


def _in_quotes(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _named(records: Iterator[Record], names: Sequence[str], path: str | Path) -> Iterator[Record]:
    """The rows below a first line of names, their columns in the order of `names`."""
    order, count = list(range(len(names))), len(names)
    for record in records:
        if record.line == 1 and (found := _header(record.columns, names)):
            order, count = found, len(record.columns)
            continue
        if len(record.columns) != count:
            raise _wrong_count(record, names, count, path)
        yield Record(record.line, [record.columns[place] for place in order])


def _header(columns: Sequence[str], names: Sequence[str]) -> list[int] | None:
    """Where each name is, if these are names.

    >>> _header(["", "Question", "passage", "label"], ["label", "query", "passage"])
    [3, 1, 2]
    """
    words = [column.strip().lower() for column in columns]
    known = [word if word in names else _ALIASES.get(word, word) for word in words]
    return [known.index(name) for name in names] if all(known.count(name) == 1 for name in names) else None


def _wrong_count(record: Record, names: Sequence[str], count: int, path: str | Path) -> InputError:
    named = f" ({', '.join(names)})" if count == len(names) else ", as in the first line"
    line = "\t".join(record.columns)
    problem = f"expected {count} tab-separated columns{named}, got {len(record.columns)}: {line[:60]!r}"
    hint = "tabs within a text must be made blanks" if line.strip() else "remove this blank line"
    return InputError(problem, path=path, line=record.line, hint=hint)


def _refuse_ids(rows: Sequence[Record], names: Sequence[str], path: str | Path) -> None:
    texts = [column for row in rows for name, column in zip(names, row.columns, strict=True) if name != "label"]
    numbers = all(integer(text) is not None for text in texts)
    codes = len(rows) >= MIN_ROWS_OF_CODES and all(_CODE.fullmatch(text) for text in texts)
    if rows and (numbers or codes):
        problem = f"these columns are ids, not texts: {' '.join(rows[0].columns)[:60]!r}"
        raise InputError(problem, path=path, line=rows[0].line, hint=_JOIN)
