"""Rows that carry ids only, joined with the texts of a BEIR or TREC folder or of an ir_datasets id."""

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Protocol, Self, TypeVar

from exaranker.errors import InputError
from exaranker.preprocess.pairs import ir_datasets
from exaranker.preprocess.pairs.selection import chunks
from exaranker.texts.folders import text_files
from exaranker.texts.rows import read_texts

BATCH_SIZE = 1000  # rows whose passages are looked up at once


class HasIds(Protocol):
    """A row with the ids of a query and a passage, and room for their texts."""

    @property
    def query_id(self) -> str: ...
    @property
    def doc_id(self) -> str: ...
    def _replace(self, *, query: str, passage: str) -> Self: ...


Row = TypeVar("Row", bound=HasIds)


class WantedTexts(Protocol):
    """Where texts are looked up by their ids; ids that are not there are left out of the answer."""

    def queries(self, ids: Collection[str]) -> Mapping[str, str]: ...
    def passages(self, ids: Collection[str]) -> Mapping[str, str]: ...


def joined(reader: Callable[[], Iterator[Row]], name: str) -> Callable[[], Iterator[Row]]:
    """The reader's rows with the texts that a folder or an ir_datasets id has for their ids.

    Raises:
        InputError: there is no such folder or id, or it lacks a text.
    """
    folder = Path(name).expanduser()
    texts = FolderTexts(folder, reader) if folder.is_dir() else ir_datasets.StoredTexts(name)

    def rows() -> Iterator[Row]:
        for batch in chunks(reader(), BATCH_SIZE):
            queries = texts.queries({row.query_id for row in batch})
            passages = texts.passages({row.doc_id for row in batch})
            for row in batch:
                query = _found(queries, row.query_id, "query", name)
                yield row._replace(query=query, passage=_found(passages, row.doc_id, "passage", name))

    return rows


class FolderTexts:
    """The texts of a BEIR or TREC folder; only those that the rows name are held."""

    def __init__(self, folder: Path, reader: Callable[[], Iterator[HasIds]]):
        self._paths, self._reader = text_files(folder), reader
        self._held: tuple[Mapping[str, str], Mapping[str, str]] | None = None

    def queries(self, ids: Collection[str]) -> Mapping[str, str]:
        """Satisfies `WantedTexts`."""
        return self._texts()[0]

    def passages(self, ids: Collection[str]) -> Mapping[str, str]:
        """Satisfies `WantedTexts`."""
        return self._texts()[1]

    def _texts(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        if self._held is None:
            query_ids: set[str] = set()
            doc_ids: set[str] = set()
            for row in self._reader():
                query_ids.add(row.query_id)
                doc_ids.add(row.doc_id)
            queries, passages = self._paths
            self._held = read_texts(queries, query_ids, "queries"), read_texts(passages, doc_ids)
        return self._held


def _found(texts: Mapping[str, str], identifier: str, what: str, name: str) -> str:
    if identifier not in texts:
        raise InputError(f"has no {what} {identifier!r}, which a row names", path=name, hint="complete it")
    return texts[identifier]
