"""`--queries` and `--passages`: what a name stands for, read as a stream of (id, text) whatever it is."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from exaranker.errors import InputError
from exaranker.texts import ir_datasets, lucene
from exaranker.texts.folders import files_of
from exaranker.texts.rows import Part, Title, iter_texts

Text = tuple[str, str]  # id, text

_FILE_SUFFIXES = {".jsonl", ".json", ".tsv", ".csv", ".txt", ".gz"}


class TextSource(Protocol):
    """Queries or passages, read again from the start each time."""

    @property
    def name(self) -> str:
        """What errors call it."""

    @property
    def title(self) -> Title:
        """Where a title is put."""

    @property
    def paths(self) -> Sequence[Path]:
        """The files it reads, as far as they are files of texts."""

    def __iter__(self) -> Iterator[Text]:
        """Yields every text, streaming."""

    def select(self, wanted: Collection[str]) -> Iterator[Text]:
        """Yields the texts of those of the ids that it has, in its own order."""


@dataclass(frozen=True)
class TextFiles:
    """One file, or several that are read as one."""

    name: str
    paths: tuple[Path, ...]
    part: Part
    title: Title = "first"

    def __iter__(self) -> Iterator[Text]:
        return self._read(None)

    def select(self, wanted: Collection[str]) -> Iterator[Text]:
        return self._read(wanted)

    def _read(self, wanted: Collection[str] | None) -> Iterator[Text]:
        seen: dict[str, int] = {}
        for path in self.paths:
            yield from iter_texts(path, wanted, self.part, self.title, seen)


def open_texts(name: str | Path, part: Part, title: Title = "first") -> TextSource:
    """The texts that a name stands for.

    A file (TSV or JSON Lines), a folder (BEIR's, TREC's, pyserini's JSON Lines, a Lucene index), or an ir_datasets id.

    Raises:
        InputError: there is no such file, folder or id, or the folder has no such texts.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if lucene.is_index(path):
            return _lucene(path, part, title)
        return TextFiles(str(name), files_of(path, part), part, title)
    if path.exists() or is_path(str(name)):
        return TextFiles(str(name), (path,), part, title)
    ir_datasets.load(str(name))  # a mistyped name is reported before anything is read
    return ir_datasets.IrDataset(str(name), part, title)


def is_path(name: str) -> bool:
    """Whether it is spelt like a path rather than an id such as `beir/scifact/train`."""
    return name.startswith((".", "/", "~")) or Path(name).suffix in _FILE_SUFFIXES


def _lucene(folder: Path, part: Part, title: Title) -> lucene.LuceneIndex:
    if part == "queries":
        raise InputError("is a Lucene index, which has passages only", path=folder, hint="give a file of queries")
    return lucene.LuceneIndex(folder, title)
