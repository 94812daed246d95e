"""A BM25 index in a folder: built once, then searched through memory maps, without being read whole.

bm25s keeps the scores as a matrix of three arrays; passages' ids and terms lie beside them as tables of strings.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import bm25s
import numpy as np

from exaranker import __version__
from exaranker.errors import InputError
from exaranker.files import atomic_folder, read_json, require_fields, write_json
from exaranker.rank.bm25 import Bm25Index, Bm25Params
from exaranker.resume import file_stamps
from exaranker.texts.sources import TextSource

ABOUT = "index.json"
ABOUT_FIELDS = {"passages": list, "k1": float, "b": float, "median_length": float, "version": str}
REMEDY = "name another --index folder, or remove this one to have it built again"


class Strings(Sequence[str]):
    """Strings in two files, looked up by their place."""

    def __init__(self, path: Path):
        self._text = np.memmap(path, np.uint8, "r")
        self._ends = np.load(_ends_of(path), mmap_mode="r")

    @staticmethod
    def write(path: Path, strings: Iterable[str]) -> None:
        """Writes the files."""
        ends = [0]
        with path.open("wb") as stream:
            for string in strings:
                ends.append(ends[-1] + stream.write(string.encode()))
        np.save(_ends_of(path), np.array(ends, np.int64))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, place: Any) -> Any:
        if place >= len(self):
            raise IndexError(place)
        return self._text[self._ends[place] : self._ends[place + 1]].tobytes().decode()


class KeptTerms(Mapping[str, int]):
    """Ids of terms, found by bisection of the sorted terms."""

    def __init__(self, folder: Path):
        self._sorted = Strings(folder / "terms.txt")
        self._ids = np.load(folder / "terms.ids.npy", mmap_mode="r")

    @staticmethod
    def write(folder: Path, terms: Mapping[str, int]) -> None:
        """Writes the files."""
        ordered = sorted(terms)
        Strings.write(folder / "terms.txt", ordered)
        np.save(folder / "terms.ids.npy", np.array([terms[term] for term in ordered], np.int32))

    def __getitem__(self, term: str) -> int:
        place = bisect_left(self._sorted, term)
        if place == len(self._sorted) or self._sorted[place] != term:
            raise KeyError(term)
        return int(self._ids[place])

    def __iter__(self) -> Iterator[str]:
        return iter(self._sorted)

    def __len__(self) -> int:
        return len(self._sorted)


def identity(passages: TextSource) -> list[Any]:
    """What an index is of: the rule for titles, and names, sizes and times of the files, or the dataset's id."""
    stamps = [file_stamps([path], path.parent)[0] for path in passages.paths]
    return [passages.title, *(stamps or [passages.name])]


def save_index(index: Bm25Index, passages: list[Any], folder: Path) -> None:
    """Writes an index, whole or not at all.

    Raises:
        InputError: the folder has something in it, another process is writing it, or the disk is full.
    """
    with atomic_folder(folder) as aside:
        index.scores.vocab_dict = {}  # the terms are kept below, where they can be searched in place
        index.scores.save(aside, show_progress=False)
        Strings.write(aside / "doc_ids.txt", index.doc_ids)
        KeptTerms.write(aside, index.terms)
        about = {"passages": passages, **index.params._asdict(), "median_length": index.median_length}
        write_json(aside / ABOUT, about | {"version": __version__, "documents": len(index.doc_ids)})


def is_index(folder: Path) -> bool:
    """Whether there is an index in the folder."""
    return (folder / ABOUT).is_file()


def open_index(folder: Path) -> Bm25Index:
    """Maps an index into memory; its files are read where a query needs them.

    Raises:
        InputError: it is damaged or no index.
    """
    about = require_fields(read_json(folder / ABOUT), ABOUT_FIELDS, path=folder / ABOUT, hint=REMEDY)
    try:
        scores = bm25s.BM25.load(folder, mmap=True, load_vocab=False, show_progress=False)
        doc_ids, terms = Strings(folder / "doc_ids.txt"), KeptTerms(folder)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"this index is damaged: {error}", path=folder, hint=REMEDY) from error
    return Bm25Index(doc_ids, terms, scores, Bm25Params(about["k1"], about["b"]), about["median_length"])


def refuse_another(folder: Path, passages: list[Any] | None, params: Bm25Params) -> None:
    """Holds an index to the parameters and, if they are given, the passages that it is asked to be of.

    Raises:
        InputError: it is of others.
    """
    about = require_fields(read_json(folder / ABOUT), ABOUT_FIELDS, path=folder / ABOUT, hint=REMEDY)
    if (found := Bm25Params(about["k1"], about["b"])) != params:
        raise InputError(f"this index is of k1={found.k1}, b={found.b}", path=folder, hint=REMEDY)
    if passages is not None and about["passages"] != passages:
        raise InputError("this index is of other passages, or of another --title", path=folder, hint=REMEDY)


def _ends_of(path: Path) -> Path:
    return path.with_suffix(".ends.npy")
