"""An explanation dataset as one HTML page without scripts: the figures, then explanations beside their passages."""

from collections.abc import Iterable
from dataclasses import replace
from html import escape
from itertools import islice
from typing import Any

from exaranker.preprocess.inspect.inspection import BIN_WIDTH, Inspection, rejected_rows
from exaranker.preprocess.inspect.report import report
from exaranker.schema import ExplainedPair

MAX_REJECTED = 50  # shown; all are in the side files

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto }
table { border-collapse: collapse; width: 100%; table-layout: fixed }
th, td { text-align: left; vertical-align: top; padding: .5rem; border-top: 1px solid #ddd }
td { overflow-wrap: anywhere; unicode-bidi: isolate }
th:first-child, td:first-child { width: 8rem }
.bars { display: flex; align-items: flex-end; gap: 4px; height: 10rem }
.bars div { flex: 1; background: #4a7fb5 }
.axis { display: flex; gap: 4px; font-size: 12px } .axis span { flex: 1 }
.yes { color: #176b2c } .no { color: #9c2b1c }
"""


def page(found: Inspection, usd_per_hour: float | None = None) -> str:
    """Every text in it is escaped: passages come from anywhere."""
    figures = report(replace(found, examples=[]), usd_per_hour)
    title = f"Explanations: {escape(str(found.directory))}"
    rejected = list(islice(rejected_rows(found.directory, found.manifest), MAX_REJECTED))
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>",
        f"<h1>{title}</h1><pre>{escape(figures)}</pre>",
        f"<h2>Length in words</h2>{_chart(found)}",
        f"<h2>{len(found.examples)} explanations</h2>{_table('label', 'explanation', map(_example, found.examples))}",
    ]
    if rejected:
        parts.append(f"<h2>Rejected</h2>{_table('reason', 'text', map(_rejected, rejected))}")
    return "\n".join(parts) + "</html>\n"


def _chart(found: Inspection) -> str:
    top = max(found.lengths.values(), default=1)
    bins = range(max(found.lengths, default=-1) + 1)
    bars = "".join(
        f"<div style='height:{100 * found.lengths[i] / top:.1f}%' title='{found.lengths[i]}'></div>" for i in bins
    )
    labels = "".join(f"<span>{i * BIN_WIDTH}</span>" for i in bins)
    return f"<div class='bars'>{bars}</div><div class='axis'>{labels}</div>"


def _table(first: str, last: str, rows: Iterable[str]) -> str:
    return f"<table><tr><th>{first}<th>question<th>passage<th>{last}</tr>{''.join(rows)}</table>"


def _example(row: ExplainedPair) -> str:
    kind, word = ("yes", "relevant") if row.relevant else ("no", "not relevant")
    texts = "".join(f"<td>{escape(text)}" for text in (row.query, row.passage, row.explanation))
    return f"<tr><td class='{kind}'>{word} ({row.label}){texts}</tr>"


def _rejected(row: dict[str, Any]) -> str:
    texts = "".join(f"<td>{escape(row[name])}" for name in ("query", "passage", "text"))
    return f"<tr><td>{escape(row['reason'])} ({row['label']}){texts}</tr>"
