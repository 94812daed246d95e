"""Queries and docs of `ir_datasets` by id; docs are looked up in its own store on disk, a batch at a time."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exaranker.errors import InputError, nearest, require
from exaranker.texts.rows import TEXT_FIELDS, Part, Title

BATCH_SIZE = 1000  # docs looked up at once


@dataclass(frozen=True)
class IrDataset:
    """The queries or the docs of an id, as `TextSource`."""

    name: str
    part: Part
    title: Title = "first"

    @property
    def paths(self) -> Sequence[Path]:
        return ()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        with explained(self.name):
            if self.part == "queries":
                yield from ((row.query_id, row.default_text()) for row in self._dataset().queries_iter())
            else:
                yield from ((row.doc_id, text_of(row, self.title)) for row in self._dataset().docs_iter())

    def select(self, wanted: Collection[str]) -> Iterator[tuple[str, str]]:
        if self.part == "queries":
            yield from (row for row in self if row[0] in wanted)
            return
        ids = list(wanted)
        with explained(self.name):
            store = self._dataset().docs_store()
            for start in range(0, len(ids), BATCH_SIZE):
                found = store.get_many(set(ids[start : start + BATCH_SIZE]))
                yield from ((name, text_of(row, self.title)) for name, row in sorted(found.items()))

    def _dataset(self) -> Any:
        dataset, part = load(self.name), "queries" if self.part == "queries" else "docs"
        if not dataset.has(part):
            problem = f"the dataset {self.name!r} has no {part}"
            raise InputError(problem, hint="name a part of it that has them, see https://ir-datasets.com")
        return dataset


def text_of(doc: Any, title: Title) -> str:
    """The text of a doc as ir_datasets gives it, or without its title."""
    if title == "first" or not hasattr(doc, "title"):
        return doc.default_text().strip()  # an empty title leaves a blank
    return next((getattr(doc, field) for field in TEXT_FIELDS if hasattr(doc, field)), doc.default_text())


def load(name: str) -> Any:
    """The `ir_datasets.Dataset` of an id.

    Raises:
        InputError: ir_datasets is not installed, or knows no such id.
    """
    ir_datasets = require("ir_datasets", "datasets")
    try:
        return ir_datasets.load(name)
    except KeyError as error:
        problem = f"no file, no folder and no ir_datasets id is called {name!r}"
        meant = nearest(name, _suggested(name, ir_datasets.registry))
        raise InputError(problem, hint=meant if meant.startswith("did") else "check the path") from error


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turns what ir_datasets raises when it cannot download or find a file into one line."""
    try:
        yield
    except InputError:
        raise
    except (OSError, RuntimeError) as error:
        problem = f"ir_datasets cannot get {name!r}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        hint = "it downloads to $IR_DATASETS_HOME (default ~/.ir_datasets); some collections must be put there by hand"
        raise InputError(problem, hint=hint) from error


def _suggested(name: str, known: Any) -> list[str]:
    """Of over a thousand ids, those that share the name's first part; else the first parts themselves."""
    ids = [str(identifier) for identifier in known]
    return [one for one in ids if one.startswith(name.partition("/")[0])] or [one for one in ids if "/" not in one]
