"""Labelled pairs as JSON: a pair a line, a query with its passages (Tevatron, sentence-transformers), or one array."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from exaranker.errors import InputError
from exaranker.files import read_lines
from exaranker.files.json_shape import RepeatedFieldError, distinct_fields
from exaranker.preprocess.pairs.text import LABEL_HINT, InputConfig, text_id, whole_grade
from exaranker.schema import Pair

# A query's passages in one row: these fields hold relevant ones, those irrelevant ones.
_POSITIVES = ("positive_passages", "positives", "positive", "pos")
_NEGATIVES = ("negative_passages", "negatives", "negative", "neg")
OTHER_RANK = "other_rank"  # the reason of rows that are left out because their rank counts as neither
_ROW_HINT = 'a line is {"query": ..., "passage": ..., "label": ...}'
_IDS_HINT = "rows of ids find their texts with --texts DIR|ID; else " + _ROW_HINT


class JsonRow(NamedTuple):
    """An object of a file, and where it stands there."""

    fields: dict[str, Any]
    path: str
    line: int | None

    def error(self, problem: str, hint: str = "") -> InputError:
        """The problem, with the row's place."""
        return InputError(problem, path=self.path, line=self.line, hint=hint)

    def text(self, name: str) -> str:
        """The field's text.

        Raises:
            InputError: the field is missing, or is not a text that UTF-8 can hold.
        """
        value = self.fields.get(name)
        if value is None:
            raise self.error(f"{name!r} is missing", _IDS_HINT if "doc_id" in self.fields else _ROW_HINT)
        return self.checked(name, value)

    def checked(self, name: str, value: Any) -> str:
        """The value, if it is a text.

        Raises:
            InputError: it is not one that UTF-8 can hold.
        """
        if not isinstance(value, str):
            raise self.error(f"{name!r} is {_shown(value)}, expected a string")
        if not is_unicode(value):
            raise self.error(f"{name!r} has half of a surrogate pair: {_shown(value)}")
        return value

    def id(self, name: str) -> str:
        """The id as text, "" where it is left out or null; integers count as ids.

        Raises:
            InputError: it is something else.
        """
        value = self.fields.get(name)
        if isinstance(value, float):
            hint = "an id column with gaps becomes numbers with a point in pandas: read it as text, dtype=str"
            raise self.error(f"{name!r} is {_shown(value)}, a number with a point", hint)
        if isinstance(value, bool) or not isinstance(value, str | int | None) or not is_unicode(str(value)):
            raise self.error(f"{name!r} is {_shown(value)}, expected a string or left out")
        return "" if value is None else str(value)

    def integer(self, name: str) -> int:
        """The integer, also spelt `1.0` or `true`.

        Raises:
            InputError: it is missing, or is no integer.
        """
        value = self.fields.get(name)
        found = whole_grade(value) if isinstance(value, int | float) and _is_finite(value) else None
        if found is None:
            raise self.error(f"{name} {_shown(value)} is not an integer", LABEL_HINT if name == "label" else "")
        return found


def read_jsonl(
    path: str | Path, config: InputConfig | None = None, texts: bool = True, left_out: Counter[str] | None = None
) -> Iterator[Pair]:
    """Yields the pairs of `{"query_id", "doc_id", "query", "passage", "label"}` lines; ids may be left out.

    A row may also hold a query with its passages: Tevatron's `positive_passages` and `negative_passages`, or the `pos`
    and `neg`, `anchor`, `positive` and `negative` of sentence-transformers. With `texts` false, rows hold ids only.
    Rows that are left out are counted in `left_out`.

    Raises:
        InputError: a row is not such an object, or its label is not an integer.
    """
    config, left_out = config or InputConfig(), Counter() if left_out is None else left_out
    left_out.clear()
    for row in read_rows(path):
        if any(name in row.fields for name in (*_POSITIVES, *_NEGATIVES)):
            yield from _passages_of_query(row, config)
        elif (label := label_of(row, config)) is None:
            left_out[OTHER_RANK] += 1
        else:
            yield pair_of(row, label, texts)


def read_rows(path: str | Path) -> Iterator[JsonRow]:
    """Yields the objects of a JSON Lines file, streaming, or of a file that is one JSON array.

    Raises:
        InputError: a line, or an item, is not an object.
    """
    for number, line in read_lines(path):
        if number == 1 and line.lstrip().startswith("["):
            yield from _items(path)
            return
        yield JsonRow(_object(line, str(path), number), str(path), number)


def pair_of(row: JsonRow, label: int, texts: bool = True) -> Pair:
    """The row's pair; without `texts`, of its ids alone.

    Raises:
        InputError: a text is missing, or, without texts, an id.
    """
    query_id, doc_id = row.id("query_id"), row.id("doc_id")
    if not texts:
        if not (query_id and doc_id):
            raise row.error("'query_id' or 'doc_id' is missing", "with --texts every row has both")
        return Pair(query_id, doc_id, "", "", label)
    query, passage = row.text("query"), row.text("passage")
    return Pair(query_id or text_id(query), doc_id or text_id(passage), query, passage, label)


def label_of(row: JsonRow, config: InputConfig) -> int | None:
    """The label, or what the configuration makes of the row's rank: None for ranks that are left out.

    Raises:
        InputError: there is no label, or no rank where ranks decide.
    """
    if not config.relevant_ranks:
        if "label" not in row.fields and "rank" in row.fields:
            raise row.error("'label' is missing", "say which ranks count: --relevant_ranks 1 --irrelevant_ranks 4 5")
        return row.integer("label")
    rank = row.integer("rank")
    if rank in config.relevant_ranks:
        return max(1, config.positive_grade)
    return min(0, config.positive_grade - 1) if rank in config.irrelevant_ranks else None


def is_unicode(text: str) -> bool:
    r"""Whether UTF-8 can hold it: JSON may spell half a surrogate pair, `"\ud83d"`, which no text has."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _items(path: str | Path) -> Iterator[JsonRow]:
    text = "\n".join(line for _, line in read_lines(path))
    try:
        items = json.loads(text, object_pairs_hook=distinct_fields)
    except RepeatedFieldError as error:
        raise InputError(str(error), path=path) from error
    except (ValueError, RecursionError) as error:
        hint = f"{_ROW_HINT}, or the file is one array of them"
        raise InputError(f"not a JSON object: {text[:60]!r}", path=path, line=1, hint=hint) from error
    for number, item in enumerate(items):
        place = f"{path}[{number}]"
        if not isinstance(item, dict):
            raise InputError(f"expected a JSON object, got {_shown(item)}", path=place, hint=_ROW_HINT)
        yield JsonRow(item, place, None)


def _object(line: str, path: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=distinct_fields)
    except RepeatedFieldError as error:
        raise InputError(str(error), path=path, line=number) from error
    except (ValueError, RecursionError) as error:
        hint = _ROW_HINT if line.strip() else "remove this blank line"
        raise InputError(f"not a JSON object: {line[:60]!r}", path=path, line=number, hint=hint) from error
    if not isinstance(row, dict):
        raise InputError(f"expected a JSON object, got {line[:60]!r}", path=path, line=number, hint=_ROW_HINT)
    return row


def _passages_of_query(row: JsonRow, config: InputConfig) -> Iterator[Pair]:
    query = row.text("anchor" if "anchor" in row.fields and "query" not in row.fields else "query")
    query_id = row.id("query_id") or text_id(query)
    sides = ((_POSITIVES, max(1, config.positive_grade)), (_NEGATIVES, min(0, config.positive_grade - 1)))
    for names, label in sides:
        for name in names:
            for doc_id, passage in _passages(row, name):
                yield Pair(query_id, doc_id or text_id(passage), query, passage, label)


def _passages(row: JsonRow, name: str) -> Iterator[tuple[str, str]]:
    """(doc id or "", text) of the field's passages: one text, or a list of texts or of Tevatron's objects."""
    value = row.fields.get(name, [])
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            passage = JsonRow(item, row.path, row.line)
            title = passage.checked("title", item.get("title") or "")
            yield passage.id("docid"), " ".join(filter(None, [title, passage.text("text")]))
        else:
            yield "", row.checked(name, item)


def _is_finite(value: float) -> bool:
    return abs(value) < float("inf")


def _shown(value: Any) -> str:
    return f"{value!r}"[:60]
