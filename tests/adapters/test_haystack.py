"""Haystack: a pipeline ranks as `Reranker`, is saved and loaded, and takes each document once."""

import asyncio
from pathlib import Path

import pytest
from haystack import Document, Pipeline

from exaranker.adapters.haystack import ExaRanker
from exaranker.checkpoints.convert.transfer import export_checkpoint
from exaranker.errors import InputError
from exaranker.rank.reranker import RankedPassage


@pytest.fixture(scope="module")
def ranker(checkpoint: Path) -> ExaRanker:
    made = ExaRanker(str(checkpoint), top_k=3, explain=2)
    made.warm_up()
    return made


@pytest.fixture
def documents(passages: list[str]) -> list[Document]:
    return [Document(id=str(index), content=text, meta={"n": index}) for index, text in enumerate(passages)]


def test_a_saved_pipeline_ranks(
    checkpoint: Path, documents: list[Document], query: str, ranking: list[RankedPassage], same_score: float
) -> None:
    pipeline = Pipeline()
    pipeline.add_component("ranker", ExaRanker(str(checkpoint), top_k=3, explain=2))
    loaded = Pipeline.loads(pipeline.dumps(), allowed_modules=["exaranker.adapters.haystack"])
    found = loaded.run({"ranker": {"query": query, "documents": [*documents, documents[0]]}})["ranker"]["documents"]
    assert [document.id for document in found] == [str(one.position) for one in ranking[:3]]
    assert [document.score for document in found] == pytest.approx([one.score for one in ranking[:3]], abs=same_score)
    assert [document.meta.get("explanation") for document in found] == [
        ranking[0].explanation, ranking[1].explanation, None,
    ]  # fmt: skip
    assert all("explanation" not in document.meta for document in documents)


def test_a_ranker_of_others_is_loaded_with_its_words(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, documents: list[Document], query: str
) -> None:
    monkeypatch.setenv("EXARANKER_CACHE", str(tmp_path / "cache"))
    export_checkpoint(checkpoint, "hf", tmp_path / "owner/unknown")
    (tmp_path / "owner/unknown/exaranker.json").unlink()
    ranker = ExaRanker(str(tmp_path / "owner/unknown"), template="monot5", max_length=64)
    loaded = ExaRanker.from_dict(ranker.to_dict())
    assert loaded.run(query, documents) == ranker.run(query, documents)
    reranker = loaded._loaded()
    assert (reranker.model.card.template.name, reranker.max_length) == ("monot5", 64)


def test_alone_and_asynchronously(
    ranker: ExaRanker, documents: list[Document], query: str, ranking: list[RankedPassage]
) -> None:
    found = ranker.run(query, documents, top_k=5)
    assert [document.id for document in found["documents"]] == [str(one.position) for one in ranking[:5]]
    assert asyncio.run(ranker.run_async(query, documents, top_k=5)) == found
    assert ranker.run(query, []) == {"documents": []}
    with pytest.raises(InputError, match="top_k is 0"):
        ranker.run(query, documents, top_k=0)
    with pytest.raises(TypeError, match=r"passages\[0\] is NoneType"):
        ranker.run(query, [Document(meta={"page": 1})])
