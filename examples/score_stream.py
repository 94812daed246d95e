"""Scores an endless stream of pairs: JSONL with "query" and "passage" in, log-odds out, in constant memory.

python examples/score_stream.py CHECKPOINT < pairs.jsonl > scores.txt
"""

import json
import sys

from exaranker.rank.reranker import Reranker


def main(checkpoint: str) -> None:
    rows = map(json.loads, sys.stdin)
    pairs = ((row["query"], row["passage"]) for row in rows)
    for score in Reranker.from_checkpoint(checkpoint).score(pairs):
        print(score)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
