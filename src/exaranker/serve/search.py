"""Passages to search from the page: BM25 over them, and their texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from exaranker.errors import InputError
from exaranker.rank.bm25 import Bm25Index, Bm25Params
from exaranker.rank.kept_index import identity, is_index, open_index, refuse_another
from exaranker.texts.kept import KeptTexts
from exaranker.texts.sources import TextSource


class Hit(NamedTuple):
    """A passage that BM25 finds, and its score there."""

    doc_id: str
    text: str
    score: float


@dataclass(frozen=True)
class Searcher:
    """A first stage with the texts of its passages."""

    index: Bm25Index
    texts: Mapping[str, str]

    @classmethod
    def of(cls, passages: TextSource, index: Path | None, scratch: Path) -> "Searcher":
        """Searches `passages`, by the index that `exaranker retrieve --index` kept or by one made now.

        Texts lie in a file in `scratch`.

        Raises:
            InputError: the passages cannot be read, or there is no such index, or it is damaged or of other passages.
        """
        if index is None:
            texts = KeptTexts(passages, scratch)
            return cls(Bm25Index.build(texts.items(), Bm25Params()), texts)
        if not is_index(index):
            hint = "`exaranker retrieve --index DIR` makes one; without --index it is made now, in memory"
            raise InputError("no index here", path=index, hint=hint)
        kept = open_index(index)
        refuse_another(index, identity(passages), kept.params)
        return cls(kept, KeptTexts(passages, scratch))

    def search(self, query: str, count: int) -> list[Hit]:
        """The best passages by BM25, best first."""
        found = self.index.search("", query, count)
        return [Hit(doc.doc_id, self.texts[doc.doc_id], doc.score) for doc in found]
