"""The files of an output folder: shards, rejected rows, their records, and the lock of the one who writes them."""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from exaranker.errors import InputError, require
from exaranker.files import atomic_path, full_disk_named, sha256_file
from exaranker.schema import ExplainedPair, to_example

LOCK_FILE = ".writer"


class RejectedPair(NamedTuple):
    """A row of the side file: why a pair has no explanation in the dataset."""

    query_id: str
    doc_id: str
    query: str
    passage: str
    label: int
    reason: str
    text: str  # what the LLM wrote, "" if it was not asked


def write_tfrecord(path: Path, rows: Sequence[ExplainedPair]) -> None:
    """Writes explained pairs as one TFRecord file.

    Raises:
        InputError: the disk is full.
        OSError: the file cannot be written.
    """
    tf = require("tensorflow", "explain")
    with atomic_path(path) as aside:
        try:
            with tf.io.TFRecordWriter(str(aside)) as writer:
                for row in rows:
                    writer.write(to_example(row))
        except tf.errors.OpError as error:
            full = isinstance(error, tf.errors.ResourceExhaustedError)
            raise OSError(errno.ENOSPC if full else errno.EIO, error.message, str(path)) from error


def write_rejected(path: Path, rejected: Sequence[RejectedPair]) -> dict[str, Any]:
    """Writes the side file, if there is anything for it, and returns its record."""
    if not rejected:
        path.unlink(missing_ok=True)  # of a damaged shard that was generated again
        return {"rows": 0, "reasons": {}}
    with atomic_path(path) as aside, aside.open("w", encoding="utf-8") as stream:
        for row in rejected:
            stream.write(json.dumps(row._asdict(), ensure_ascii=False) + "\n")
    reasons = [row.reason for row in rejected]
    counts = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    return {**file_record(path), "rows": len(rejected), "reasons": counts}


def file_record(path: Path) -> dict[str, Any]:
    """What the manifest keeps of a file: its name, bytes and sha256."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256_file(path)}


def is_recorded(path: Path, record: dict[str, Any]) -> bool:
    """Whether a file is there as its record has it, to the last byte."""
    return path.is_file() and path.stat().st_size == record["bytes"] and sha256_file(path) == record["sha256"]


@contextmanager
def writer_lock(directory: Path) -> Iterator[None]:
    """An flock, which the kernel lets go of however its holder dies; makes the folder.

    Raises:
        InputError: another process holds it, or nothing can be written there.
    """
    with _lock_file(directory) as stream:
        # A forked child, such as a worker of vLLM, would keep the lock of a parent that is killed.
        os.register_at_fork(after_in_child=stream.close)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            problem = f"another process is writing here: {stream.read().strip() or 'unknown'}"
            raise InputError(problem, path=directory, hint="wait for it, or give another --output_dir") from error
        stream.truncate(0)
        with full_disk_named(directory / LOCK_FILE):
            stream.write(json.dumps(holder()))
            stream.flush()
        yield


def _lock_file(directory: Path) -> TextIO:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return (directory / LOCK_FILE).open("a+", encoding="utf-8")
    except OSError as error:
        hint = "make room, or give another --output_dir"
        raise InputError(f"cannot write here: {error.strerror}", path=directory, hint=hint) from error


def holder() -> dict[str, Any]:
    """The process that writes a folder, as its lock file names it."""
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
