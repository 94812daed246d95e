"""PyTerrier: the ranking of `Reranker`, empty frames, inspection and validation, in a pipeline of its own operators."""

import pandas as pd
import pyterrier as pt
import pytest

from exaranker.adapters.pyterrier import ExaRanker
from exaranker.rank.reranker import RankedPassage, Reranker


@pytest.fixture(scope="module")
def frame(query: str, passages: list[str]) -> pd.DataFrame:
    """Two queries with the same results, the second ones in another order."""
    rows = [(f"d{i}", text, -float(i), i) for i, text in enumerate(passages)]
    parts = [
        pd.DataFrame(listed, columns=["docno", "text", "score", "rank"]).assign(qid=qid, query=query)
        for qid, listed in (("q1", rows), ("q2", rows[::-1]))
    ]
    return pd.concat(parts)  # whose index has each number twice


def test_each_query_is_ranked(
    reranker: Reranker, frame: pd.DataFrame, ranking: list[RankedPassage], same_score: float
) -> None:
    found = ExaRanker(reranker).transform(frame)
    assert frame["score"].max() == 0.0, "the input is left as it was"
    for _, rows in found.groupby("qid"):
        best_first = rows.sort_values("rank")
        assert list(best_first["docno"]) == [f"d{one.position}" for one in ranking]
        assert list(best_first["score"]) == pytest.approx([one.score for one in ranking], abs=same_score)
        assert list(best_first["rank"]) == list(range(20))


def test_the_best_are_explained(reranker: Reranker, frame: pd.DataFrame, ranking: list[RankedPassage]) -> None:
    pipeline = pt.Transformer.from_df(frame) >> ExaRanker(reranker, explain=2) % 3
    found = pipeline(pd.DataFrame([["q1", "how do bees make honey"]], columns=["qid", "query"]))
    assert list(found.sort_values("rank")["explanation"]) == [ranking[0].explanation, ranking[1].explanation, ""]


def test_inspection_and_validation(reranker: Reranker, frame: pd.DataFrame) -> None:
    ranker = ExaRanker(reranker, text_field="body", explain=1)
    wanted = ["qid", "docno", "query", "body"]
    assert [sorted(columns) for columns in pt.inspect.transformer_inputs(ranker)] == [sorted(wanted)]
    outputs = pt.inspect.transformer_outputs(ranker, [*wanted, "score", "rank"])
    assert outputs == [*wanted, "score", "rank", "explanation"]
    assert len(ranker.transform(pd.DataFrame(columns=wanted))) == 0
    with pytest.raises(pt.validate.InputValidationError, match="body"):
        ranker.transform(frame)
