"""Arguments of the Python API: any iterable of texts, pairs or scores is taken, nothing else is turned into text."""

import math
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from typing import Any

from exaranker.errors import InputError

QueryPassage = tuple[str, str]


def text(name: str, value: Any) -> str:
    """The value, if it is a text that can be encoded.

    Raises:
        TypeError: it is no `str`; names the argument.
        InputError: it has half of a surrogate pair.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} is {_shown(value)}, expected a str")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name} has half of a surrogate pair at character {error.start}") from error
    return value


def texts(name: str, values: Iterable[Any]) -> list[str]:
    """The texts of a list, an array, a Series, a generator, ...

    >>> texts("passages", (text for text in ("Cats purr.", "Dogs bark.")))
    ['Cats purr.', 'Dogs bark.']

    Raises:
        TypeError: it is a single text, a mapping or no iterable, or one of its items is no text.
    """
    return [text(f"{name}[{index}]", value) for index, value in enumerate(_items(name, values))]


def pairs(name: str, values: Iterable[Any]) -> Iterator[QueryPassage]:
    """The (query, passage) pairs of an iterable, streaming.

    Raises:
        TypeError: as `texts`, or an item is not a pair of texts.
    """
    return (_pair(f"{name}[{index}]", value) for index, value in enumerate(_items(name, values)))


def scores(name: str, values: Iterable[Any], count: int) -> list[float]:
    """As many finite numbers as there are pairs.

    Raises:
        TypeError: it is no iterable of numbers.
        InputError: a number is not finite, or there are more or fewer than pairs.
    """
    found = list(_items(name, values))
    if len(found) != count:
        raise InputError(f"{len(found)} {name} for {count} pairs", hint="give one for each pair, or none")
    for index, value in enumerate(found):
        if not isinstance(value, Real):
            raise TypeError(f"{name}[{index}] is {_shown(value)}, expected a number")
        if not math.isfinite(value):
            raise InputError(f"{name}[{index}] is {value}, expected a finite number")
    return [float(value) for value in found]


def at_least_one(name: str, value: int) -> int:
    """The value, if it is a count.

    Raises:
        InputError: it is less than 1.
    """
    if value < 1:
        raise InputError(f"{name} is {value}, expected at least 1")
    return value


def _items(name: str, values: Any) -> Iterable[Any]:
    if isinstance(values, str | bytes | bytearray | Mapping) or not isinstance(values, Iterable):
        raise TypeError(f"{name} is {_shown(values)}, expected a list or another iterable")
    return values


def _pair(name: str, value: Any) -> QueryPassage:
    items = tuple(_items(name, value))
    if len(items) != 2:
        raise TypeError(f"{name} has {len(items)} items, expected (query, passage)")
    return text(f"{name}[0]", items[0]), text(f"{name}[1]", items[1])


def _shown(value: Any) -> str:
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) <= 40 else shown[:37] + '...'}"
