"""An explanation dataset as one HTML page without scripts: the figures, then explanations beside their passages."""

from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

from exaranker.errors import require
from exaranker.preprocess.inspect.inspection import BIN_WIDTH, Inspection, rejected_rows
from exaranker.preprocess.inspect.report import report

MAX_REJECTED = 50  # shown; all are in the side files
TEMPLATE = "page.html.j2"


class Bar(NamedTuple):
    """One bar of the chart of lengths: from how many words on, how many explanations, and its height."""

    low: int
    explanations: int
    percent: float


def page(found: Inspection, usd_per_hour: float | None = None) -> str:
    """Passages come from anywhere: the template escapes whatever it shows, and the page allows no scripts."""
    jinja2: Any = require("jinja2", "explain")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("exaranker.preprocess.inspect", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    text: str = environment.get_template(TEMPLATE).render(
        directory=found.directory,
        figures=report(replace(found, examples=[]), usd_per_hour),
        bars=_bars(found),
        examples=found.examples,
        rejected=list(islice(rejected_rows(found.directory, found.manifest), MAX_REJECTED)),
    )
    return text + "\n"


def _bars(found: Inspection) -> list[Bar]:
    top = max(found.lengths.values(), default=1)
    bins = range(max(found.lengths, default=-1) + 1)
    return [Bar(i * BIN_WIDTH, found.lengths[i], 100 * found.lengths[i] / top) for i in bins]
