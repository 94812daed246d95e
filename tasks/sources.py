"""Reads explanation TFRecords as a SeqIO source, split by query."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from exaranker import schema

# Percents, by a hash of the query id: all pairs of a query are in one split, on every machine, for good.
SPLITS: dict[str, tuple[int, int]] = {"test": (0, 5), "validation": (5, 10), "train": (10, 100)}
FIELDS = ("query_id", "doc_id", "query", "passage", "label", "relevant", "explanation", "llm_relevance")

TEXTS = ("query", "passage", "explanation")

Example = Mapping[str, tf.Tensor]


class ExplanationSource(seqio.FileDataSource):
    """The rows of a dataset of explanations, as a SeqIO source.

    `row` is a row's number in it, and `dataset` the dataset's own, for rows of mixtures. With `mismatched`, another
    pair explains each row.
    """

    def __init__(self, directory: str | Path, manifest: Mapping[str, Any], number: int, *, mismatched: bool = False):
        self._number = number
        self._files = [str(Path(directory) / shard["file"]) for shard in manifest["shards"]]
        self._starts = np.cumsum([0, *(shard["rows"] for shard in manifest["shards"])])[:-1].tolist()
        self._shard_rows = max((shard["rows"] for shard in manifest["shards"]), default=1)
        self._mismatched = mismatched
        patterns = tuple(_escaped(file) for file in self._files)
        super().__init__(self._read, dict.fromkeys(("train", "validation", "test"), patterns))

    def get_dataset(self, split: str = "train", *args: Any, **kwargs: Any) -> tf.data.Dataset:
        low, high = SPLITS[split]
        dataset = super().get_dataset(split, *args, **kwargs)
        return dataset.filter(lambda example: (query_percent(example) >= low) & (query_percent(example) < high))

    @tf.autograph.experimental.do_not_convert
    def _read(self, file: tf.Tensor) -> tf.data.Dataset:
        start = tf.gather(self._starts, tf.argmax(tf.constant(self._files) == file))
        rows = (
            tf.data.TFRecordDataset(file)
            .enumerate(tf.cast(start, tf.int64))
            .map(_parse(self._number), tf.data.AUTOTUNE)
        )
        return mismatched(rows, self._shard_rows) if self._mismatched else rows


def _escaped(file: str) -> str:
    """SeqIO takes names of files for patterns; a folder may be called `runs[1]`."""
    return re.sub(r"([*?\[\\])", r"\\\1", file)


def query_percent(example: Example) -> tf.Tensor:
    """The number, 0 to 99, that decides a query's split; TensorFlow promises this hash to stay as it is."""
    return tf.strings.to_hash_bucket_fast(example["query_id"], 100)


def mismatched(rows: tf.data.Dataset, shard_rows: int) -> tf.data.Dataset:
    """Gives each row of a shard the explanation of another query's row with the same label and split.

    A row for which the shard has no such partner is left out.
    """

    def exchange(batch: Example) -> Example:
        percent = query_percent(batch)
        held_out = sum(tf.cast(percent >= low, tf.int64) for low, _ in SPLITS.values())
        groups = batch["relevant"] * 10 + held_out
        partner = tf.numpy_function(partners, [groups, batch["query_id"]], tf.int64, stateful=False)
        partner = tf.ensure_shape(partner, [None])
        found = partner >= 0
        explanation = tf.gather(batch["explanation"], tf.maximum(partner, 0))
        return {name: tf.boolean_mask(value, found) for name, value in {**batch, "explanation": explanation}.items()}

    shapes = rows.element_spec
    return rows.batch(shard_rows).map(exchange).unbatch().map(lambda row: _with_shapes(row, shapes))


def partners(groups: np.ndarray, query_ids: np.ndarray) -> np.ndarray:
    """For each row, the row half its group away, or the next after it that has another query; -1 if there is none.

    >>> partners(np.array([1, 1, 1, 0]), np.array([b"a", b"a", b"b", b"a"])).tolist()
    [2, 2, 0, -1]
    """
    partner = np.full(len(groups), -1, np.int64)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        for position, row in enumerate(members):
            ahead = np.roll(members, -(position + max(1, len(members) // 2)))
            others = ahead[query_ids[ahead] != query_ids[row]]
            partner[row] = others[0] if len(others) else -1
    return partner


def _parse(dataset: int) -> Callable[[tf.Tensor, tf.Tensor], Example]:
    description = {name: kind for name, kind in schema.feature_description().items() if name in FIELDS}

    def parse(row: tf.Tensor, record: tf.Tensor) -> Example:
        numbers = {"dataset": tf.constant(dataset, tf.int32), "row": tf.cast(row, tf.int32)}
        example = tf.io.parse_single_example(record, description)
        for name in TEXTS:
            _require_utf8(example[name], name, row)
        return {**example, **numbers}

    return parse


def _require_utf8(text: tf.Tensor, name: str, row: tf.Tensor) -> None:
    """SentencePiece would make something of any bytes; `reading.input_error` takes the error apart."""
    problem = f"InputError: {name} of row {{}} is not UTF-8 (verify the dataset with: exaranker inspect DIR)"
    is_utf8 = tf.equal(tf.strings.unicode_transcode(text, "UTF-8", "UTF-8"), text)
    tf.debugging.Assert(is_utf8, [tf.strings.format(problem, row)])


def _with_shapes(row: Example, spec: Mapping[str, tf.TensorSpec]) -> Example:
    return {name: tf.ensure_shape(value, spec[name].shape) for name, value in row.items()}
