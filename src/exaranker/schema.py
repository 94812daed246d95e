"""The contract between `preprocess` (which writes explanations) and `tasks` (which reads them).

This is the only place that names the fields of an explanation TFRecord and of the manifest beside it.
A folder is a dataset only if its manifest is complete and every shard it lists has the recorded size and digest.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from exaranker.errors import InputError, require
from exaranker.files import read_json, sha256_file

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"


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
            yield ExplainedPair(*(_value(example[name].numpy(), kind) for name, kind in FIELD_TYPES.items()))
            row += 1
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
    manifest = read_json(path)
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        raise InputError(
            f"schema version {version!r}, expected {SCHEMA_VERSION}", path=path, hint="explain the pairs again"
        )
    if not manifest.get("complete"):
        done, planned = len(manifest["shards"]), manifest["num_shards"]
        raise InputError(f"the dataset is unfinished: {done} of {planned} shards", path=path, hint=_REPAIR)
    return manifest


def verify(directory: str | Path) -> dict[str, Any]:
    """Reads a dataset's manifest and checks the size and sha256 of every shard against it.

    Raises:
        InputError: as `read_manifest`, or a shard is missing, truncated or altered.
    """
    manifest = read_manifest(directory)
    for shard in manifest["shards"]:
        verify_file(directory, shard)
    return manifest


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
