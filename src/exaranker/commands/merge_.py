"""exaranker merge."""

import argparse
from pathlib import Path

from exaranker.files import claim_outputs
from exaranker.logs import show

SUMMARY = """Joins the shards of one `exaranker rerank` job: the bytes that the undivided job would have written.
Explanations beside the runs are joined too. Other runs are joined in the order given, if they share no query."""
EXAMPLE = "exaranker merge out/reranked.trec.shard-* --output out/reranked.trec"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="runs of different queries")
    parser.add_argument("--output", required=True, type=Path, metavar="RUN", help="TREC run to write")


def run(args: argparse.Namespace) -> None:
    from exaranker.rank.merge import merge
    from exaranker.rank.outputs import explanations_of

    with claim_outputs(args.output, explanations_of(args.output), inputs=args.runs):
        for path in merge(args.runs, args.output):
            show(path)
