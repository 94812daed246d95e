"""sentence-transformers' own evaluators run on a reranker of ours; their figures are those of its ranking."""

import math

import pytest
from sentence_transformers.cross_encoder.evaluation import (
    CrossEncoderClassificationEvaluator,
    CrossEncoderCorrelationEvaluator,
    CrossEncoderRerankingEvaluator,
)

from exaranker.adapters.sentence_transformers import ExaRankerCrossEncoder
from exaranker.rank.reranker import RankedPassage, Reranker


@pytest.fixture(scope="module")
def model(reranker: Reranker) -> ExaRankerCrossEncoder:
    return ExaRankerCrossEncoder(reranker)


def test_the_reranking_evaluator(
    model: ExaRankerCrossEncoder, query: str, passages: list[str], ranking: list[RankedPassage]
) -> None:
    third = ranking[2].passage
    samples = [{"query": query, "positive": [third], "documents": passages}]
    found = CrossEncoderRerankingEvaluator(samples, write_csv=False)(model)
    assert found["mrr@10"] == pytest.approx(1 / 3)
    assert found["ndcg@10"] == pytest.approx(1 / math.log2(4))
    assert len(model.model_card_data.eval_results_dict) == 1


def test_the_evaluators_of_pairs(model: ExaRankerCrossEncoder, query: str, ranking: list[RankedPassage]) -> None:
    pairs = [(query, one.passage) for one in ranking]
    correlation = CrossEncoderCorrelationEvaluator(pairs, [one.score for one in ranking], write_csv=False)(model)
    assert correlation["spearman"] == pytest.approx(1.0)
    best_ten = CrossEncoderClassificationEvaluator(pairs, [1] * 10 + [0] * 10, write_csv=False)(model)
    assert best_ten["accuracy"] == 1.0
