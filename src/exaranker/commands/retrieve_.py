"""exaranker retrieve."""

import argparse
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping

from exaranker.commands.collection_flag import add_collection, fill
from exaranker.errors import InputError, require
from exaranker.files import claim_outputs
from exaranker.logs import say, show, warn
from exaranker.trec import ScoredDoc, iter_texts, read_texts, write_run

SUMMARY = "First stage: BM25 (Lucene's formula and English analysis) over a file of passages, to a TREC run."
EXAMPLE = (
    "exaranker retrieve --queries examples/sample/queries.tsv --passages examples/sample/passages.tsv "
    "--output out/bm25.trec --k 50"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--queries", metavar="FILE", help="TSV (id, text) or JSONL")
    parser.add_argument("--passages", metavar="FILE", help="TSV (id, text) or JSONL; may be gzipped")
    add_collection(parser)
    parser.add_argument("--output", required=True, metavar="RUN", help="TREC run to write")
    parser.add_argument("--k", type=int, default=1000, help="passages per query (default: %(default)s)")
    parser.add_argument("--k1", type=float, help="term saturation (default: the collection's, or 0.9)")
    parser.add_argument("--b", type=float, help="length normalisation (default: the collection's, or 0.4)")


def run(args: argparse.Namespace) -> None:
    _set_parameters(args)
    if args.k < 1:
        raise InputError(f"--k {args.k}, expected at least 1")
    if args.k1 < 0 or not 0 <= args.b <= 1:
        raise InputError(f"--k1 {args.k1} --b {args.b}, expected k1 >= 0 and 0 <= b <= 1")
    for module in ("bm25s", "Stemmer"):
        require(module, "evaluate")
    fill(args, "queries", "passages")
    with claim_outputs(args.output, inputs=[args.queries, args.passages]):
        _retrieve(args)


def _set_parameters(args: argparse.Namespace) -> None:
    """BM25's, where they are not given: the collection's, or those of Anserini."""
    defaults: Mapping[str, float] = {"k1": 0.9, "b": 0.4}
    if args.collection:
        require("yaml", "evaluate")
        from exaranker.evaluate.collections import collection

        defaults = collection(args.collection).bm25
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)


def _retrieve(args: argparse.Namespace) -> None:
    from exaranker.rank.bm25 import Bm25Index, Bm25Params, retrieve

    started = time.monotonic()
    queries = read_texts(args.queries)
    lengths: list[int] = []
    index = Bm25Index(_measured(iter_texts(args.passages), lengths), Bm25Params(args.k1, args.b))
    if statistics.median(map(len, queries.values())) > statistics.median(lengths):
        warn("the queries are longer than the passages: were --queries and --passages swapped?")
    rows: list[ScoredDoc] = list(retrieve(index, queries, args.k))
    write_run(args.output, rows, tag=f"bm25-k1={args.k1}-b={args.b}")
    answered = len({row.query_id for row in rows})
    seconds = time.monotonic() - started
    show(
        f"{args.output}: {len(rows):,} passages for {answered:,} of {len(queries):,} queries, "
        f"out of {len(index.doc_ids):,} indexed, in {seconds:.1f} s (BM25, k1={args.k1}, b={args.b})"
    )
    if answered < len(queries):
        say(f"{len(queries) - answered} queries share no term with any passage")


def _measured(texts: Iterable[tuple[str, str]], lengths: list[int]) -> Iterator[tuple[str, str]]:
    """The texts as they come, each one's length noted."""
    for identifier, text in texts:
        lengths.append(len(text))
        yield identifier, text
