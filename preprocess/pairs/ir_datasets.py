"""Any dataset of `ir_datasets` by its id: its qrels, or its training triples, with the texts they name.

Texts are looked up in ir_datasets' own store on disk, a batch at a time, so memory only holds the queries.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from exaranker.errors import InputError
from exaranker.preprocess.pairs.selection import chunks
from exaranker.preprocess.pairs.text import InputConfig
from exaranker.preprocess.pairs.triples import chosen
from exaranker.schema import Pair
from exaranker.texts.ir_datasets import explained, load

BATCH_SIZE = 1000  # passages looked up at once


class Judgement(NamedTuple):
    """One line of an ir_datasets collection's qrels."""

    query_id: str
    doc_id: str
    label: int


@dataclass(frozen=True)
class IrDataset:
    """A reader of the pairs of an ir_datasets id.

    There is one per judgement in the order of the qrels, or, with `as_triples`, those that the rule of `config.triples`
    makes of its training triples ("docpairs").
    """

    name: str
    config: InputConfig
    as_triples: bool = False

    def __call__(self) -> Iterator[Pair]:
        """Yields the pairs, streaming.

        Raises:
            InputError: ir_datasets cannot get it, or a query or passage is missing.
        """
        with explained(self.name):
            store = self._dataset.docs_store()
            for batch in chunks(self._judgements(), BATCH_SIZE):
                passages = store.get_many({row.doc_id for row in batch})
                for row in batch:
                    yield Pair(row.query_id, row.doc_id, self._query(row), self._passage(passages, row), row.label)

    @cached_property
    def _dataset(self) -> Any:
        dataset = load(self.name)
        needed = ("docs", "queries", "docpairs" if self.as_triples else "qrels")
        missing = [part for part in needed if not dataset.has(part)]
        if missing:
            hint = "name a part of it that has them, see https://ir-datasets.com; triples need --format triples"
            raise InputError(f"the dataset {self.name!r} has no {' and no '.join(missing)}", hint=hint)
        return dataset

    @cached_property
    def _queries(self) -> dict[str, str]:
        return {query.query_id: query.default_text() for query in self._dataset.queries_iter()}

    def _judgements(self) -> Iterator[Judgement]:
        if not self.as_triples:
            for qrel in self._dataset.qrels_iter():
                yield Judgement(qrel.query_id, qrel.doc_id, qrel.relevance)
            return
        triples = ((pair.query_id, pair.doc_id_a, pair.doc_id_b) for pair in self._dataset.docpairs_iter())
        for (query_id, positive, negative), is_positive in chosen(triples, self.config, self.name):
            yield Judgement(query_id, positive if is_positive else negative, self.config.positive_grade * is_positive)

    def _query(self, row: Judgement) -> str:
        if row.query_id not in self._queries:
            raise InputError(f"{self.name}: query {row.query_id!r} is judged, but has no text")
        return self._queries[row.query_id]

    def _passage(self, passages: dict[str, Any], row: Judgement) -> str:
        if row.doc_id not in passages:
            raise InputError(f"{self.name}: doc {row.doc_id!r} is judged for {row.query_id!r}, but is not in its docs")
        return passages[row.doc_id].default_text()


@dataclass(frozen=True)
class StoredTexts:
    """The queries and docs of an id, looked up in ir_datasets' own store."""

    name: str

    def queries(self, ids: Collection[str]) -> dict[str, str]:
        """The texts of those of the ids that it has."""
        with explained(self.name):
            return {name: self._queries[name] for name in ids if name in self._queries}

    def passages(self, ids: Collection[str]) -> dict[str, str]:
        """The texts of those of the ids that it has."""
        with explained(self.name):
            return {name: doc.default_text() for name, doc in self._store.get_many(set(ids)).items()}

    @cached_property
    def _queries(self) -> dict[str, str]:
        return {query.query_id: query.default_text() for query in self._dataset("queries").queries_iter()}

    @cached_property
    def _store(self) -> Any:
        return self._dataset("docs").docs_store()

    def _dataset(self, part: str) -> Any:
        dataset = load(self.name)
        if not dataset.has(part):
            raise InputError(f"the dataset {self.name!r} has no {part}", hint="see https://ir-datasets.com")
        return dataset
