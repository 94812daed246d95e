"""Plots of results, legible from 2 to 40 runs: a row for every run, and names in any script."""

import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib import font_manager
from matplotlib.figure import Figure

from exaranker.files import write_bytes
from exaranker.logs import warn

INK = "#222222"  # of lines and letters: the page's own colour takes its place, so that dark mode turns it
COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860")
FALLBACKS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Noto Sans Arabic",
    "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Sans", "Noto Emoji", "FreeSans", "Unifont",
)  # fmt: skip
FONTS = ["DejaVu Sans", *(name for name in FALLBACKS if name in set(font_manager.get_font_names()))]
MAX_NAME = 36  # characters of a run's name

# Names of runs are text, not formulas between dollar signs; the same figure gives the same SVG, whose letters stay
# letters: a browser has more fonts than the machine that draws.
STYLE: dict[Any, Any] = (
    {"text.parse_math": False, "svg.hashsalt": "exaranker", "svg.fonttype": "none", "font.family": FONTS}
    | dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    | {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": "none"}
    | {"axes.facecolor": "none", "legend.frameon": False, "savefig.facecolor": "none"}
)
matplotlib.rcParams.update(STYLE)


def means(results: Mapping[str, Any], measures: Sequence[str] | None = None) -> Figure:
    """A dot with its 95 % interval for every run; a column for every measure of results.json."""
    runs, measures = results["runs"], measures or results["measures"]
    names = [_short(run["name"]) for run in runs]
    left, width, height = 0.1 + _inches(names), 2.9 * len(measures), 0.7 + 0.24 * len(runs)
    figure, grid = plt.subplots(1, len(measures), sharey=True, squeeze=False, figsize=(left + width, height))
    figure.subplots_adjust(left / (left + width), 0.42 / height, 1 - 0.15 / (left + width), 1 - 0.28 / height)
    for axes, measure in zip(grid[0], measures, strict=True):
        for row, run in enumerate(runs):
            mean = run["means"][measure]
            low, high = run["intervals"].get(measure, (mean, mean))
            axes.plot([low, high], [row, row], color=COLOURS[0], linewidth=1.4)
            axes.plot([mean], [row], "o", color=COLOURS[0], markersize=5)
        axes.set_title(measure, fontsize=10)
        axes.set_ylim(len(runs) - 0.5, -0.5)
        axes.grid(axis="x", alpha=0.25)
    grid[0][0].set_yticks(range(len(runs)), names)
    return figure


def differences(values: Sequence[float], title: str, measure: str) -> Figure:
    """Bars sorted by size: each judged query's difference between two runs."""
    ordered = sorted(values, reverse=True)
    figure, axes = plt.subplots(figsize=(4.8, 2.4), layout="constrained")
    axes.bar(range(len(ordered)), ordered, width=1.0, color=[COLOURS[0 if d > 0 else 3] for d in ordered])
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.set_xlabel(f"{len(ordered)} queries, sorted")
    axes.set_ylabel(f"{measure} difference")
    axes.set_title(title, fontsize=10)
    return figure


def score_distributions(scores: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Histograms of a run's scores, one line for each kind of judgement, each of area 1."""
    figure, axes = plt.subplots(figsize=(4.8, 2.4), layout="constrained")
    every = [score for group in scores.values() for score in group]
    for number, (name, group) in enumerate(scores.items()):
        if group:
            label, limits = f"{name} ({len(group):,})", (min(every), max(every))
            axes.hist(group, bins=30, range=limits, density=True, histtype="step", label=label, color=COLOURS[number])
    axes.set_xlabel("score")
    axes.set_yticks([])
    axes.legend(fontsize=8)
    axes.set_title(title, fontsize=10)
    return figure


def reliability(bins: Sequence[tuple[float, float, int]], title: str) -> Figure:
    """The share of relevant passages beside the ranker's mean probability; a calibrated ranker is on the diagonal."""
    figure, axes = plt.subplots(figsize=(4.8, 2.9), layout="constrained")
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.6, linestyle="dashed")
    axes.plot([p for p, _, _ in bins], [share for _, share, _ in bins], color=COLOURS[0], linewidth=1)
    largest = max(count for _, _, count in bins)
    for probability, share, count in bins:
        axes.plot([probability], [share], "o", color=COLOURS[0], markersize=3 + 6 * (count / largest) ** 0.5)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability of relevance", ylabel="judged relevant")
    axes.set_title(title, fontsize=10)
    return figure


def curves(series: Mapping[str, Sequence[tuple[int, float]]], name: str) -> Figure:
    """A figure of training over its steps, one line for each run and split."""
    figure, axes = plt.subplots(figsize=(4.8, 2.4), layout="constrained")
    for number, (label, points) in enumerate(series.items()):
        steps, values = zip(*points, strict=True)
        marker = "o" if len(points) < 10 else ""
        axes.plot(steps, values, marker=marker, markersize=3, linewidth=1, label=_short(label), color=_colour(number))
    axes.set_xlabel("step")
    axes.set_title(name, fontsize=10)
    axes.legend(fontsize=8)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Writes a figure in the format of its suffix (png, svg, pdf), whole or not at all."""
    figure.set_facecolor("white")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = render(figure, Path(path).suffix.removeprefix("."), "white")
    if any("missing from font" in str(warning.message) for warning in caught):
        warn(f"{path}: no font here has some letters of these names: install fonts-noto-cjk, or plot to SVG")
    write_bytes(path, data)


def inline(figure: Figure) -> str:
    """An `<svg>` element whose lines and letters have the colour of the text around it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the browser has the letters that are missing here
        svg = render(figure, "svg", "none").decode()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def render(figure: Figure, form: str, background: str) -> bytes:
    """Draws and closes a figure."""
    stream = BytesIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type")) if form == "svg" else None
    figure.savefig(stream, format=form, dpi=150, metadata=metadata, facecolor=background)
    plt.close(figure)
    return stream.getvalue()


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _inches(names: Sequence[str]) -> float:
    """Room for the longest name at 10 points, whatever fonts are here."""
    return max(sum(_ems(char) for char in name) for name in names) * 10 / 72


def _ems(char: str) -> float:
    return 1.05 if unicodedata.east_asian_width(char) in "WF" else 0.66
