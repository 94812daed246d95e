"""Long jobs that survive a kill: each finished chunk of rows is one line of a file beside the output."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from exaranker.files import fetch, push, remove, sha256_json, write_text
from exaranker.logs import progress

Row = TypeVar("Row")
Advance = Callable[[float], object]  # is told which share of a piece of work is done


def unheard(share: float) -> None:
    """An `Advance` for work that nobody watches."""


UPLOAD_PERIOD = 60.0  # seconds of work that a kill may cost where the output is in a store, which cannot append


class Partial:
    """Finished chunks of the job that writes `output`. `key` says which job: another key starts afresh.

    A chunk's results must be JSON, one per row, and must not depend on other chunks: a continued job then equals an
    undisturbed one. A chunk is known by its rows, so that those whose rows have not changed are not computed again.
    """

    def __init__(self, output: Path, key: str):
        self._path = output.with_name(output.name + ".partial")
        fetch(self._path)
        self._header = json.dumps({"job": key}) + "\n"
        lines = self._path.read_text(errors="replace").split("\n") if self._path.is_file() else []
        kept = list(filter(_is_whole, lines[1:])) if f"{lines[0] if lines else ''}\n" == self._header else []
        self._finished: dict[str, list[Any]] = dict(json.loads(line)[:2] for line in kept)
        write_text(self._path, self._header + "".join(f"{line}\n" for line in kept))

    def map(
        self,
        compute: Callable[[Sequence[Row], Advance], list[Any]],
        chunks: Iterable[Sequence[Row]],
        *,
        identity: Callable[[Row], Any],
        desc: str,
        unit: str,
        total: int | None = None,
    ) -> Iterator[Any]:
        """Yields the result of every row in order, under a progress bar; `compute` takes a chunk of rows.

        It may say which share of the chunk is done, by calling what it is given beside it. `identity` gives, as JSON,
        all that a row's result depends on. Finished rows do not count for the bar's rate.
        """
        read_back = shown = 0
        with progress(desc=desc, total=total, unit=unit) as bar, self._path.open("a") as stream:
            for chunk in chunks:
                advance = partial(_advance, bar, shown, len(chunk))
                digest = sha256_json([identity(row) for row in chunk])
                results = self._finished.pop(digest, None)
                if results is None:
                    results = compute(chunk, advance)
                    stream.write(json.dumps([digest, results, sha256_json([digest, results])]) + "\n")
                    stream.flush()
                    os.fsync(stream.fileno())
                    push(self._path, every=UPLOAD_PERIOD)
                else:
                    read_back += len(chunk)
                    bar.initial = read_back
                advance(1.0)
                shown += len(chunk)
                yield from results

    def remove(self) -> None:
        """Forgets the job, once its output is in place."""
        remove(self._path)


def _advance(bar: Any, before: int, rows: int, share: float) -> None:
    bar.update(before + int(share * rows) - bar.n)


def file_stamps(paths: Iterable[Path], root: Path) -> list[Any]:
    """Name below `root`, size and time of files: which bytes they hold, cheaper than reading gigabytes."""
    files = sorted(path for path in paths if path.is_file())
    return [[os.path.relpath(path, root), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def _is_whole(line: str) -> bool:
    """Whether a line is as it was written: a kill may leave half of one, a disk other bytes."""
    try:
        digest, results, told = json.loads(line)
    except (ValueError, TypeError):
        return False
    return bool(told == sha256_json([digest, results]))


def chunked(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Consecutive rows, `size` at a time, streaming.

    >>> list(chunked("abc", 2))
    [['a', 'b'], ['c']]
    """
    stream = iter(rows)
    while chunk := list(islice(stream, size)):
        yield chunk
