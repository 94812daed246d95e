"""results.json and explanations as one HTML file that needs nothing else: plots, tables, texts.

Passages and explanations are untrusted: everything is escaped, and the page allows no scripts and no loading.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from exaranker.errors import InputError
from exaranker.evaluate import plots
from exaranker.evaluate.cells import effect_text, p_text, value_text
from exaranker.files import read_lines

TEMPLATE = "report.html.j2"
EXPLANATION_FIELDS = {"query_id": str, "doc_id": str, "rank": int, "score": float, "label": str, "explanation": str}


def read_explanations(path: str | Path) -> list[dict[str, Any]]:
    """Reads the JSONL that `exaranker rerank --explain_top_k` writes.

    Raises:
        InputError: a line is not such an object.
    """
    rows = []
    for number, line in read_lines(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"not valid JSON: {error}", path=path, line=number) from error
        if not isinstance(row, dict) or not all(isinstance(row.get(f), kind) for f, kind in EXPLANATION_FIELDS.items()):
            fields = ", ".join(f"{field} ({kind.__name__})" for field, kind in EXPLANATION_FIELDS.items())
            raise InputError(f"expected an object with {fields}", path=path, line=number)
        rows.append(row)
    return rows


def render(
    results: Sequence[dict[str, Any]],
    explanations: Sequence[Mapping[str, Any]] = (),
    queries: Mapping[str, str] | None = None,
    passages: Mapping[str, str] | None = None,
) -> str:
    """The whole page; texts of queries and passages are shown where they are given."""
    environment = Environment(
        loader=PackageLoader("exaranker.evaluate", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"p": p_text, "effect": effect_text, "value": value_text}
    return environment.get_template(TEMPLATE).render(
        results=[_with_plots(result) for result in results],
        explanations=_by_query(explanations),
        queries=queries or {},
        passages=passages or {},
    )


def _by_query(explanations: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """In the order of the file; jinja's own `groupby` would sort, and take q1 and Q1 for one."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in explanations:
        groups.setdefault(row["query_id"], []).append(row)
    return groups


def _with_plots(result: dict[str, Any]) -> dict[str, Any]:
    runs = result["runs"]
    measures = result["measures"]
    return {
        **result,
        "trec_eval": {"skipped": None, **result["trec_eval"]},
        "means_plot": _inline(plots.means(result)),
        "difference_plots": [_inline(plots.differences(runs[0], run, measures[0])) for run in runs[1:]],
    }


def _inline(figure: Figure) -> str:
    """A figure as a data URI."""
    return "data:image/svg+xml;base64," + base64.b64encode(plots.render(figure, "svg")).decode()
