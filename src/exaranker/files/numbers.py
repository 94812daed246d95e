"""Numbers as files hold them: ASCII digits only, where Python's own `int` also takes `1_0` and digits of any script."""

import math
import re

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)  # 18 digits fit an int64
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)


def integer(text: str) -> int | None:
    """The integer that a text spells, or None.

    >>> integer("-3"), integer("1_0"), integer("٣"), integer(" 1"), integer("1.0")
    (-3, None, None, None, None)
    """
    return int(text) if _INTEGER.fullmatch(text) else None


def number(text: str) -> float | None:
    """The finite number that a text spells, or None.

    >>> number("1.5e-3"), number("1_0.0"), number("nan"), number("1e999"), number("0x10")
    (0.0015, None, None, None, None)
    """
    value = float(text) if _NUMBER.fullmatch(text) else math.inf
    return value if math.isfinite(value) else None
