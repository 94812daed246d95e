"""The contract between `preprocess` (which writes explanations) and `tasks` (which reads them).

This is the only place that names the fields of an explanation TFRecord and of the manifest beside it.
A folder is a dataset only if its manifest is complete and every shard it lists has the recorded size and digest.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from exaranker.errors import InputError, require
from exaranker.files import read_json, require_fields, sha256_file

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
SHARD_FIELDS: dict[str, type] = {"file": str, "rows": int, "bytes": int, "sha256": str}


class Pair(NamedTuple):
    """A labelled (query, passage); `label` is the integer grade as judged."""

    query_id: str
    doc_id: str
    query: str
    passage: str
    label: int

    @property
    def is_blank(self) -> bool:
        """Whether it lacks a query or a passage."""
        return not (self.query.strip() and self.passage.strip())


class ExplainedPair(NamedTuple):
    """One row of an explanation TFRecord: a pair, whether it counts as relevant, and why, in an LLM's words."""

    query_id: str
    doc_id: str
    query: str
    passage: str
    label: int  # the grade as judged
    relevant: int  # 1 if label >= the dataset's positive grade, else 0
    explanation: str
    explainer: str  # the LLM's name
    finish_reason: str  # "stop" or "length"
    num_tokens: int  # tokens the LLM generated
    mean_logprob: float  # natural log, mean over the generated tokens
    llm_relevance: float = -1.0  # the LLM's own P(relevant), asked without the label; -1 if it was not asked


FIELD_TYPES: dict[str, type] = dict(ExplainedPair.__annotations__)


def to_example(row: ExplainedPair) -> bytes:
    """Serialises a row as a tf.train.Example."""
    tf = require("tensorflow", "explain")
    features = {name: _feature(tf, getattr(row, name), kind) for name, kind in FIELD_TYPES.items()}
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def feature_description() -> dict[str, Any]:
    """What `tf.io.parse_single_example` needs to read a row."""
    tf = require("tensorflow", "train")
    dtypes = {str: tf.string, int: tf.int64, float: tf.float32}
    return {name: tf.io.FixedLenFeature([], dtypes[kind]) for name, kind in FIELD_TYPES.items()}


def read_shard(path: str | Path) -> Iterator[ExplainedPair]:
    """Yields the rows of one TFRecord shard.

    Raises:
        InputError: the shard is missing, truncated or corrupt.
    """
    tf = require("tensorflow", "train")
    description = feature_description()
    row = 0
    try:
        for serialized in tf.data.TFRecordDataset(str(path)):
            example = tf.io.parse_single_example(serialized, description)
            explained = ExplainedPair(*(_value(example[name].numpy(), kind) for name, kind in FIELD_TYPES.items()))
            if explained.relevant not in (0, 1):
                raise InputError(f"record {row}: relevant is {explained.relevant}, expected 0 or 1", path=path)
            yield explained
            row += 1
    except UnicodeDecodeError as error:
        raise InputError(f"record {row} is not UTF-8: {error.reason}", path=path, hint=_REPAIR) from error
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError) as error:
        reason = str(error.message).rpartition("}} ")[2].partition(" [Op:")[0]
        raise InputError(f"cannot read record {row}: {reason}", path=path, hint=_REPAIR) from error


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """Reads the manifest of a complete dataset, without touching its shards.

    Raises:
        InputError: no manifest, an unfinished one, or one of another schema version.
    """
    path = Path(directory) / MANIFEST
    if not path.is_file():
        raise InputError("no manifest.json here, so this is not a dataset", path=directory, hint=_REPAIR)
    manifest = require_fields(read_json(path), {}, path=path, hint=_REPAIR)
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        raise InputError(
            f"schema version {version!r}, expected {SCHEMA_VERSION}", path=path, hint="explain the pairs again"
        )
    require_fields(manifest, {"shards": list, "num_shards": int, "complete": bool}, path=path, hint=_REPAIR)
    if not manifest.get("complete"):
        done, planned = len(manifest["shards"]), manifest["num_shards"]
        raise InputError(f"the dataset is unfinished: {done} of {planned} shards", path=path, hint=_REPAIR)
    _check_shards(manifest, path)
    return manifest


def verify(directory: str | Path) -> dict[str, Any]:
    """Reads a dataset's manifest and checks the size and sha256 of every shard against it.

    Raises:
        InputError: as `read_manifest`, or a shard is missing, truncated or altered.
    """
    manifest = read_manifest(directory)
    for shard in manifest["shards"]:
        verify_file(directory, shard)
        path = Path(directory) / shard["file"]
        if (rows := count_records(path)) != shard["rows"]:
            raise InputError(f"{rows} rows, the manifest says {shard['rows']}", path=path, hint=_REPAIR)
    return manifest


def count_records(path: str | Path) -> int:
    """The records of a TFRecord file, by their lengths alone: 8 bytes before each, and twice 4 of checksums.

    Raises:
        InputError: the last record is cut off.
    """
    size, place, count = Path(path).stat().st_size, 0, 0
    with Path(path).open("rb") as stream:
        while place < size:
            stream.seek(place)
            place += int.from_bytes(stream.read(8), "little") + 16
            count += 1
    if place != size:
        raise InputError(f"record {count - 1} is cut off", path=path, hint=_REPAIR)
    return count


def _check_shards(manifest: dict[str, Any], path: Path) -> None:
    """Holds the list of shards to the rest of the manifest.

    Raises:
        InputError: the list of shards is not of a complete dataset: one is missing, twice, or outside of the folder.
    """
    shards, planned = manifest["shards"], manifest["num_shards"]
    for shard in shards:
        require_fields(shard, SHARD_FIELDS, path=path, hint=_REPAIR)
        _check_name(shard["file"], path)
        if isinstance(side := shard.get("rejected"), dict) and "file" in side:
            _check_name(side["file"], path)
        if shard["rows"] < 0:
            raise InputError(f"{shard['file']} has {shard['rows']} rows", path=path, hint=_REPAIR)
    names = [shard["file"] for shard in shards]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"lists {', '.join(repeated)} more than once", path=path, hint=_REPAIR)
    if len(names) != planned:
        raise InputError(f"lists {len(names)} of {planned} shards", path=path, hint=_REPAIR)


def _check_name(name: Any, path: Path) -> None:
    if not isinstance(name, str) or Path(name).name != name or name == ".." or "\0" in name:
        raise InputError(f"lists {name!r}, expected the name of a file in this folder", path=path, hint=_REPAIR)


def verify_file(directory: str | Path, record: dict[str, Any]) -> None:
    """Checks one file against its `{"file", "bytes", "sha256"}` of the manifest.

    Raises:
        InputError: it is missing, truncated or altered.
    """
    path = Path(directory) / record["file"]
    if not path.is_file():
        raise InputError("the manifest lists this file, but it is missing", path=path, hint=_REPAIR)
    if (size := path.stat().st_size) != record["bytes"]:
        raise InputError(f"{size} bytes, the manifest says {record['bytes']}", path=path, hint=_REPAIR)
    if (digest := sha256_file(path)) != record["sha256"]:
        problem = f"sha256 {digest[:12]}…, the manifest says {record['sha256'][:12]}…"
        raise InputError(problem, path=path, hint=_REPAIR)


def shard_paths(directory: str | Path) -> list[str]:
    """The shards of a complete dataset, in order."""
    return [str(Path(directory) / shard["file"]) for shard in read_manifest(directory)["shards"]]


_REPAIR = "run the same `exaranker explain` command again to complete or repair it"


def _feature(tf: Any, value: Any, kind: type) -> Any:
    if kind is str:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
    if kind is int:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))


def _value(value: Any, kind: type) -> Any:
    return value.decode() if kind is str else kind(value)
