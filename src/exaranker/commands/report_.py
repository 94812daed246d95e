"""exaranker report."""

import argparse
from datetime import date
from pathlib import Path
from typing import Any

from exaranker.commands.flag_checks import check_ending, check_not_negative
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
    parser.add_argument("--date", default=date.today().isoformat(), metavar="DAY", help="(default: today)")
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
        metrics={_run_name(path): report_data.read_curves(path) for path in args.metrics},
        stages=[_stage(path) for path in args.stages],
        checkpoints=[_checkpoint(path) for path in args.checkpoint],
        usd_per_hour=args.usd_per_hour,
    )
    write_text(args.output, report.render(results, extras))


def _run_name(path: str) -> str:
    """A training is called by its folder."""
    return Path(path).absolute().parent.name


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
