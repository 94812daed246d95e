"""Texts that are looked up again and again, kept on disk: memory holds their ids and places."""

import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from exaranker.files import system_errors_named


class KeptTexts(Mapping[str, str]):
    """Texts by id in a file without a name in `folder`, which is gone with the process.

    >>> texts = KeptTexts([("D1", "Cats purr."), ("D2", "")], Path("."))
    >>> texts["D1"], texts["D2"], len(texts)
    ('Cats purr.', '', 2)
    """

    def __init__(self, texts: Iterable[tuple[str, str]], folder: Path):
        self._places: dict[str, int] = {}
        self._ends = array("q", [0])  # bytes; the text at place n ends at [n + 1]
        with system_errors_named(folder):
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
            for identifier, text in texts:
                self._places[identifier] = len(self._places)
                self._ends.append(self._ends[-1] + self._file.write(text.encode()))
            self._file.flush()

    def __getitem__(self, identifier: str) -> str:
        start, end = self._ends[(place := self._places[identifier]) : place + 2]
        return os.pread(self._file.fileno(), end - start, start).decode()

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._places
