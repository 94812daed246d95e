"""Ranks three passages for a question and explains the best: the whole Python API of a reranker.

    python examples/rerank.py CHECKPOINT

CHECKPOINT is a MODEL_DIR of `exaranker train` or `exaranker import`, for example out/demo/t5_label_explanation.
"""

import sys

from exaranker.rank.reranker import Reranker

QUERY = "why is the sky blue"
PASSAGES = [
    "A clear night sky shows some two thousand stars to the naked eye.",
    "Air molecules scatter short wavelengths far more than long ones, so blue light reaches us from every direction.",
    "Blue dye was once made from the leaves of woad.",
]


def main(checkpoint: str) -> None:
    reranker = Reranker.from_checkpoint(checkpoint)
    ranking = reranker.rank(QUERY, PASSAGES)
    for rank, found in enumerate(ranking, start=1):
        print(f"{rank}. {found.score:+.3f}  {found.passage}")
    best = reranker.explain([(QUERY, ranking[0].passage)], scores=[ranking[0].score])[0]
    print(f"\n{best.label}: {best.explanation}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
