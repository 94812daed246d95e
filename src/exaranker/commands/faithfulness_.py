"""exaranker faithfulness."""

import argparse
from pathlib import Path

from exaranker.commands.checkpoint_flags import add_checkpoint, loading
from exaranker.commands.collection_flag import add_collection, fill
from exaranker.commands.flag_checks import check_ending
from exaranker.errors import InputError, require
from exaranker.logs import show

SUMMARY = """Do explanations name the sentences that the scores rest on? What the log-odds lose without those sentences,
and with them alone, beside as many others, with paired tests. It shows agreement, not causation: the label comes first.
A killed run continues when the same command is given again, and ends with the same bytes."""
EXAMPLE = (
    "exaranker faithfulness --checkpoint out/model --queries examples/sample/queries.tsv "
    "--passages examples/sample/passages.tsv --explanations out/reranked.trec.explanations.jsonl "
    "--output out/faithfulness.json"
)
PLOTS = (".png", ".svg", ".pdf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument("--queries", type=Path, metavar="FILE", help="TSV (id, text) or JSONL")
    parser.add_argument("--passages", type=Path, metavar="FILE", help="TSV (id, text) or JSONL; may be gzipped")
    add_collection(parser)
    parser.add_argument(
        "--explanations",
        required=True,
        type=Path,
        metavar="JSONL",
        help="what `exaranker rerank --explain_top_k` of this checkpoint wrote",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="JSON", help="figures to write")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="plot of the means to write (png, svg or pdf)")


def run(args: argparse.Namespace) -> None:
    loading(args)
    check_ending("--output", args.output, ".json")
    if args.plot and args.plot.suffix not in PLOTS:
        raise InputError(f"--plot {args.plot}: expected a name that ends in {', '.join(PLOTS)}")
    for module in ("bm25s", "scipy"):
        require(module, "evaluate")
    fill(args, "queries", "passages")
    from exaranker.evaluate.faithfulness import table
    from exaranker.rank.faithfulness_job import FaithfulnessJob, faithfulness

    job = FaithfulnessJob(**{field: getattr(args, field) for field in FaithfulnessJob.__dataclass_fields__})
    show(table(faithfulness(job)))
