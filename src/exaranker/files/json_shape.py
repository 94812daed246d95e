"""JSON of a shape: fields and types are checked where it is read, so that no later line stumbles over them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exaranker.errors import InputError

Kind = type | tuple[type, ...]
# A kind; {"name": shape} of an object's fields, with ... for all of them; or [shape] of a list's items.
Shape = Kind | Mapping[Any, Any] | list[Any]

_WORDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


class RepeatedFieldError(ValueError):
    """A name comes twice in one object, of which json would take the last."""


def distinct_fields(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these fields, as the `object_pairs_hook` of json.

    Raises:
        RepeatedFieldError: a name comes twice.

    >>> json.loads('{"id": 1, "id": 2}', object_pairs_hook=distinct_fields)
    Traceback (most recent call last):
    exaranker.files.json_shape.RepeatedFieldError: the field 'id' comes twice in one object
    """
    value = dict(fields)
    if len(value) < len(fields):
        names = [name for name, _ in fields]
        repeated = next(name for name in names if names.count(name) > 1)
        raise RepeatedFieldError(f"the field {repeated!r} comes twice in one object")
    return value


def parse_json(text: str | bytes, *, path: str | Path, line: int | None = None) -> Any:
    """Parses a JSON text of a file.

    Raises:
        InputError: it is not JSON, is nested too deeply, names a field twice, or has half of a surrogate pair, which no
            text has.
    """
    try:
        value = json.loads(text, object_pairs_hook=distinct_fields)
        if (b"\\u" if isinstance(text, bytes) else "\\u") in text:  # type: ignore[operator]
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        raise InputError(f"a text has half of a surrogate pair: \\u{code:04x}", path=path, line=line) from error
    except RecursionError as error:
        raise InputError("this JSON is nested too deeply", path=path, line=line) from error
    except RepeatedFieldError as error:
        raise InputError(str(error), path=path, line=line) from error
    except ValueError as error:
        raise InputError(f"not valid JSON: {error}", path=path, line=line) from error


def require_fields(
    value: Any, fields: Mapping[str, Kind], *, path: str | Path, line: int | None = None, hint: str = ""
) -> dict[str, Any]:
    """The object, if it has these fields with values of these types; a float field also takes an integer.

    Raises:
        InputError: it is no object, lacks a field, or one has a value of another type.

    >>> require_fields({"rank": 1, "more": 2}, {"rank": int}, path="rows.jsonl", line=1)
    {'rank': 1, 'more': 2}
    """
    if not isinstance(value, dict):
        expected = ", ".join(f"{name} ({_words(kind)})" for name, kind in fields.items())
        problem = f"expected an object with {expected}, got {_shown(value)}"
        raise InputError(problem, path=path, line=line, hint=hint)
    if missing := [name for name in fields if name not in value]:
        raise InputError(f"the object lacks {', '.join(missing)}", path=path, line=line, hint=hint)
    for name, kind in fields.items():
        if not is_a(value[name], kind):
            problem = f"{name} is {_shown(value[name])}, expected {_words(kind)}"
            raise InputError(problem, path=path, line=line, hint=hint)
    return value


def require_shape(value: Any, shape: Shape, *, path: str | Path, hint: str = "", place: str = "") -> None:
    """Checks a whole document, to the depth that its shape says; what the shape does not name may be anything.

    Raises:
        InputError: something is missing, or of another type; names its place.

    >>> require_shape({"runs": [{"depth": 7}]}, {"runs": [{"depth": int}]}, path="results.json")
    """
    kind = dict if isinstance(shape, Mapping) else list if isinstance(shape, list) else shape
    if not is_a(value, kind):
        raise InputError(f"{place or 'this'} is {_shown(value)}, expected {_words(kind)}", path=path, hint=hint)
    if isinstance(shape, list):
        parts = {f"{place}[{number}]": (item, shape[0]) for number, item in enumerate(value)}
    elif isinstance(shape, Mapping):
        parts = _fields_of(value, shape, path, hint, place)
    else:
        parts = {}
    for name, (part, wanted) in parts.items():
        require_shape(part, wanted, path=path, hint=hint, place=name)


def is_a(value: Any, kind: Kind) -> bool:
    """JSON's notion of a type: true is no integer, and an integer is a number.

    >>> is_a(True, int), is_a(1, float), is_a(None, (str, type(None)))
    (False, True, True)
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (isinstance(value, int) and float in kinds)


def _fields_of(
    value: dict[str, Any], shape: Mapping[Any, Shape], path: str | Path, hint: str, place: str
) -> dict[str, tuple[Any, Shape]]:
    """The fields that a shape speaks of, by their place, each with its own shape."""
    if missing := [name for name in shape if name is not ... and name not in value]:
        raise InputError(f"{place or 'the object'} lacks {', '.join(missing)}", path=path, hint=hint)
    named = {name: part for name, part in shape.items() if name is not ...}
    wanted = dict.fromkeys(value, shape[...]) | named if ... in shape else named
    return {f"{place}.{name}" if place else name: (value[name], part) for name, part in wanted.items()}


def _words(kind: Kind) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join(_WORDS[one] for one in kinds)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)  # YAML has dates too
    return text if len(text) <= 60 else f"{text[:57]}..."
