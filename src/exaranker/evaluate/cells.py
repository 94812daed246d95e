"""What every form of a table shows: means with the letters of the runs they are above, and comparisons as words."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from string import ascii_lowercase
from typing import Any, NamedTuple

from exaranker.evaluate.results import LEVEL

COMPARISON_HEADER = ["run", "against", "measure", "difference", "95 % interval", "d_z", "p", "p, Holm", "p, random."]


class Cell(NamedTuple):
    """A mean: as printed, the letters of the runs that it is significantly above, whether it is the column's best."""

    value: str
    marks: str
    best: bool


def letters(results: dict[str, Any]) -> dict[str, str]:
    """A letter for each run, by its name: a ... z, aa, ab, ..."""
    names = [run["name"] for run in results["runs"]]
    return {name: _letter(number) for number, name in enumerate(names)}


def cells(results: dict[str, Any]) -> list[list[Cell]]:
    """A row for each run, a cell for each measure."""
    above = _above(results)
    best = {m: max(run["means"][m] for run in results["runs"]) for m in results["measures"]}
    return [
        [
            Cell(value_text(run["means"][m]), _span(above[run["name"], m]), run["means"][m] == best[m])
            for m in results["measures"]
        ]
        for run in results["runs"]
    ]


def value_text(mean: float) -> str:
    """A mean to 4 decimals, a count whole.

    >>> value_text(0.42998), value_text(4300)
    ('0.4300', '4,300')
    """
    return f"{mean:,}" if isinstance(mean, int) else f"{mean:.4f}"


def p_text(p_value: float) -> str:
    """Never 0: that a difference is luck is unlikely, not impossible.

    >>> p_text(0.03046), p_text(0.00004)
    ('0.0305', '< 0.0001')
    """
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.4f}"


def effect_text(effect_size: float | None) -> str:
    """An effect size with its sign.

    >>> effect_text(0.5), effect_text(None)
    ('+0.50', '–')
    """
    return "–" if effect_size is None else f"{effect_size:+.2f}"


def note(results: dict[str, Any]) -> str:
    """How the marks and the p-values are to be read."""
    count = len(results["comparisons"])
    if not count:
        return ""
    return (
        f"A letter after a value: above that run, paired t-test, p < {LEVEL} after Holm's correction for "
        f"{count:,} comparison{'s' if count > 1 else ''}; intervals: 95 %, bootstrap over queries."
    )


def answered(results: dict[str, Any], run: dict[str, Any]) -> str:
    """Queries of the qrels that a run answers."""
    total = results["qrels"]["queries"]
    return f"{total - len(run['missing_queries'])}/{total}"


def comparison_row(found: dict[str, Any]) -> list[str]:
    """The cells below COMPARISON_HEADER."""
    figures = [f"{found['difference']:+.4f}", f"{found['low']:+.4f} … {found['high']:+.4f}"]
    p_values = [p_text(found[name]) for name in ("p_t_test", "p_holm", "p_randomisation")]
    return [found["run"], found["against"], found["measure"], *figures, effect_text(found["effect_size"]), *p_values]


def _above(results: dict[str, Any]) -> dict[tuple[str, str], list[int]]:
    """By (run, measure): the numbers of the runs that it is significantly above."""
    numbers = {run["name"]: number for number, run in enumerate(results["runs"])}
    above = defaultdict(list)
    for found in results["comparisons"]:
        if found["p_holm"] < LEVEL:
            winner, loser = (found["run"], found["against"])[:: 1 if found["difference"] > 0 else -1]
            above[winner, found["measure"]].append(numbers[loser])
    return above


def _letter(number: int) -> str:
    """The name of the n-th run in marks.

    >>> [_letter(number) for number in (0, 25, 26, 27)]
    ['a', 'z', 'aa', 'ab']
    """
    return (_letter(number // 26 - 1) if number >= 26 else "") + ascii_lowercase[number % 26]


def _span(numbers: Sequence[int]) -> str:
    """The letters of runs, three or more neighbours as a span.

    >>> _span([3, 0, 2, 1, 5]), _span([0, 1]), _span([25, 26])
    ('a-d,f', 'ab', 'z,aa')
    """
    neighbours = [[n for _, n in group] for _, group in groupby(enumerate(sorted(numbers)), lambda p: p[1] - p[0])]
    parts = [
        part
        for run in neighbours
        for part in ([f"{_letter(run[0])}-{_letter(run[-1])}"] if len(run) > 2 else map(_letter, run))
    ]
    return ("" if all(len(part) == 1 for part in parts) else ",").join(parts)
