"""exaranker evaluate."""

import argparse
import os
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from exaranker.commands.collection_flag import add_collection, fill
from exaranker.commands.flag_checks import check_ending
from exaranker.commands.text_flags import add_identical_ids
from exaranker.errors import InputError, require
from exaranker.files import claim_outputs, named, write_json
from exaranker.logs import say, show

SUMMARY = """Measures of runs against qrels, over all judged queries, with paired tests between all runs.
A checkpoint's own metrics on a SeqIO task are `exaranker eval`'s.
With pyserini and a JDK >= 21, its trec_eval must give the same figures to 4 decimals."""
EXAMPLE = (
    "exaranker evaluate --qrels examples/sample/qrels.txt --run out/bm25.trec out/reranked.trec "
    "--measures nDCG@10 RR@10 --output out/results.json"
)
DEFAULT_MEASURES = ("nDCG@10", "RR@10", "MAP", "R@100")
PLOTS = (".png", ".svg", ".pdf")
FORMATS = ("text", "markdown", "latex")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `exaranker evaluate`."""
    parser.add_argument("--qrels", metavar="FILE", help="TREC qrels, or BEIR's TSV")
    add_collection(parser)
    parser.add_argument("--run", required=True, nargs="+", metavar="[NAME=]RUN", help="TREC runs")
    parser.add_argument(
        "--baseline", metavar="RUN", help="compare the other runs with this one, by name (default: all pairs of runs)"
    )
    parser.add_argument(
        "--measures",
        nargs="+",
        metavar="M",
        help="names of ir-measures or trec_eval, in the order of the table "
        f"(default: the collection's, or {' '.join(DEFAULT_MEASURES)})",
    )
    parser.add_argument(
        "--min_relevance",
        type=int,
        metavar="N",
        help="grade from which binary measures count a passage as relevant (default: the collection's, or 1)",
    )
    add_identical_ids(parser)
    parser.add_argument("--format", choices=FORMATS, default="text", help="of the table (default: %(default)s)")
    parser.add_argument("--output", metavar="JSON", help="results.json to write: values per query, tests, digests")
    parser.add_argument("--per_query", metavar="CSV", help="values to write: a row per run and query")
    parser.add_argument("--plot", metavar="FILE", help="plot of the means to write (png, svg or pdf)")


def run(args: argparse.Namespace) -> None:
    """Evaluates, prints the table, and writes what was asked for."""
    check_ending("--output", args.output, ".json")
    check_ending("--per_query", args.per_query, ".csv")
    _use_collection(args)
    read = [args.qrels, *(path for _, path in _named(args.run))]
    with claim_outputs(args.output, args.per_query, args.plot, inputs=read):
        _run(args)


def _run(args: argparse.Namespace) -> None:
    for module in ("ir_measures", "scipy", *(["matplotlib"] if args.plot else [])):
        require(module, "evaluate")
    from exaranker.evaluate.results import write_per_query
    from exaranker.evaluate.table import remarks, table

    if args.plot and Path(args.plot).suffix not in PLOTS:
        raise InputError(f"--plot {args.plot}: expected a name that ends in {', '.join(PLOTS)}")
    results = _evaluate(args)
    show(table(results, args.format))
    say(remarks(results))
    if args.output:
        write_json(args.output, results)
    if args.per_query:
        write_per_query(args.per_query, results)
    if args.plot:
        from exaranker.evaluate import plots

        plots.save(plots.means(results), args.plot)


def _use_collection(args: argparse.Namespace) -> None:
    """Its qrels, measure, relevance level and rule on identical ids, where nothing else is said."""
    fill(args, "qrels")
    measures, level = list(DEFAULT_MEASURES), 1
    if args.collection:
        from exaranker.evaluate.collections import collection

        of = collection(args.collection)
        measures, level = [of.measure], of.min_relevance
        args.ignore_identical_ids |= of.ignore_identical_ids
    args.measures = args.measures or measures
    args.min_relevance = level if args.min_relevance is None else args.min_relevance


def _evaluate(args: argparse.Namespace) -> dict[str, Any]:
    from exaranker.evaluate import trec_eval
    from exaranker.evaluate.measure_names import parse_measures
    from exaranker.evaluate.measures import evaluate_run, load_qrels
    from exaranker.evaluate.results import named_run, summarise

    measures = parse_measures(args.measures, args.min_relevance)
    qrels = load_qrels(args.qrels)
    runs = [evaluate_run(qrels, path, name, measures, args.ignore_identical_ids) for name, path in _named(args.run)]
    baseline = named_run(runs, args.baseline) if args.baseline else None
    second = trec_eval.describe()
    if "skipped" not in second:
        second["means"] = trec_eval.check(qrels, runs, measures, args.min_relevance)
    return summarise(_command(args), args.qrels, qrels, runs, measures, baseline, args.min_relevance, second)


def _command(args: argparse.Namespace) -> str:
    """The flags that the figures depend on, as they would be typed."""
    words = ["exaranker", "evaluate", "--qrels", str(args.qrels), "--run", *args.run, "--measures", *args.measures]
    words += ["--min_relevance", str(args.min_relevance)]
    words += ["--baseline", args.baseline] if args.baseline else []
    return named(shlex.join([*words, *(["--ignore_identical_ids"] if args.ignore_identical_ids else [])]))


def _named(words: list[str]) -> list[tuple[str, str]]:
    """(name, path) of each --run word; without NAME= the file's name, or its whole path if another run has that name.

    >>> _named(["bm25=a/run.trec", "b/out.trec"])
    [('bm25', 'a/run.trec'), ('out', 'b/out.trec')]
    >>> _named(["bm25=a/run.trec", "b/run.trec", "c/run.trec"])
    [('bm25', 'a/run.trec'), ('b/run.trec', 'b/run.trec'), ('c/run.trec', 'c/run.trec')]
    """
    given = [_name_and_path(word) for word in words]
    count = Counter(name or Path(path).stem for name, path in given)
    runs = [(name or (Path(path).stem if count[Path(path).stem] == 1 else path), path) for name, path in given]
    if len(set(runs)) < len(runs):
        raise InputError(f"--run lists a run twice: {' '.join(words)}")
    if len({name for name, _ in runs}) < len(runs):
        raise InputError(f"--run has one name for two runs: {' '.join(words)}", hint="NAME=RUN names a run")
    return runs


def _name_and_path(word: str) -> tuple[str | None, str]:
    """A file's own name, or its folder's, may have a "=" too: out/lr=0.1/run.trec."""
    name, equals, path = word.partition("=")
    if not equals or "/" in name or Path(word).is_file():
        return None, word
    if not name.strip():
        raise InputError(f"--run {word!r} has an empty name", hint="NAME=RUN, or the path alone")
    return name, os.path.expanduser(path)
