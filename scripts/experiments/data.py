#!/usr/bin/env python
"""The experiment's training pairs and the queries kept back for choosing, from MS MARCO passages ranked by an LLM.

python scripts/experiments/data.py msmarco-ranked.jsonl out/data

A tenth of the queries is kept back as a collection to rerank. Of the others, `ranked.jsonl` has the explained pairs
(rank 1 of five is relevant, ranks 4 and 5 are not) and `pool.jsonl` pairs with labels only: ranks 1 and 2 against
passages of other queries, half of them BM25's best, half drawn at random.
"""

import argparse
import json
import random
import zlib
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from exaranker.files import read_lines, write_text
from exaranker.rank.bm25 import Bm25Index, Bm25Params, retrieve
from exaranker.trec import ScoredDoc, write_run

HELD_OUT = 10  # one query in so many
GRADES = {1: 3, 2: 2, 3: 1, 4: 0, 5: 0}  # of the LLM's ranks, for the queries kept back
RELEVANT, IRRELEVANT = 1, (4, 5)
POOL_RELEVANT = (1, 2)
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ranked", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    rows = [json.loads(line) for _, line in read_lines(args.ranked)]
    trained = [row for row in rows if not is_held_out(row)]
    args.output.mkdir(parents=True, exist_ok=True)
    write_rows(args.output / "ranked.jsonl", explained(trained))
    write_rows(args.output / "pool.jsonl", against_others(trained))
    write_collection(args.output / "heldout", [row for row in rows if is_held_out(row)])


def is_held_out(row: Row) -> bool:
    """By the query's text, so that more data changes nothing."""
    return zlib.crc32(row["query"].encode()) % HELD_OUT == 0


def explained(rows: Iterable[Row]) -> Iterator[Row]:
    """The LLM's best and worst of five, where it gave a reason."""
    for row in rows:
        if row["explanation"] and (row["rank"] == RELEVANT or row["rank"] in IRRELEVANT):
            yield {**row, "label": int(row["rank"] == RELEVANT)}


def against_others(rows: list[Row]) -> Iterator[Row]:
    """As many passages of other queries as relevant ones; of each kind half."""
    passages = {row["doc_id"]: row for row in rows}
    queries = {row["query_id"]: row["query"] for row in rows}
    index = Bm25Index.build(((name, row["passage"]) for name, row in passages.items()), Bm25Params())
    found = retrieve(index, queries, k=20)
    best = {query: list(hits) for query, hits in groupby(found, key=lambda hit: hit.query_id)}
    draw = random.Random(0)
    for query_id, group in groupby(rows, key=lambda row: row["query_id"]):
        relevant = [row for row in group if row["rank"] in POOL_RELEVANT]
        near = [hit.doc_id for hit in best[query_id] if passages[hit.doc_id]["query_id"] != query_id]
        far = [name for name in draw.sample(sorted(passages), 8) if passages[name]["query_id"] != query_id]
        half = len(relevant) // 2
        for name in near[:half] + far[: len(relevant) - half]:
            yield labelled({**passages[name], "query_id": query_id, "query": queries[query_id]}, 0)
        yield from (labelled(row, 1) for row in relevant)


def labelled(row: Row, label: int) -> Row:
    return {**{name: row[name] for name in ("query_id", "doc_id", "query", "passage")}, "label": label}


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    write_text(path, "".join(lines))
    print(f"{len(lines)} pairs in {path}")


def write_collection(folder: Path, rows: list[Row]) -> None:
    """Candidates stand in the order of their ids, which says nothing of the LLM's ranks of the other five."""
    folder.mkdir(exist_ok=True)
    write_text(folder / "queries.tsv", texts({row["query_id"]: row["query"] for row in rows}))
    write_text(folder / "passages.tsv", texts({row["doc_id"]: row["passage"] for row in rows}))
    qrels = (f"{row['query_id']} 0 {row['doc_id']} {GRADES[row['rank']]}\n" for row in rows)
    write_text(folder / "qrels.txt", "".join(qrels))
    candidates = (ScoredDoc(row["query_id"], row["doc_id"], -float(place)) for place, row in enumerate(rows))
    write_run(folder / "run.txt", candidates, "candidates")


def texts(of: dict[str, str]) -> str:
    return "".join(f"{key}\t{' '.join(text.split())}\n" for key, text in of.items())


if __name__ == "__main__":
    main()
