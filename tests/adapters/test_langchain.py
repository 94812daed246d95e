"""LangChain: compressor and cross-encoder rank as `Reranker`, inside LangChain's own retriever and reranker."""

import asyncio

import pytest
from langchain_classic.retrievers.contextual_compression import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import CrossEncoderReranker
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from exaranker.adapters.langchain import ExaRankerCompressor, ExaRankerCrossEncoder
from exaranker.rank.reranker import RankedPassage, Reranker


class Everything(BaseRetriever):
    """Finds all of its documents for any query."""

    documents: list[Document]

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return self.documents


@pytest.fixture
def documents(passages: list[str]) -> list[Document]:
    return [Document(text, metadata={"source": index}) for index, text in enumerate(passages)]


def test_a_retriever_keeps_the_best(
    reranker: Reranker, documents: list[Document], query: str, ranking: list[RankedPassage], same_score: float
) -> None:
    compressor = ExaRankerCompressor(reranker, top_n=3, explain=2)
    retriever = ContextualCompressionRetriever(
        base_compressor=compressor, base_retriever=Everything(documents=documents)
    )
    found = retriever.invoke(query)
    assert [document.metadata["source"] for document in found] == [one.position for one in ranking[:3]]
    scores = [document.metadata["relevance_score"] for document in found]
    assert scores == pytest.approx([one.score for one in ranking[:3]], abs=same_score)
    explained = [document.metadata.get("explanation") for document in found]
    assert explained == [ranking[0].explanation, ranking[1].explanation, None]
    assert documents[ranking[0].position].metadata == {"source": ranking[0].position}, "the retriever's are left"
    assert asyncio.run(retriever.ainvoke(query)) == found


def test_langchains_reranker_scores_by_it(
    reranker: Reranker, documents: list[Document], query: str, ranking: list[RankedPassage]
) -> None:
    compressor = CrossEncoderReranker(model=ExaRankerCrossEncoder(reranker), top_n=20)
    found = compressor.compress_documents(documents, query)
    assert [document.metadata["source"] for document in found] == [one.position for one in ranking]
    assert ExaRankerCompressor(reranker).compress_documents([], query) == []
