#!/usr/bin/env python
"""Labelled pairs (label, query, passage) -> a folder to rerank and evaluate: each query's passages are its candidates.

python scripts/pairs_to_collection.py wikiqa-dev.tsv out/wikiqa-dev
"""

import argparse
from itertools import count
from pathlib import Path

from exaranker.files import write_text
from exaranker.preprocess.pairs.text import read_tsv
from exaranker.trec import ScoredDoc, write_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    pairs = list({(pair.query_id, pair.doc_id): pair for pair in read_tsv(args.pairs)}.values())
    args.output.mkdir(parents=True, exist_ok=True)
    _write_texts(args.output / "queries.tsv", {pair.query_id: pair.query for pair in pairs})
    _write_texts(args.output / "passages.tsv", {pair.doc_id: pair.passage for pair in pairs})
    qrels = "".join(f"{pair.query_id} 0 {pair.doc_id} {pair.label}\n" for pair in pairs)
    write_text(args.output / "qrels.txt", qrels)
    in_order = (ScoredDoc(pair.query_id, pair.doc_id, -float(place)) for pair, place in zip(pairs, count()))
    write_run(args.output / "run.in_order.txt", in_order, "in-order")
    print(f"{len({pair.query_id for pair in pairs})} queries, {len(pairs)} pairs in {args.output}")


def _write_texts(path: Path, texts: dict[str, str]) -> None:
    write_text(path, "".join(f"{key}\t{text}\n" for key, text in texts.items()))


if __name__ == "__main__":
    main()
