"""The files of an output folder: shards, rejected rows and their records."""

import errno
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from exaranker.errors import require
from exaranker.files import atomic_path, open_output, remove, sha256_file
from exaranker.schema import ExplainedPair, to_example


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
        remove(path)  # of a damaged shard that was generated again
        return {"rows": 0, "reasons": {}}
    with open_output(path) as stream:
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
