"""The output folder: planned shards, written one by one, recorded in a manifest that never says more than is there.

Order of every step: shard file whole and synced, then its rejected rows, then the manifest. So a process that dies
at any moment leaves a folder that the same command continues, and that ends in the same bytes.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from exaranker.errors import InputError, require
from exaranker.files import atomic_path, read_json, sha256_file, write_json
from exaranker.preprocess.engines import EngineInfo
from exaranker.schema import MANIFEST, SCHEMA_VERSION, ExplainedPair, to_example

RUN_FILE = "run.json"  # what differs from run to run: times, host
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


class ShardResult(NamedTuple):
    """What one shard's generation gave."""

    kept: list[ExplainedPair]
    rejected: list[RejectedPair]
    num_tokens: int  # generated, also by rejected rows and samples


class Plan(NamedTuple):
    """Everything that must be the same for two runs to fill one folder.

    `notes` go into the manifest beside the settings and follow from them.
    """

    settings: dict[str, Any]
    notes: dict[str, Any]
    num_pairs: int
    shard_size: int

    @property
    def num_shards(self) -> int:
        return -(-self.num_pairs // self.shard_size)


class Dataset:
    """A locked output folder with its manifest; made by `open_dataset`."""

    def __init__(self, directory: Path, plan: Plan):
        self.directory, self._plan = directory, plan
        self._shards = self._load_shards()
        self._run = self._load_run()
        self._write_manifest()

    @property
    def complete(self) -> bool:
        return len(self._shards) == self._plan.num_shards

    @property
    def done(self) -> set[int]:
        return set(self._shards)

    @property
    def num_done_pairs(self) -> int:
        return sum(shard["pairs"] for shard in self._shards.values())

    def add(self, index: int, result: ShardResult, engine: EngineInfo, seconds: float) -> None:
        """Writes one finished shard, then records it."""
        stem = f"{index:05d}-of-{self._plan.num_shards:05d}"
        path = self.directory / f"explanations-{stem}.tfrecord"
        write_tfrecord(path, result.kept)
        self._shards[index] = {
            **_file_record(path),
            "rows": len(result.kept),
            "pairs": len(result.kept) + len(result.rejected),
            "rejected": self._add_rejected(stem, result.rejected),
            "num_tokens": result.num_tokens,
            "engine": engine.version,
            "repeatable": engine.repeatable,
        }
        self._run["seconds"][path.name] = round(seconds, 3)
        write_json(self.directory / RUN_FILE, self._run)
        self._write_manifest()

    def manifest(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "complete": self.complete,
            "num_shards": self._plan.num_shards,
            "settings": self._plan.settings,
            **self._plan.notes,
            "shards": [shard for _, shard in sorted(self._shards.items())],
        }

    def _add_rejected(self, stem: str, rejected: Sequence[RejectedPair]) -> dict[str, Any]:
        if not rejected:
            return {"rows": 0, "reasons": {}}
        path = self.directory / f"rejected-{stem}.jsonl"
        with atomic_path(path) as aside, aside.open("w", encoding="utf-8") as stream:
            for row in rejected:
                stream.write(json.dumps(row._asdict(), ensure_ascii=False) + "\n")
        reasons = [row.reason for row in rejected]
        counts = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
        return {**_file_record(path), "rows": len(rejected), "reasons": counts}

    def _load_shards(self) -> dict[int, dict[str, Any]]:
        """The recorded shards that are still whole; the others will be generated again."""
        path = self.directory / MANIFEST
        if not path.is_file():
            return {}
        manifest = read_json(path)
        refuse_changes(manifest.get("settings", {}), self._plan.settings, self.directory)
        shards = {int(shard["file"].split("-")[1]): shard for shard in manifest["shards"]}
        return {index: shard for index, shard in shards.items() if self._is_whole(shard)}

    def _is_whole(self, shard: dict[str, Any]) -> bool:
        files = [shard, *([shard["rejected"]] if "file" in shard["rejected"] else [])]
        broken = [record["file"] for record in files if not _matches(self.directory / record["file"], record)]
        for name in broken:
            print(f"{self.directory / name} is missing or damaged: its shard is generated again", flush=True)
        return not broken

    def _load_run(self) -> dict[str, Any]:
        path = self.directory / RUN_FILE
        run = read_json(path) if path.is_file() and path.stat().st_size else {"sessions": [], "seconds": {}}
        run["sessions"].append(_holder())
        return run

    def _write_manifest(self) -> None:
        write_json(self.directory / MANIFEST, self.manifest())


@contextmanager
def open_dataset(directory: str | Path, plan: Plan) -> Iterator[Dataset]:
    """Locks the folder and yields it, with whatever finished shards it holds.

    Raises:
        InputError: another process is writing there, or the folder was begun with other settings.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with _writer_lock(directory):
        yield Dataset(directory, plan)


def refuse_changes(old: dict[str, Any], new: dict[str, Any], directory: Path) -> None:
    """
    Raises:
        InputError: the settings differ; names each difference as `old -> new`.
    """
    before, now = flatten(old), flatten(new)
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if names:
        changes = "; ".join(f"{name}: {_short(before.get(name))} -> {_short(now.get(name))}" for name in names)
        hint = "give another --output_dir, or the settings it was begun with"
        raise InputError(f"this dataset was begun with other settings: {changes}", path=directory, hint=hint)


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """
    >>> flatten({"sampling": {"seed": 0}, "engine": "vllm"})
    {'sampling.seed': 0, 'engine': 'vllm'}
    """
    if not isinstance(value, dict):
        return {prefix: value}
    parts = [flatten(item, f"{prefix}.{name}" if prefix else name) for name, item in value.items()]
    return {name: item for part in parts for name, item in part.items()}


def write_tfrecord(path: Path, rows: Sequence[ExplainedPair]) -> None:
    """
    Raises:
        OSError: the disk is full or the file cannot be written.
    """
    tf = require("tensorflow", "explain")
    try:
        with atomic_path(path) as aside, tf.io.TFRecordWriter(str(aside)) as writer:
            for row in rows:
                writer.write(to_example(row))
    except tf.errors.OpError as error:
        raise OSError(f"cannot write {path}: {error.message}") from error


@contextmanager
def _writer_lock(directory: Path) -> Iterator[None]:
    """An flock, which the kernel lets go of however its holder dies."""
    with (directory / LOCK_FILE).open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            problem = f"another process is writing here: {stream.read().strip() or 'unknown'}"
            raise InputError(problem, path=directory, hint="wait for it, or give another --output_dir") from error
        stream.truncate(0)
        json.dump(_holder(), stream)
        stream.flush()
        yield


def _holder() -> dict[str, Any]:
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": started}


def _file_record(path: Path) -> dict[str, Any]:
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256_file(path)}


def _matches(path: Path, record: dict[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == record["bytes"] and sha256_file(path) == record["sha256"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
