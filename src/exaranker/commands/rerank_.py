"""exaranker rerank."""

import argparse
from pathlib import Path

from exaranker.commands.checkpoint_flags import add_checkpoint, loading
from exaranker.commands.collection_flag import add_collection, fill, ignores_identical_ids
from exaranker.commands.text_flags import add_identical_ids, add_texts
from exaranker.errors import InputError
from exaranker.logs import show

SUMMARY = """Reranks a TREC run with a checkpoint; scores are log-odds of relevance.
A killed run continues when the same command is given again, and ends with the same bytes."""
EXAMPLE = (
    "exaranker rerank --checkpoint out/model --queries examples/sample/queries.tsv "
    "--passages examples/sample/passages.tsv --run out/bm25.trec --output out/reranked.trec --depth 100"
)


AT_LEAST = {"depth": 1, "explain_top_k": 0, "passage_length": 1, "num_shards": 1}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    add_texts(parser)
    add_collection(parser)
    parser.add_argument("--run", required=True, type=Path, metavar="RUN", help="run to rerank: TREC's or MS MARCO's")
    parser.add_argument("--output", required=True, type=Path, metavar="RUN", help="TREC run to write")
    parser.add_argument(
        "--depth", type=int, metavar="N", help="rerank each query's best N; the others are left out (default: all)"
    )
    parser.add_argument(
        "--depth_by", choices=("score", "rank"), default="score", help="which are the best N (default: %(default)s)"
    )
    add_identical_ids(parser)
    parser.add_argument(
        "--explain_top_k",
        type=int,
        default=0,
        metavar="N",
        help="explain each query's best N, in OUTPUT.explanations.jsonl (default: %(default)s)",
    )
    _add_long_documents(parser)
    _add_shards(parser)


def _add_long_documents(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("documents longer than an input")
    group.add_argument(
        "--long",
        choices=("truncate", "first_passage", "max_passage"),
        default="truncate",
        help="read their beginning, score the first of their passages, or by the best of all (default: %(default)s)",
    )
    group.add_argument(
        "--passage_length", type=int, default=200, metavar="N", help="tokens of a passage (default: %(default)s)"
    )
    group.add_argument(
        "--passage_stride",
        type=int,
        default=100,
        metavar="N",
        help="tokens from one to the next (default: %(default)s)",
    )


def _add_shards(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("several processes", "each writes RUN.shard-I-of-N; exaranker merge joins them")
    group.add_argument("--num_shards", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    group.add_argument(
        "--shard_index", type=int, default=0, metavar="I", help="which one this is (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> None:
    for name, least in AT_LEAST.items():
        value = getattr(args, name)
        if value is not None and value < least:
            raise InputError(f"--{name} {value}, expected at least {least}")
    loading(args)
    fill(args, "queries", "passages")
    args.ignore_identical_ids |= ignores_identical_ids(args)
    from exaranker.rank.job import RerankJob, rerank

    job = RerankJob(**{field: getattr(args, field) for field in RerankJob.__dataclass_fields__})
    rerank(job)
    show(job.target)
    if job.explain_top_k:
        show(job.explanations)
