#!/usr/bin/env python
"""Draws the label loss of trainings over their steps: arms compare where theirs have come equally far.

    python scripts/experiments/curves.py OUTPUT/models/*/metrics.jsonl --output curves.svg

A file is called after its folder. Points are means over `--smooth` of its lines; the last ones are printed.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from exaranker.evaluate import plots
from exaranker.evaluate.report_data import read_curves

FIGURE = "label_loss"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics", type=Path, nargs="+", help="metrics.jsonl of trainings")
    parser.add_argument("--output", type=Path, required=True, help="the plot: svg, png or pdf")
    parser.add_argument("--smooth", type=int, default=10, metavar="N", help="lines in a point (default: %(default)s)")
    args = parser.parse_args()
    series = {path.parent.name: smoothed(read_curves(path)[FIGURE]["train"], args.smooth) for path in args.metrics}
    plots.save(plots.curves(series, f"{FIGURE} of training"), args.output)
    for cell, points in series.items():
        step, value = points[-1]
        print(f"{cell}: {FIGURE} {value:.3f} at step {step}")


def smoothed(points: Sequence[tuple[int, float]], size: int) -> list[tuple[int, float]]:
    """Each point's mean with those before it, from the first on that has `size` of them or, if none has, the last.

    >>> smoothed([(10, 4.0), (20, 2.0), (30, 1.0)], 2)
    [(20, 3.0), (30, 1.5)]
    """
    ends = range(min(size, len(points)), len(points) + 1)
    return [(points[end - 1][0], mean(value for _, value in points[max(0, end - size) : end])) for end in ends]


if __name__ == "__main__":
    main()
