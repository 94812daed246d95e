"""The one exception for input a person can mend, and the words to mend it with."""

import difflib
import importlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

LISTED = 60  # names of a hint


class InputError(ValueError):
    """Bad input or bad usage: the command line prints it as one line and exits 2.

    >>> str(InputError("expected 3 columns, got 2", path="pairs.tsv", line=7, hint="separate columns by tabs"))
    'pairs.tsv:7: expected 3 columns, got 2 (separate columns by tabs)'
    """

    def __init__(self, problem: str, *, path: str | Path | None = None, line: int | None = None, hint: str = ""):
        where = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(f"{where}{problem}{f' ({hint})' if hint else ''}")


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that lists the known names closest to a mistyped one.

    >>> nearest("exaranker_sampel_label", ["exaranker_sample_label", "other"])
    'did you mean exaranker_sample_label?'
    >>> nearest("x", map(str, range(100, 180)))[-26:]
    '157, 158, 159, and 20 more'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    if not names:
        return "none are known"
    more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"known: {', '.join(names[:LISTED])}{more}"


def require(module: str, extra: str) -> ModuleType:
    """Imports a heavy package, or says which extra brings it.

    Raises:
        InputError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise InputError(f"this needs the package {error.name}", hint=f"pip install 'exaranker[{extra}]'") from error
