"""Long jobs that survive a kill: the result of each finished chunk is one line of a file beside the output."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from exaranker.files import write_text

Chunk = TypeVar("Chunk")


class Partial:
    """Finished chunks of one job. `key` says which job: another key starts afresh.

    A chunk's result must be JSON and must not depend on other chunks: a continued job then equals an undisturbed one.
    """

    def __init__(self, path: str | Path, key: str):
        self._path = Path(path)
        self._header = json.dumps({"job": key}) + "\n"
        lines = self._path.read_text().splitlines(keepends=True) if self._path.is_file() else []
        whole = [line for line in lines if line.endswith("\n")]  # a kill may leave half of the last line
        kept = whole if whole[:1] == [self._header] else [self._header]
        self.finished = [json.loads(line) for line in kept[1:]]
        write_text(self._path, "".join(kept))

    def map(self, compute: Callable[[Chunk], Any], chunks: Iterable[Chunk]) -> Iterator[Any]:
        """Yields `compute(chunk)` for every chunk in order; finished ones are read back instead."""
        with self._path.open("a") as stream:
            for number, chunk in enumerate(chunks):
                if number < len(self.finished):
                    yield self.finished[number]
                    continue
                result = compute(chunk)
                stream.write(json.dumps(result) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
                yield result

    def remove(self) -> None:
        """Forgets the job, once its output is in place."""
        self._path.unlink(missing_ok=True)
