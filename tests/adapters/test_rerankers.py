"""The `rerankers` package: its documents, ids and results, ranked as by `Reranker`."""

import asyncio
from pathlib import Path

import pytest
from rerankers.documents import Document

from exaranker.adapters.rerankers import ExaRanker
from exaranker.rank.reranker import RankedPassage


@pytest.fixture(scope="module")
def ranker(checkpoint: Path) -> ExaRanker:
    return ExaRanker(str(checkpoint), max_length=512)


def test_documents_are_ranked(
    ranker: ExaRanker, query: str, passages: list[str], ranking: list[RankedPassage], same_score: float
) -> None:
    ids = [f"d{index}" for index in range(20)]
    for documents in (passages, [Document(text) for text in passages]):
        found = ranker.rank(query, documents, doc_ids=ids)
        assert [result.doc_id for result in found] == [f"d{one.position}" for one in ranking]
        assert [result.score for result in found] == pytest.approx([one.score for one in ranking], abs=same_score)
    assert [result.rank for result in found.top_k(2)] == [1, 2]
    assert ranker.score(query, passages[0]) == pytest.approx(found.get_score_by_docid("d0"), abs=same_score)
    in_a_thread = asyncio.run(ranker.rank_async(query, passages, ids))
    assert [result.doc_id for result in in_a_thread] == [result.doc_id for result in found]


def test_one_document_and_none(ranker: ExaRanker, query: str, passages: list[str]) -> None:
    assert [result.text for result in ranker.rank(query, passages[0])] == passages[:1]
    assert ranker.rank(query, []).results == []
