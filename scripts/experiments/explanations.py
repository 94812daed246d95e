#!/usr/bin/env python
"""How many of a reranked run's explanations repeat themselves, argue against their label, or fail another filter.

    python scripts/experiments/explanations.py out/run.trec.explanations.jsonl --queries FILE --passages FILE

The filters are those that `exaranker explain` puts an LLM's texts through. Shares have Wilson's 95 % interval.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from scipy.stats import binomtest

from exaranker.files import read_lines
from exaranker.preprocess.filters.rules import FILTERS, Candidate
from exaranker.texts.sources import open_texts

LEFT_OUT = {"cut_off"}  # how a text ended is not in the file
SOUND = ("repetition", "contradiction")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("explanations", type=Path)
    parser.add_argument("--queries", required=True)
    parser.add_argument("--passages", required=True)
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    candidates = list(read(args.explanations, args.queries, args.passages))
    objections = {
        name: [objects(one) for one in candidates] for name, objects in FILTERS.items() if name not in LEFT_OUT
    }
    relevant = [one.relevant for one in candidates]
    print(f"{len(candidates)} explanations of a median of {median(len(one.text.split()) for one in candidates)} words")
    print(f"labelled relevant               {share(relevant)}")
    for name, objected in objections.items():
        print(f"{name:31} {share(objected)}")
    sound = [not any(found) for found in zip(*(objections[name] for name in SOUND), strict=True)]
    print(f"neither {' nor '.join(SOUND):23} {share(sound)}")


def read(path: Path, queries: str, passages: str) -> Iterator[Candidate]:
    rows = [json.loads(line) for _, line in read_lines(path)]
    query_of = dict(open_texts(queries, "queries").select({row["query_id"] for row in rows}))
    passage_of = dict(open_texts(passages, "passages").select({row["doc_id"] for row in rows}))
    for row in rows:
        texts = query_of[row["query_id"]], passage_of[row["doc_id"]]
        yield Candidate(*texts, row["score"] > 0, row["explanation"], "stop")


def share(of: Sequence[bool]) -> str:
    """Per cent, with its interval, and the counts."""
    low, high = binomtest(sum(of), len(of)).proportion_ci(method="wilson")
    return f"{100 * sum(of) / len(of):5.1f} % [{100 * low:.1f}, {100 * high:.1f}]   {sum(of)} of {len(of)}"


if __name__ == "__main__":
    main()
