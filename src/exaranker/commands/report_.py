"""exaranker report."""

import argparse

from exaranker.errors import require
from exaranker.files import claim_outputs, write_text
from exaranker.logs import show
from exaranker.trec import read_texts

SUMMARY = "One self-contained HTML page: tables, plots, paired tests, and explanations beside their passages."
EXAMPLE = (
    "exaranker report results.json --explanations reranked.explanations.jsonl --queries queries.tsv "
    "--passages passages.tsv --output report.html"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", nargs="+", metavar="RESULTS", help="results.json of `exaranker evaluate`")
    parser.add_argument("--output", required=True, metavar="HTML", help="page to write")
    parser.add_argument("--explanations", metavar="JSONL", help="what `exaranker rerank --explain_top_k` wrote")
    parser.add_argument("--queries", metavar="FILE", help="TSV or JSONL, to show the questions")
    parser.add_argument("--passages", metavar="FILE", help="TSV or JSONL, to show the explained passages")


def run(args: argparse.Namespace) -> None:
    for module in ("jinja2", "matplotlib"):
        require(module, "evaluate")
    with claim_outputs(args.output, inputs=[*args.results, args.explanations, args.queries, args.passages]):
        _report(args)


def _report(args: argparse.Namespace) -> None:
    from exaranker.evaluate import report
    from exaranker.evaluate.results import read_results

    results = [read_results(path) for path in args.results]
    explanations = report.read_explanations(args.explanations) if args.explanations else []
    queries = read_texts(args.queries) if args.queries else {}
    explained = {row["doc_id"] for row in explanations}
    passages = read_texts(args.passages, wanted=explained) if args.passages else {}
    write_text(args.output, report.render(results, explanations, queries, passages))
    show(args.output)
