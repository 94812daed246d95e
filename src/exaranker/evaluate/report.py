"""results.json and explanations as one HTML file that needs nothing else: plots, tables, texts.

Passages and explanations are untrusted: everything is escaped, and the page runs one script, its own, by its digest.
Everything but the filter of explanations is there without it.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from exaranker import __version__
from exaranker.evaluate import plots
from exaranker.evaluate.cells import (
    COMPARISON_HEADER,
    answered,
    cells,
    comparison_row,
    effect_text,
    letters,
    note,
    value_text,
)
from exaranker.evaluate.report_data import Grades, explained, extremes, grades, judged_scores

TEMPLATE = "report.html.j2"
MAX_PAIRS = 6  # comparisons whose queries are shown
MAX_JUDGED = 8  # runs whose scores are shown
CURVES = ("loss", "label_loss", "explanation_loss", "label_accuracy", "learning_rate", "gradient_norm")


@dataclass(frozen=True)
class Extras:
    """What stands in the report beside the results."""

    title: str
    date: str
    explanations: Sequence[Mapping[str, Any]] = ()
    queries: Mapping[str, str] = field(default_factory=dict)
    passages: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]] = field(default_factory=dict)
    stages: Sequence[Mapping[str, Any]] = ()  # {"command", "seconds"}
    checkpoints: Sequence[Sequence[str]] = ()  # folder, model, template, step
    usd_per_hour: float | None = None


def render(results: Sequence[dict[str, Any]], extras: Extras) -> str:
    """The whole page; texts of queries and passages are shown where they are given."""
    grade = grades(results[0])
    shown = explained(extras.explanations, results[0], grade)
    rows = [row for group in shown.values() for row in group]
    script = _packaged("report.js")
    return _environment().get_template(TEMPLATE).render(
        **{name: getattr(extras, name) for name in ("title", "date", "queries", "passages", "checkpoints")},
        version=__version__,
        style=Markup(_packaged("report.css")),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        results=[_with_plots(result, grade if result is results[0] else grades(result)) for result in results],
        comparison_header=COMPARISON_HEADER,
        explanations=shown,
        explained_count=len(rows),
        disagreements=sum(row["disagrees"] for row in rows),
        labels=sorted({row["label"] for row in rows}),
        first_run=results[0]["runs"][0]["name"],
        curves=[_inline(figure) for figure in _curves(extras)],
        stages=[*extras.stages, *({"command": result["command"], "seconds": None} for result in results)],
        cost=_cost(extras),
    )  # fmt: skip


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("exaranker.evaluate", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"value": value_text, "effect": effect_text, "answered": answered, "note": note}
    environment.filters |= {"comparison_row": comparison_row}
    return environment


def _packaged(name: str) -> str:
    return (files("exaranker.evaluate") / name).read_text()


def _with_plots(result: dict[str, Any], grade: Grades) -> dict[str, Any]:
    return {
        **result,
        "trec_eval": {"skipped": None, **result["trec_eval"]},
        "letters": letters(result),
        "rows": list(zip(result["runs"], cells(result), strict=True)),
        "mean_plots": [_inline(plots.means(result, [measure])) for measure in _compared(result)],
        "pairs": [_pair(result, found) for found in _shown_pairs(result)],
        "score_plots": [_inline(figure) for figure in _score_plots(result, grade)],
    }


def _compared(result: dict[str, Any]) -> list[str]:
    """The measures that are means, not counts."""
    return [measure for measure in result["measures"] if measure in result["runs"][0]["intervals"]]


def _shown_pairs(result: dict[str, Any]) -> list[dict[str, Any]]:
    """By the first measure: what is compared with the baseline, or else with the first run."""
    first = result["baseline"] or result["runs"][0]["name"]
    measures = _compared(result)[:1]
    found = [row for row in result["comparisons"] if row["against"] == first and row["measure"] in measures]
    return found[:MAX_PAIRS]


def _pair(result: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    values = {run["name"]: run["per_query"][found["measure"]] for run in result["runs"]}
    before, after = values[found["against"]], values[found["run"]]
    title = f"{found['run']} − {found['against']}"
    gains, losses = extremes(result, found)
    figure = plots.differences([after[query] - before[query] for query in before], title, found["measure"])
    return {"title": title, "plot": _inline(figure), "gains": gains, "losses": losses}


def _score_plots(result: dict[str, Any], grade: Grades) -> Iterator[Figure]:
    for number, run in enumerate(judged_scores(result, grade)):
        if number < MAX_JUDGED:
            yield plots.score_distributions(run.scores, run.name)
            if run.reliability:
                yield plots.reliability(run.reliability, f"{run.name}: reliability")


def _curves(extras: Extras) -> Iterator[Figure]:
    for name in CURVES:
        series = {
            f"{run}, {split}": points
            for run, figures in extras.metrics.items()
            for split, points in figures.get(name, {}).items()
        }
        if series:
            yield plots.curves(series, name)


def _cost(extras: Extras) -> str:
    """Hours and, with a price, US dollars of the stages.

    >>> _cost(Extras("", "", stages=[{"command": "x", "seconds": 5400.0}], usd_per_hour=2.0))
    'All stages: 1.50 hours, 3.00 USD at 2.00 USD per hour.'
    """
    seconds = sum(stage["seconds"] or 0 for stage in extras.stages)
    if not seconds:
        return ""
    price = extras.usd_per_hour
    usd = "" if price is None else f", {seconds / 3600 * price:.2f} USD at {price:.2f} USD per hour"
    return f"All stages: {seconds / 3600:.2f} hours{usd}."


def _inline(figure: Figure) -> Markup:
    return Markup(plots.inline(figure))
