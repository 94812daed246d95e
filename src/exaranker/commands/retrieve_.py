"""exaranker retrieve."""

import argparse
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exaranker.commands.collection_flag import add_collection, fill, ignores_identical_ids
from exaranker.commands.text_flags import add_identical_ids, add_texts
from exaranker.errors import InputError, require
from exaranker.files import claim_outputs, prepare_folder, real_path
from exaranker.logs import progress, say, show, warn
from exaranker.texts.sources import open_texts
from exaranker.trec import ScoredDoc, write_run

if TYPE_CHECKING:
    from exaranker.rank.bm25 import Bm25Index

SUMMARY = """First stage: BM25 (Lucene's formula and English analysis) over passages, to a TREC run.
With --index DIR the index is kept, and the next call searches it without reading it whole."""
EXAMPLE = (
    "exaranker retrieve --queries examples/sample/queries.tsv --passages examples/sample/passages.tsv "
    "--output out/bm25.trec --k 50"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_texts(parser)
    add_collection(parser)
    parser.add_argument(
        "--index",
        type=Path,
        metavar="DIR",
        help="where the index is kept; once there, --passages may be left out",
    )
    parser.add_argument("--output", required=True, metavar="RUN", help="TREC run to write")
    parser.add_argument("--k", type=int, default=1000, help="passages per query (default: %(default)s)")
    parser.add_argument("--k1", type=float, help="term saturation (default: the index's or collection's, or 0.9)")
    parser.add_argument("--b", type=float, help="length normalisation (default: the index's or collection's, or 0.4)")
    add_identical_ids(parser)


def run(args: argparse.Namespace) -> None:
    if args.k < 1:
        raise InputError(f"--k {args.k}, expected at least 1")
    for module in ("bm25s", "Stemmer"):
        require(module, "evaluate")
    from exaranker.rank.kept_index import is_index

    is_kept = args.index is not None and is_index(args.index)
    fill(args, "queries", *(() if is_kept and args.collection is None else ("passages",)))
    _set_parameters(args, is_kept)
    args.ignore_identical_ids |= ignores_identical_ids(args)
    if args.index is not None and not is_kept:
        _prepare_index(args.index, args.output)
    with claim_outputs(args.output, inputs=[args.queries, args.passages, args.index]):
        _retrieve(args, is_kept)


def _prepare_index(index: Path, output: Path) -> None:
    """Says before passages are read that they cannot be kept there."""
    folder, run = prepare_folder(index), real_path(output)
    if folder in (run, *run.parents):
        raise InputError("is where --index keeps the passages", path=output, hint="name a file beside that folder")


def _set_parameters(args: argparse.Namespace, is_kept: bool) -> None:
    """BM25's, where they are not given: those of the index, of the collection, or of Anserini."""
    defaults: Mapping[str, float] = {"k1": 0.9, "b": 0.4}
    if is_kept:
        from exaranker.rank.kept_index import open_index

        defaults = open_index(args.index).params._asdict()
    elif args.collection:
        require("yaml", "evaluate")
        from exaranker.evaluate.collections import collection

        defaults = collection(args.collection).bm25
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.k1 < 0 or not 0 <= args.b <= 1:
        raise InputError(f"--k1 {args.k1} --b {args.b}, expected k1 >= 0 and 0 <= b <= 1")


def _retrieve(args: argparse.Namespace, is_kept: bool) -> None:
    from exaranker.rank.bm25 import retrieve

    started = time.monotonic()
    queries = dict(open_texts(args.queries, "queries"))
    index = _index(args, is_kept)
    if statistics.median(map(len, queries.values())) > index.median_length:
        warn("the queries are longer than the passages: were --queries and --passages swapped?")
    rows: list[ScoredDoc] = list(retrieve(index, queries, args.k, args.ignore_identical_ids))
    write_run(args.output, rows, tag=f"bm25-k1={args.k1}-b={args.b}")
    answered = len({row.query_id for row in rows})
    seconds = time.monotonic() - started
    show(
        f"{args.output}: {len(rows):,} passages for {answered:,} of {len(queries):,} queries, "
        f"out of {len(index.doc_ids):,} indexed, in {seconds:.1f} s (BM25, k1={args.k1}, b={args.b})"
    )
    if answered < len(queries):
        say(f"{len(queries) - answered} queries share no term with any passage")


def _index(args: argparse.Namespace, is_kept: bool) -> "Bm25Index":
    """The index that is kept, or a new one, which is kept if that is asked for."""
    from exaranker.rank.bm25 import Bm25Index, Bm25Params
    from exaranker.rank.kept_index import identity, open_index, refuse_another, save_index

    params = Bm25Params(args.k1, args.b)
    passages = open_texts(args.passages, "passages", args.title) if args.passages is not None else None
    if is_kept or passages is None:
        refuse_another(args.index, None if passages is None else identity(passages), params)
        return open_index(args.index)
    with progress(desc="read", unit="passage") as bar:
        index = Bm25Index.build(_counted(passages, bar), params)
    if args.index is not None:
        save_index(index, identity(passages), args.index)
        say(f"the index of {len(index.doc_ids):,} passages is kept in {args.index}")
    return index


def _counted(passages: Iterable[tuple[str, str]], bar: Any) -> Iterator[tuple[str, str]]:
    for passage in passages:
        bar.update()
        yield passage
