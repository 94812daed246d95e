"""Queries and passages in files: TSV and JSON Lines in the forms of the field's tools, streaming, read strictly."""

import json
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

from exaranker.errors import InputError
from exaranker.files import blank_line_hint, read_lines
from exaranker.files.json_shape import RepeatedFieldError, distinct_fields

# Of BEIR, pyserini, Tevatron, ir_datasets and MS MARCO; of a row that has two of them the first counts (a passage of
# MS MARCO v2 names its document too).
ID_FIELDS = ("_id", "id", "pid", "passage_id", "docid", "doc_id", "query_id", "qid")
TEXT_FIELDS = ("text", "contents", "body", "passage", "query")

Part = Literal["queries", "passages"]
Title = Literal["first", "none"]
TITLES: tuple[Title, ...] = ("first", "none")


class Layout(NamedTuple):
    """How the lines of a file hold texts."""

    text_of: Callable[[str], tuple[str, ...]]  # (id, text), or another number of columns if the line is bad
    form: str  # what a line is expected to be
    has_header: bool = False
    is_pairs: bool = False  # a row is a query and a passage, so that a text comes again


def with_title(title: str | None, text: str, where: Title = "first") -> str:
    """A text and its title: before it, or left out.

    >>> with_title("Tibia", "A bone."), with_title("Tibia", "A bone.", "none")
    ('Tibia A bone.', 'A bone.')
    """
    return " ".join(filter(None, [title, text])) if where == "first" else text


def read_text_rows(path: str | Path, part: Part = "passages", title: Title = "first") -> Iterator[tuple[int, str, str]]:
    """Yields (line number, id, text) of queries or passages, streaming.

    `*.jsonl` (also gzipped) holds an object a line, with the fields of BEIR, pyserini, Tevatron or ir_datasets;
    anything else is a TSV of two columns, MS MARCO's documents (id, URL, title, body) or its top1000 rows (query id,
    passage id, query, passage). A row of column names at the top is passed over.

    Raises:
        InputError: a line is not of that form, or its id is empty or has a blank.
    """
    return _read(path, _layout(path, part, title))


def iter_texts(
    path: str | Path,
    wanted: Container[str] | None = None,
    part: Part = "passages",
    title: Title = "first",
    seen: dict[str, int] | None = None,
) -> Iterator[tuple[str, str]]:
    """Yields (id, text), streaming; with `wanted`, only those ids, so that a huge file costs no memory.

    `seen` are the ids of the files that are read as one with it.

    Raises:
        InputError: as `read_text_rows`, or an id comes twice (in top1000 rows: with another text).
    """
    layout = _layout(path, part, title)
    seen = {} if seen is None else seen
    for number, identifier, text in _read(path, layout):
        if wanted is not None and identifier not in wanted:
            continue
        if identifier not in seen:
            seen[identifier] = hash(text) if layout.is_pairs else 0
            yield identifier, text
        elif not layout.is_pairs or seen[identifier] != hash(text):
            again = " with another text" if layout.is_pairs else ""
            problem = f"id {identifier!r} comes a second time{again}"
            raise InputError(problem, path=path, line=number, hint="ids are unique")


def read_texts(
    path: str | Path, wanted: Container[str] | None = None, part: Part = "passages", title: Title = "first"
) -> dict[str, str]:
    """Reads ids and texts into a dict, in file order, as `iter_texts`."""
    return dict(iter_texts(path, wanted, part, title))


def json_text(line: str, title: Title = "first") -> tuple[str, ...]:
    """The (id, text) of a JSONL row, or () if it has none.

    >>> json_text('{"_id": 7, "title": "Tibia", "text": "A bone."}')
    ('7', 'Tibia A bone.')
    """
    try:
        row = json.loads(line, object_pairs_hook=distinct_fields)
        identifier = row[next(field for field in ID_FIELDS if field in row)]
        text = row[next(field for field in TEXT_FIELDS if field in row)]
        named = row.get("title")
        texts = isinstance(text, str) and isinstance(named, str | None)
        if isinstance(identifier, bool) or not isinstance(identifier, str | int) or not texts:
            return ()
        return str(identifier), with_title(named, text, title)
    except (ValueError, StopIteration, TypeError, AttributeError, RecursionError):
        return ()


def _read(path: str | Path, layout: Layout) -> Iterator[tuple[int, str, str]]:
    for number, line in islice(read_lines(path), int(layout.has_header), None):
        row = layout.text_of(line)
        if len(row) != 2 or not row[0]:
            raise _no_text(line, layout, path, number)
        if not _has_utf8(row):
            raise InputError("the text has half of a surrogate pair, which no tokenizer takes", path=path, line=number)
        if row[0].split() != [row[0]]:
            raise InputError(f"the id {row[0]!r} has a blank, which a TREC run cannot hold", path=path, line=number)
        yield number, row[0], row[1]


def _layout(path: str | Path, part: Part, title: Title) -> Layout:
    """The layout that a file's name and its first line tell."""
    if ".jsonl" in [suffix.lower() for suffix in Path(path).suffixes]:
        return Layout(partial(json_text, title=title), '{"_id", "text"} or {"id", "contents"}')
    first, *more = (line.split("\t") for _, line in islice(read_lines(path), 2))
    has_header = _is_header(first)
    columns = more[0] if has_header and more else first
    if len(columns) == 4 and columns[1].startswith(("http://", "https://")):
        form = "4 tab-separated columns (id, URL, title, body)"
        return Layout(partial(_document, title=title), form, has_header)
    if len(columns) == 4 and all(column.split() == [column] for column in columns[:2]):
        form = "4 tab-separated columns (query id, passage id, query, passage)"
        return Layout(partial(_of_a_pair, part=part), form, has_header, is_pairs=True)
    return Layout(_columns, "2 tab-separated columns", has_header)


def _columns(line: str) -> tuple[str, ...]:
    return tuple(line.split("\t"))


def _of_a_pair(line: str, part: Part) -> tuple[str, ...]:
    columns = _columns(line)
    return columns[part == "passages" :: 2] if len(columns) == 4 else columns


def _document(line: str, title: Title) -> tuple[str, ...]:
    columns = _columns(line)
    return (columns[0], with_title(columns[2], columns[3], title)) if len(columns) == 4 else ()


def _is_header(columns: Sequence[str]) -> bool:
    names = [name.strip().lower() for name in columns]
    return len(names) in (2, 4) and names[0] in ID_FIELDS and (names[-1] in TEXT_FIELDS or names[-1] == "title")


def _no_text(line: str, layout: Layout, path: str | Path, number: int) -> InputError:
    is_tsv = "tab" in layout.form
    got = f", got {len(_columns(line))}" if is_tsv else ""
    hint = blank_line_hint(line)
    if is_tsv and line.lstrip().startswith("{"):
        hint = "these are JSON lines: name the file *.jsonl"
    problem = f"expected an id and a text as {layout.form}{got}: {line[:60]!r}"
    if not is_tsv:
        problem = _repeated_field(line) or problem
    return InputError(problem, path=path, line=number, hint=hint)


def _repeated_field(line: str) -> str:
    try:
        json.loads(line, object_pairs_hook=distinct_fields)
    except RepeatedFieldError as error:
        return str(error)
    except (ValueError, RecursionError):
        pass
    return ""


def _has_utf8(row: Iterable[str]) -> bool:
    """JSON may spell half of a surrogate pair."""
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        return False
    return True
