"""The output folder: planned shards, written one by one, recorded in a manifest that never says more than is there.

Order of every step: shard file whole and synced, then its rejected rows, then the manifest. So a process that dies
at any moment leaves a folder that the same command continues, and that ends in the same bytes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from exaranker import __version__
from exaranker.errors import InputError
from exaranker.files import claim_folder, holder, read_json, write_json
from exaranker.logs import warn
from exaranker.preprocess.dataset.files import (
    RejectedPair,
    file_record,
    is_recorded,
    write_rejected,
    write_tfrecord,
)
from exaranker.preprocess.engines.base import EngineInfo
from exaranker.schema import MANIFEST, SCHEMA_VERSION, ExplainedPair

RUN_FILE = "run.json"  # what differs from run to run: times, host


class ShardResult(NamedTuple):
    """What one shard's generation gave."""

    kept: list[ExplainedPair]
    rejected: list[RejectedPair]
    num_tokens: int  # generated, also by rejected rows and samples

    @property
    def num_pairs(self) -> int:
        return len(self.kept) + len(self.rejected)


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


class DatasetWriter:
    """A locked output folder with its manifest; made by `open_dataset`."""

    def __init__(self, directory: Path, plan: Plan):
        self.directory, self._plan = directory, plan
        self._damaged: dict[int, dict[str, Any]] = {}  # shards to generate again, as they were recorded
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
        """Writes one finished shard, then records it.

        Raises:
            InputError: the disk is full, or the engine's LLM is not that of the shards before.
        """
        if engine.names_model:
            self._refuse_other_engines(engine)
        stem = f"{index:05d}-of-{self._plan.num_shards:05d}"
        path = self.directory / f"explanations-{stem}.tfrecord"
        write_tfrecord(path, result.kept)
        self._shards[index] = {
            **file_record(path),
            "rows": len(result.kept),
            "pairs": len(result.kept) + len(result.rejected),
            "rejected": write_rejected(self.directory / f"rejected-{stem}.jsonl", result.rejected),
            "num_tokens": result.num_tokens,
            "exaranker": __version__,
            "engine": engine.version,
            "repeatable": engine.repeatable,
        }
        self._compare(index)
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

    def _load_shards(self) -> dict[int, dict[str, Any]]:
        """The recorded shards that are still whole; the others will be generated again."""
        path = self.directory / MANIFEST
        if not path.is_file():
            return {}
        manifest = read_json(path)
        begun = {"schema_version": manifest.get("schema_version"), **manifest.get("settings", {})}
        refuse_changes(begun, {"schema_version": SCHEMA_VERSION, **self._plan.settings}, self.directory)
        shards = {int(shard["file"].split("-")[1]): shard for shard in manifest["shards"]}
        whole = {index: shard for index, shard in shards.items() if self._is_whole(shard)}
        self._damaged = {index: shard for index, shard in shards.items() if index not in whole}
        return whole

    def _refuse_other_engines(self, engine: EngineInfo) -> None:
        others = {shard["engine"] for shard in self._shards.values()} - {engine.version}
        if others:
            problem = f"this dataset was begun by {', '.join(map(repr, sorted(others)))}, not by {engine.version!r}"
            hint = "give another --output_dir, or the model it was begun with"
            raise InputError(problem, path=self.directory, hint=hint)

    def _compare(self, index: int) -> None:
        """Says if a damaged shard did not become again what it was."""
        old, new = self._damaged.get(index), self._shards[index]
        if old is not None and old["sha256"] != new["sha256"]:
            warn(f"{new['file']} was generated again, but is not the same: {new['repeatable']}")

    def _is_whole(self, shard: dict[str, Any]) -> bool:
        files = [shard, *([shard["rejected"]] if "file" in shard["rejected"] else [])]
        broken = [record["file"] for record in files if not is_recorded(self.directory / record["file"], record)]
        for name in broken:
            warn(f"{self.directory / name} is missing or damaged: its shard is generated again")
        return not broken

    def _load_run(self) -> dict[str, Any]:
        path = self.directory / RUN_FILE
        run = read_json(path) if path.is_file() and path.stat().st_size else {"sessions": [], "seconds": {}}
        run["sessions"].append(holder())
        return run

    def _write_manifest(self) -> None:
        write_json(self.directory / MANIFEST, self.manifest())


@contextmanager
def open_dataset(directory: str | Path, plan: Plan) -> Iterator[DatasetWriter]:
    """Locks the folder and yields it, with whatever finished shards it holds.

    Raises:
        InputError: as `claim_folder`, or the folder was begun with other settings.
    """
    with claim_folder(directory, option="--output_dir") as directory:
        yield DatasetWriter(directory, plan)


def refuse_changes(old: dict[str, Any], new: dict[str, Any], directory: Path) -> None:
    """Refuses to go on with a dataset that was begun with other settings.

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
    """Nested settings as one level of dotted names.

    >>> flatten({"sampling": {"seed": 0}, "engine": "vllm"})
    {'sampling.seed': 0, 'engine': 'vllm'}
    """
    if not isinstance(value, dict):
        return {prefix: value}
    parts = [flatten(item, f"{prefix}.{name}" if prefix else name) for name, item in value.items()]
    return {name: item for part in parts for name, item in part.items()}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
