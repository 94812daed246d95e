"""Values of options that several verbs have, checked before anything is read."""

from collections.abc import Sequence
from pathlib import Path, PurePath

from exaranker.errors import InputError
from exaranker.files.writing import AnyPath

FORMATS = frozenset(".csv .htm .html .json .jsonl .md .parquet .pdf .png .svg .tex .tsv .xlsx .yaml".split())


def check_ending(option: str, path: AnyPath | None, *endings: str) -> None:
    """Refuses a name that says another format than what is written; one that says none is welcome.

    >>> check_ending("--output", "report.html.gz", ".html")
    >>> check_ending("--output", "results", ".json")

    Raises:
        InputError: it does.
    """
    ending = PurePath(str(path).removesuffix(".gz")).suffix.lower()
    if path is not None and ending in FORMATS and ending not in endings:
        raise InputError(f"{option} {path}: expected a name that ends in {' or '.join(endings)}")


def check_not_negative(option: str, value: float | None) -> None:
    """Refuses a price or a count below 0.

    Raises:
        InputError: it is.
    """
    if value is not None and value < 0:
        raise InputError(f"{option} {value:g}, expected at least 0")


def check_different(option: str, paths: Sequence[str]) -> None:
    """Refuses a file that is given twice, and would be counted twice.

    Raises:
        InputError: one is.
    """
    seen: set[Path] = set()
    for path in paths:
        place = Path(path).absolute()
        if place in seen:
            raise InputError(f"{option} {path} is given twice")
        seen.add(place)
