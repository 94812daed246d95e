"""Tables of results as Markdown and as LaTeX (with the package booktabs)."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from exaranker.evaluate.cells import COMPARISON_HEADER, Cell, answered, cells, comparison_row, letters, note

LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}

Row = list[str]


def markdown(results: dict[str, Any]) -> str:
    """Two tables, the second of comparisons."""

    def shown(cell: Cell) -> str:
        value = f"**{cell.value}**" if cell.best else cell.value
        return f"{value}<sup>{cell.marks}</sup>" if cell.marks else value

    lines = _markdown_rows(["run", *results["measures"], "answered"], _mean_rows(results, _escape_markdown, shown))
    if results["comparisons"]:
        rows = [[_escape_markdown(word) for word in comparison_row(found)] for found in results["comparisons"]]
        lines += ["", *_markdown_rows(COMPARISON_HEADER, rows), "", note(results)]
    return "\n".join(lines)


def _markdown_rows(header: Row, rows: Sequence[Row]) -> list[str]:
    ruler = "|---|" + "---:|" * (len(header) - 1)
    return [f"| {' | '.join(header)} |", ruler, *(f"| {' | '.join(row)} |" for row in rows)]


def latex(results: dict[str, Any]) -> str:
    """Two tabulars, the second of comparisons."""

    def shown(cell: Cell) -> str:
        value = f"\\textbf{{{cell.value}}}" if cell.best else cell.value
        return f"{value}$^{{{cell.marks}}}$" if cell.marks else value

    header = ["run", *map(_escape_latex, results["measures"]), "answered"]
    lines = _latex_rows(header, _mean_rows(results, _escape_latex, shown))
    if results["comparisons"]:
        rows = [[_escape_latex(word) for word in comparison_row(found)] for found in results["comparisons"]]
        lines += ["", *_latex_rows([_escape_latex(word) for word in COMPARISON_HEADER], rows)]
        lines += ["", f"% {note(results)}"]
    return "\n".join(lines)


def _latex_rows(header: Row, rows: Sequence[Row]) -> list[str]:
    body = [f"{' & '.join(row)} \\\\" for row in rows]
    begin = f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}"
    return [begin, "\\toprule", f"{' & '.join(header)} \\\\", "\\midrule", *body, "\\bottomrule", "\\end{tabular}"]


def _mean_rows(results: dict[str, Any], escape: Callable[[str], str], shown: Callable[[Cell], str]) -> list[Row]:
    letter = letters(results) if results["comparisons"] else defaultdict(str)
    return [
        [f"{letter[run['name']]} {escape(run['name'])}".strip(), *map(shown, row), answered(results, run)]
        for run, row in zip(results["runs"], cells(results), strict=True)
    ]


def _escape_markdown(text: str) -> str:
    r"""Markdown that shows the text as it is.

    >>> print(_escape_markdown("a|b *c* <d>"))
    a\|b \*c\* \<d>
    """
    return re.sub(r"([\\\\`*_|<\[\]])", r"\\\1", text)


def _escape_latex(text: str) -> str:
    r"""LaTeX that shows the text as it is.

    >>> print(_escape_latex("lr_1 & 50%"))
    lr\_1 \& 50\%
    """
    return "".join(LATEX.get(char, char) for char in text)
