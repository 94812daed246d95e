#!/usr/bin/env python
"""The table of an experiment's runs, OUTPUT/runs/ARM.SEED.COLLECTION.trec: an arm's values are means over its seeds.

    python scripts/experiments/table.py out/runs dl19 --qrels qrels.txt --first run.bm25.txt --min_relevance 2 \
      [--plot means.svg]

All arms and the first stage are compared with each other over the same queries; p is corrected for all comparisons.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from exaranker.evaluate import plots
from exaranker.evaluate.measure_names import parse_measures
from exaranker.evaluate.measures import RunResult, evaluate_run, load_qrels
from exaranker.evaluate.results import named_run, summarise
from exaranker.evaluate.table import table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("collection")
    parser.add_argument("--qrels", type=Path, required=True)
    parser.add_argument("--first", type=Path, required=True)
    parser.add_argument("--min_relevance", type=int, default=1)
    parser.add_argument("--measures", nargs="+", default=["nDCG@10", "RR@10", "AP"])
    parser.add_argument("--baseline")
    parser.add_argument("--format", choices=("text", "markdown", "latex"), default="text")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="the means with their intervals: svg, png or pdf")
    args = parser.parse_args()
    measures, qrels = parse_measures(args.measures, args.min_relevance), load_qrels(args.qrels)
    arms = defaultdict(list)
    for path in sorted(args.runs.glob(f"*.{args.collection}.trec*")):
        arm, _seed, _collection = path.name.removesuffix(".gz").removesuffix(".trec").rsplit(".", 2)
        arms[arm].append(evaluate_run(qrels, path, arm, measures))
    runs = [evaluate_run(qrels, args.first, "first stage", measures), *map(over_seeds, arms.values())]
    baseline = named_run(runs, args.baseline) if args.baseline else None
    results = summarise("", args.qrels, qrels, runs, measures, baseline, args.min_relevance, {"skipped": ""})
    print(table(results, args.format))
    print("seeds: " + ", ".join(f"{arm} {len(seeds)}" for arm, seeds in arms.items()))
    print(*(each_seed(arm, seeds) for arm, seeds in arms.items()), sep="\n")
    if args.plot:
        plots.save(plots.means(results), args.plot)


def each_seed(arm: str, seeds: Sequence[RunResult]) -> str:
    """The means of every training of an arm."""
    measures = seeds[0].means
    return f"{arm}: " + "; ".join(
        f"{measure} " + ", ".join(f"{seed.means[measure]:.4f}" for seed in seeds) for measure in measures
    )


def over_seeds(seeds: Sequence[RunResult]) -> RunResult:
    """An arm's values: per query, the mean over its seeds."""
    first = seeds[0]
    per_query = {
        measure: {query: mean(seed.per_query[measure][query] for seed in seeds) for query in values}
        for measure, values in first.per_query.items()
    }
    return first._replace(
        per_query=per_query,
        means={measure: mean(values.values()) for measure, values in per_query.items()},
    )


if __name__ == "__main__":
    main()
