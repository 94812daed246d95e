"""A ranker of the `rerankers` package, beside its own: `ExaRanker("out/model").rank(query, documents)`."""

from typing import Any

from rerankers.documents import Document
from rerankers.models.ranker import BaseRanker
from rerankers.results import RankedResults, Result
from rerankers.utils import prep_docs

from exaranker.rank.reranker import Reranker


class ExaRanker(BaseRanker):
    """Loads a checkpoint; `options` are those of `Reranker.from_checkpoint`. Scores are log-odds of relevance."""

    def __init__(self, model_name_or_path: str | None = None, verbose: int = 1, **options: Any):
        self.verbose = verbose
        self.reranker = Reranker.from_checkpoint(model_name_or_path, **options)

    def score(self, query: str, doc: str) -> float:
        return next(self.reranker.score([(query, doc)]))

    def rank(
        self,
        query: str,
        docs: str | list[str] | Document | list[Document],
        doc_ids: list[str] | list[int] | None = None,
        metadata: list[dict[str, Any]] | None = None,
    ) -> RankedResults:
        """All documents, best first."""
        documents = prep_docs(docs, doc_ids, metadata) if docs else []
        ranking = self.reranker.rank(query, [document.text for document in documents])
        results = [Result(documents[found.position], found.score, rank) for rank, found in enumerate(ranking, 1)]
        return RankedResults(results, query, has_scores=True)
