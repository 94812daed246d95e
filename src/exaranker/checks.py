"""Configurations hold their values to their annotations: type, range, choice. The error names the macro."""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from exaranker.errors import InputError, nearest

FEATURES = ("inputs", "targets")


class Macro(NamedTuple):
    """The name that a field has in gin, where it is not the field's own in capitals."""

    name: str


class Rule(NamedTuple):
    """What a value of the right type must be besides, in words and as a predicate; None is exempt."""

    words: str
    holds: Callable[[Any], bool]
    choices: tuple[str, ...] = ()
    hint: str = ""


def at_least(bound: float, hint: str = "") -> Rule:
    """A number from `bound` on.

    >>> at_least(1).words
    'at least 1'
    """
    return Rule(f"at least {bound}", lambda value: value >= bound, hint=hint)


def at_most(bound: float) -> Rule:
    """A number up to `bound`, included."""
    return Rule(f"at most {bound}", lambda value: value <= bound)


def above(bound: float, hint: str = "") -> Rule:
    """A number greater than `bound`."""
    return Rule(f"more than {bound}", lambda value: value > bound, hint=hint)


def within(low: float, high: float) -> Rule:
    """A number from `low` to `high`, both included."""
    return Rule(f"{low} to {high}", lambda value: low <= value <= high)


def from_to_below(low: float, high: float) -> Rule:
    """A number from `low`, included, to `high`, excluded."""
    return Rule(f"{low} or more and less than {high}", lambda value: low <= value < high)


def one_of(choices: tuple[str, ...]) -> Rule:
    """One of a few names; the error offers the nearest."""
    return Rule(f"one of {', '.join(choices)}", lambda value: value in choices, choices)


NOT_EMPTY = Rule("a text that is not empty", lambda value: bool(value.strip()))
Positive = Annotated[int, at_least(1)]
NotNegative = Annotated[int, at_least(0)]
NonEmpty = Annotated[str, NOT_EMPTY]
Seed = Annotated[int, within(0, 2**32 - 1)]  # what numpy's, jax's and vLLM's generators all take
DropoutRate = Annotated[float, from_to_below(0, 1), Macro("DROPOUT_RATE")]
ActivationType = Annotated[str, one_of(("float32", "bfloat16")), Macro("ACTIVATION_DTYPE")]


def check(config: Any, prefix: str | None = None) -> None:
    """Checks every field of a dataclass against its annotation; to be called by its `__post_init__`.

    Fields are called by their `Macro`, else by `prefix` and name, else by name in capitals.

    Raises:
        InputError: a value is of another type, out of range or none of the choices.
    """
    for name, hint in _hints(type(config)).items():  # type: ignore[arg-type]  # mypy: type[Any] is not Hashable
        kind, notes = _split(hint)
        macro = next((note.name for note in notes if isinstance(note, Macro)), None)
        shown = macro or (name.upper() if prefix is None else prefix + name)
        check_value(shown, getattr(config, name), kind, [note for note in notes if isinstance(note, Rule)])


def check_value(name: str, value: Any, kind: Any, rules: list[Rule]) -> None:
    """Checks one value against a type and rules.

    >>> check_value("BATCH_SIZE", "4", int, [at_least(1)])
    Traceback (most recent call last):
    ...
    exaranker.errors.InputError: BATCH_SIZE is '4', expected a whole number (write it without quotes)

    Raises:
        InputError: the value is not of the kind, or breaks a rule.
    """
    if not _fits(value, kind):
        unquoted = isinstance(value, str) and not _takes_text(kind)
        hint = "write it without quotes" if unquoted else next((rule.hint for rule in rules if rule.hint), "")
        raise InputError(f"{name} is {value!r}, expected {_words(kind)}", hint=hint)
    for rule in rules:
        if value is not None and not rule.holds(value):
            close = nearest(str(value), rule.choices)
            hint = close if close.startswith("did") else rule.hint
            raise InputError(f"{name} is {value!r}, expected {rule.words}", hint=hint)


def check_lengths(lengths: Mapping[str, int]) -> None:
    """Checks TASK_FEATURE_LENGTHS: at least one token of inputs and of targets, and no other feature.

    Raises:
        InputError: a feature is missing, unknown or without a length.
    """
    example = "for example {'inputs': 512, 'targets': 128}"
    if missing := [name for name in FEATURES if name not in lengths]:
        raise InputError(f"TASK_FEATURE_LENGTHS {dict(lengths)} lacks {', '.join(missing)}", hint=example)
    for name, length in lengths.items():
        if name not in FEATURES:
            problem = f"TASK_FEATURE_LENGTHS {dict(lengths)} has an unknown feature {name!r}"
            raise InputError(problem, hint=nearest(name, FEATURES))
        check_value(f"TASK_FEATURE_LENGTHS[{name!r}]", length, int, [at_least(1, example)])


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)}


def _split(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """An annotation and its notes; those of `Positive | None` are the inner ones'."""
    if get_origin(hint) is Annotated:
        inner, notes = _split(hint.__origin__)
        return inner, (*notes, *hint.__metadata__)
    if get_origin(hint) in (Union, UnionType):
        parts = [_split(part) for part in get_args(hint)]
        return Union[tuple(part for part, _ in parts)], tuple(note for _, notes in parts for note in notes)  # noqa: UP007
    return hint, ()


def _fits(value: Any, kind: Any) -> bool:
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin in (tuple, list):
        return isinstance(value, origin) and all(_fits(item, parts[0]) for item in value)
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(key, parts[0]) and _fits(item, parts[1]) for key, item in value.items()
        )
    if kind in (int, float):
        number = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
        return number and math.isfinite(value)
    return isinstance(value, kind)


def _takes_text(kind: Any) -> bool:
    return kind is str or any(part is str or isinstance(part, str) for part in get_args(kind))


_WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a text in quotes", NoneType: "None"}


def _words(kind: Any) -> str:
    """What a type is called in an error.

    >>> _words(int | None)
    'a whole number or None'
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(_words, parts)))
    if origin is Literal:
        return f"one of {', '.join(map(repr, parts))}"
    if origin in (tuple, list):
        inside = f"{_item(parts[0])}, {_item(parts[0])}, ..."
        return f"({inside})" if origin is tuple else f"[{inside}]"
    if origin is not None:
        return f"{{{', '.join(map(_item, parts))}, ...}}".replace(", ", ": ", 1)
    return _WORDS.get(kind, f"{'an' if kind.__name__[0] in 'AEIO' else 'a'} {kind.__name__}")


def _item(kind: Any) -> str:
    return {str: "'text'", int: "whole number"}.get(kind, "value")
