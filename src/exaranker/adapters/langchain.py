"""LangChain's two ways to rerank (langchain-core): a document compressor and a cross-encoder."""

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import PrivateAttr

from exaranker.rank.reranker import RankedPassage, Reranker


class ExaRankerCompressor(BaseDocumentCompressor):
    """Keeps the best `top_n` documents, for a `ContextualCompressionRetriever`.

    A document's metadata have its log-odds as `relevance_score`, and those of the best `explain` an `explanation`.
    """

    top_n: int = 3
    explain: int = 0
    _reranker: Reranker = PrivateAttr()

    def __init__(self, reranker: Reranker, **fields: Any):
        super().__init__(**fields)
        self._reranker = reranker

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        texts = [document.page_content for document in documents]
        ranking = self._reranker.rank(query, texts, self.top_n, self.explain)
        return [_scored(documents[found.position], found) for found in ranking]


class ExaRankerCrossEncoder(BaseCrossEncoder):
    """Log-odds of pairs, for LangChain's own `CrossEncoderReranker`."""

    def __init__(self, reranker: Reranker):
        self.reranker = reranker

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        return list(self.reranker.score(text_pairs))


def _scored(document: Document, found: RankedPassage) -> Document:
    """A copy: the retriever may keep its documents."""
    added = {"relevance_score": found.score} | ({"explanation": found.explanation} if found.explanation else {})
    return document.model_copy(update={"metadata": document.metadata | added})
