"""What sentence-transformers' evaluators ask of a cross-encoder, answered by a reranker of ours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32
from sentence_transformers.cross_encoder.model_card import CrossEncoderModelCardData

from exaranker.rank.reranker import Reranker


class ExaRankerCrossEncoder:
    """A model for `CrossEncoderRerankingEvaluator`, `CrossEncoderNanoBEIREvaluator` and the others with one label."""

    num_labels = 1

    def __init__(self, reranker: Reranker):
        self.reranker = reranker
        self.model_card_data = CrossEncoderModelCardData()  # where an evaluator leaves its figures

    def predict(self, inputs: Sequence[Sequence[str]], **options: Any) -> Float32[np.ndarray, " pairs"]:
        """Log-odds of (query, passage) pairs; the options of a cross-encoder's batches change no score."""
        return np.array(list(self.reranker.score(inputs)), np.float32)  # type: ignore[arg-type]
