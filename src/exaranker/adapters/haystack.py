"""A Haystack component (haystack-ai): a ranker for pipelines, which are saved with the checkpoint's path.

Haystack loads a saved pipeline only if told that this module may be: `Pipeline.loads(text, allowed_modules=[...])`.
"""

import asyncio
from dataclasses import replace
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.utils.misc import _deduplicate_documents

from exaranker.rank.reranker import RankedPassage, Reranker


@component
class ExaRanker:
    """Ranks documents by log-odds of relevance; of documents with one id the one that scored best is taken.

    The metadata of the best `explain` have an `explanation`. The checkpoint is read when the component is first used;
    None is the ranker in the box.

    Raises:
        TypeError: a document has no text.
        InputError: `top_k` is less than 1.
    """

    def __init__(
        self,
        checkpoint: str | None = None,
        *,
        top_k: int = 10,
        explain: int = 0,
        max_length: int | None = None,
        dtype: str | None = None,
        template: str | None = None,
    ):
        self.checkpoint = checkpoint
        self.top_k = top_k
        self.explain = explain
        self.max_length = max_length
        self.dtype = dtype
        self.template = template
        self._reranker: Reranker | None = None

    def warm_up(self) -> None:
        """Loads the checkpoint."""
        self._loaded()

    def to_dict(self) -> dict[str, Any]:
        """What a saved pipeline has of this component."""
        names = ("checkpoint", "top_k", "explain", "max_length", "dtype", "template")
        fields: dict[str, Any] = default_to_dict(self, **{name: getattr(self, name) for name in names})
        return fields

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ExaRanker":
        """The component of a saved pipeline."""
        made: ExaRanker = default_from_dict(cls, data)
        return made

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, list[Document]]:
        """The best `top_k` documents, by default as many as the component was made for."""
        different = _deduplicate_documents(documents)
        texts = [document.content for document in different]
        ranking = self._loaded().rank(query, texts, self.top_k if top_k is None else top_k, self.explain)
        return {"documents": [_scored(different[found.position], found) for found in ranking]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """`run`, in a thread."""
        found: dict[str, list[Document]] = await asyncio.to_thread(self.run, query, documents, top_k)
        return found

    def _loaded(self) -> Reranker:
        if self._reranker is None:
            self._reranker = Reranker.from_checkpoint(
                self.checkpoint, max_length=self.max_length, dtype=self.dtype, template=self.template
            )
        return self._reranker


def _scored(document: Document, found: RankedPassage) -> Document:
    added = {"explanation": found.explanation} if found.explanation else {}
    return replace(document, score=found.score, meta=document.meta | added)
