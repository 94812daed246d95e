"""exaranker report."""

import argparse
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from exaranker.commands.flag_checks import check_different, check_ending, check_not_negative
from exaranker.errors import InputError, require
from exaranker.files import claim_outputs, read_json, write_text
from exaranker.logs import show, warn
from exaranker.texts.rows import read_texts

SUMMARY = """One self-contained HTML page to show to others: tables, plots, paired tests, queries that gain and lose,
training curves, and explanations beside their passages."""
EXAMPLE = (
    "exaranker report out/results.json --queries examples/sample/queries.tsv "
    "--passages examples/sample/passages.tsv --output out/report.html"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `exaranker report`."""
    parser.add_argument("results", nargs="+", metavar="RESULTS", help="results.json of `exaranker evaluate`")
    parser.add_argument("--output", required=True, metavar="HTML", help="page to write")
    parser.add_argument("--title", default="Reranking results", help="of the page (default: %(default)s)")
    today = date.today().isoformat()
    parser.add_argument("--date", type=_day, default=today, metavar="YYYY-MM-DD", help="(default: today)")
    parser.add_argument("--explanations", metavar="JSONL", help="what `exaranker rerank --explain_top_k` wrote")
    parser.add_argument("--queries", metavar="FILE", help="TSV or JSONL, to show the questions")
    parser.add_argument("--passages", metavar="FILE", help="TSV or JSONL, to show the explained passages")
    parser.add_argument(
        "--metrics", nargs="+", default=[], metavar="JSONL", help="metrics.jsonl of trainings, to show their curves"
    )
    parser.add_argument("--checkpoint", nargs="+", default=[], metavar="DIR", help="models to name")
    parser.add_argument(
        "--stages",
        nargs="+",
        default=[],
        metavar="JSON",
        help='commands to name: {"command", "seconds"}, or the demo\'s',
    )
    parser.add_argument("--usd_per_hour", type=float, metavar="N", help="price of the machine, for the cost of stages")


def run(args: argparse.Namespace) -> None:
    """Reads what is to be shown and writes the page."""
    for module in ("jinja2", "matplotlib"):
        require(module, "evaluate")
    check_ending("--output", args.output, ".html", ".htm")
    check_not_negative("--usd_per_hour", args.usd_per_hour)
    check_different("RESULTS", args.results)
    check_different("--metrics", args.metrics)
    check_different("--stages", args.stages)
    check_different("--checkpoint", args.checkpoint)
    read = [*args.results, args.explanations, args.queries, args.passages, *args.metrics, *args.stages]
    with claim_outputs(args.output, inputs=read):
        _write(args)
    show(args.output)


def _write(args: argparse.Namespace) -> None:
    from exaranker.evaluate import report, report_data
    from exaranker.evaluate.results import read_results

    results = [read_results(path) for path in args.results]
    explanations = report_data.read_explanations(args.explanations) if args.explanations else []
    explained = {row["doc_id"] for row in explanations}
    queries = read_texts(args.queries, part="queries") if args.queries else {}
    judged = {query for result in results for values in result["runs"][0]["per_query"].values() for query in values}
    if args.queries and judged.isdisjoint(queries):
        warn(f"{args.queries} has none of the queries of these results: ids are shown in the place of questions")
    extras = report.Extras(
        title=args.title,
        date=args.date,
        explanations=explanations,
        queries=queries,
        passages=read_texts(args.passages, wanted=explained) if args.passages else {},
        metrics={name: report_data.read_curves(path) for name, path in _run_names(args.metrics).items()},
        stages=[_stage(path) for path in args.stages],
        checkpoints=[_checkpoint(path) for path in args.checkpoint],
        usd_per_hour=args.usd_per_hour,
    )
    write_text(args.output, report.render(results, extras))


def _day(given: str) -> str:
    try:
        return date.fromisoformat(given).isoformat()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{given!r} is not a day, such as 2026-01-31") from error


def _run_names(paths: Sequence[str]) -> dict[str, str]:
    """The metrics of trainings, called by their folders, with the folders above where those have the same name.

    >>> _run_names(["out/label/metrics.jsonl", "out/explained/metrics.jsonl"])
    {'label': 'out/label/metrics.jsonl', 'explained': 'out/explained/metrics.jsonl'}
    >>> list(_run_names(["out/a/model/metrics.jsonl", "out/b/model/metrics.jsonl"]))
    ['a/model', 'b/model']
    """
    folders = [Path(path).absolute().parent.parts for path in paths]
    longest = max(map(len, folders), default=0)
    for depth in range(1, longest + 1):
        names = ["/".join(parts[-depth:]) for parts in folders]
        if len(set(names)) == len(names):
            return dict(zip(names, paths, strict=True))
    return {path: path for path in paths}


def _stage(path: str) -> dict[str, Any]:
    values = read_json(path)
    command = values.get("command", values.get("key", {}).get("command")) if isinstance(values, dict) else None
    if not isinstance(command, str) or not isinstance(values.get("seconds"), int | float):
        raise InputError('expected {"command": "exaranker ...", "seconds": 12.5}', path=path)
    return {"command": command, "seconds": values["seconds"]}


def _checkpoint(path: str) -> list[str]:
    require("orbax.checkpoint", "train")
    from exaranker.checkpoints.folder import load_card

    card = load_card(path)
    return [path, type(card.config).__name__, card.template.name, str(card.step)]
