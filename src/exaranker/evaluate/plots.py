"""Plots of results: means with intervals, and differences query by query."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from exaranker.files import write_bytes

# Names of runs are text, not formulas between dollar signs; the same figure gives the same SVG.
matplotlib.rcParams.update({"text.parse_math": False, "svg.hashsalt": "exaranker"})

COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860")


def means(results: Mapping[str, Any]) -> Figure:
    """Bars: one group per measure, one bar per run, from results.json."""
    runs, measures = results["runs"], results["measures"]
    figure, axes = plt.subplots(figsize=(1.2 + 1.4 * len(measures), 3.2), layout="constrained")
    width = 0.8 / len(runs)
    for number, run in enumerate(runs):
        left = [group + (number - (len(runs) - 1) / 2) * width for group in range(len(measures))]
        heights = [run["means"][measure] for measure in measures]
        bars = axes.bar(left, heights, width, label=run["name"], color=COLOURS[number % len(COLOURS)])
        axes.bar_label(bars, fmt="%.3f", fontsize=7)
    axes.set_xticks(range(len(measures)), measures)
    axes.margins(y=0.25)  # room for the legend
    axes.set_ylabel("mean over judged queries")
    axes.legend(fontsize=8)
    return figure


def differences(first: Mapping[str, Any], other: Mapping[str, Any], measure: str) -> Figure:
    """Bars sorted by size: each judged query's difference between two runs of results.json."""
    base, values = first["per_query"][measure], other["per_query"][measure]
    ordered = sorted((values[query_id] - base[query_id] for query_id in base), reverse=True)
    figure, axes = plt.subplots(figsize=(6, 2.6), layout="constrained")
    axes.bar(range(len(ordered)), ordered, width=1.0, color=[COLOURS[0 if d > 0 else 3] for d in ordered])
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xlabel(f"{len(ordered)} queries, sorted")
    axes.set_ylabel(f"{measure} difference")
    axes.set_title(f"{other['name']} − {first['name']}", fontsize=9)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Writes a figure in the format of its suffix (png, svg, pdf), whole or not at all."""
    write_bytes(path, render(figure, Path(path).suffix.removeprefix(".")))


def render(figure: Figure, form: str) -> bytes:
    """Draws and closes a figure."""
    stream = BytesIO()
    figure.savefig(stream, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)
    plt.close(figure)
    return stream.getvalue()
