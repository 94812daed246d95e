"""SeqIO tasks -> batches of numpy arrays: packed or padded, sharded into streams, and the same again after a restart.

The features are named as SeqIO's converters name them. Ours add `decoder_label_weights`, and a decoder-only sequence
starts with the prompt itself: LLMs know no begin-of-sequence token 0 before it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import seqio
import tensorflow as tf
from jaxtyping import Int, Num

from exaranker.errors import InputError
from exaranker.tasks import get_task_or_mixture
from exaranker.tasks.preprocessors import LABEL
from exaranker.templates import DECODER_ONLY

Features = dict[str, tf.Tensor]
ROWS = "rows"  # per target token: 1 + the number of its row in the dataset
PROMPT = 3  # beside preprocessors.LABEL and EXPLANATION
LENGTH_STEPS = 8  # unpacked batches are cut to a multiple of 1/8 of the full length, so at most 8 shapes compile


class Batch(NamedTuple):
    """`arrays`: [rows, length] each; `ids`: the dataset rows in it, for error reports."""

    arrays: dict[str, Num[np.ndarray, "rows length"]]
    ids: list[int]


@dataclass(frozen=True)
class BatchSpec:
    """What to read and in which shape. `batch_size` counts rows over all streams.

    The data is cut into `num_streams` streams, whatever the number of processes: each process reads some of them, and
    a batch has an equal part of each. So the global batches do not depend on who reads what.
    """

    task: str
    split: str
    lengths: Mapping[str, int]  # {"inputs": tokens, "targets": tokens}
    batch_size: int
    family: str  # templates.ENCODER_DECODER or DECODER_ONLY
    pack: bool = True
    shuffle: bool = True
    repeat: bool = True
    seed: int = 0
    use_cached: bool = False
    num_streams: int = 1
    trim: bool = True  # cut unpacked batches to their longest row; needs one process

    def __post_init__(self) -> None:
        if self.batch_size % self.num_streams:
            raise InputError(f"BATCH_SIZE {self.batch_size} is not a multiple of the {self.num_streams} data streams")
        missing = {"inputs", "targets"} - set(self.lengths)
        if missing:
            raise InputError(
                f"TASK_FEATURE_LENGTHS {dict(self.lengths)} lacks {', '.join(sorted(missing))}",
                hint="for example {'inputs': 512, 'targets': 128}",
            )


class Batches(Iterator[Batch]):
    """Batches of the given streams, from the given state on.

    Raises:
        InputError: unknown task, a question that does not fit its length, or a damaged dataset.
    """

    def __init__(self, spec: BatchSpec, streams: Sequence[int] = (0,), state: Mapping[str, int] | None = None):
        self._spec = spec
        self._delivered = state["batches"] if state else 0
        rows = spec.batch_size // spec.num_streams
        datasets = [_stream(spec, index).batch(rows).skip(self._delivered).prefetch(4) for index in streams]
        self._iterators = [dataset.as_numpy_iterator() for dataset in datasets]
        self._rows = rows

    def __next__(self) -> Batch:
        try:
            parts = [next(iterator) for iterator in self._iterators]
        except tf.errors.OpError as error:
            raise _plain(error) from error
        self._delivered += 1
        arrays = {name: np.concatenate([_fill(part[name], self._rows) for part in parts]) for name in parts[0]}
        ids = np.unique(arrays.pop(ROWS))
        if self._spec.trim and not self._spec.pack:
            arrays = _trim(arrays)
        return Batch(arrays, [int(row) - 1 for row in ids if row > 0])

    def state(self) -> dict[str, int]:
        """What to give to a new `Batches` so that it goes on after the last batch delivered."""
        return {"batches": self._delivered}


def _stream(spec: BatchSpec, index: int) -> tf.data.Dataset:
    task = get_task_or_mixture(spec.task)
    if spec.split not in task.splits:
        raise InputError(f"task {spec.task} has no split {spec.split!r}", hint=f"it has: {', '.join(task.splits)}")
    # A mixture drops what it is not told to keep.
    keep = {"passthrough_features": ["row", "targets_part"]} if isinstance(task, seqio.Mixture) else {}
    dataset = task.get_dataset(
        sequence_length=dict(spec.lengths),
        split=spec.split,
        shuffle=spec.shuffle,
        seed=spec.seed,
        shard_info=seqio.ShardInfo(index, spec.num_streams),
        num_epochs=None if spec.repeat else 1,
        use_cached=spec.use_cached,
        trim_output_features=False,  # the preprocessor has cut what may be cut
        **keep,
    )
    convert = _decoder_only if spec.family == DECODER_ONLY else _encoder_decoder
    return convert(dataset, spec)


def _encoder_decoder(dataset: tf.data.Dataset, spec: BatchSpec) -> tf.data.Dataset:
    inputs, targets = spec.lengths["inputs"], spec.lengths["targets"]

    def select(row: Features) -> Features:
        numbers = tf.fill(tf.shape(row["targets"]), row["row"] + 1)
        return {"inputs": row["inputs"], "targets": row["targets"], "part": row["targets_part"], ROWS: numbers}

    def convert(packed: Features) -> Features:
        segments = packed.get("targets_segment_ids")
        features = {
            "encoder_input_tokens": packed["inputs"],
            "decoder_target_tokens": packed["targets"],
            "decoder_input_tokens": seqio.utils.make_autoregressive_inputs(packed["targets"], sequence_id=segments),
            **_weights(packed),
        }
        if segments is not None:
            features["encoder_segment_ids"] = packed["inputs_segment_ids"]
            features["encoder_positions"] = packed["inputs_positions"]
            features["decoder_segment_ids"] = segments
            features["decoder_positions"] = packed["targets_positions"]
        return features

    lengths = {"inputs": inputs, "targets": targets, "part": targets, ROWS: targets}
    return _pack_or_pad(dataset.map(select), lengths, spec.pack).map(convert)


def _decoder_only(dataset: tf.data.Dataset, spec: BatchSpec) -> tf.data.Dataset:
    """Prompt and answer in one sequence; the loss is on the answer only."""

    def select(row: Features) -> Features:
        tokens = tf.concat([row["inputs"], row["targets"]], 0)
        prompt = tf.size(row["inputs"])
        part = tf.concat([tf.fill([prompt - 1], PROMPT), row["targets_part"]], 0)
        # SeqIO packs what is not 0: every value is raised by one, and lowered again after packing.
        in_prompt = tf.cast(tf.range(tf.size(tokens) - 1) < prompt, tf.int32) + 1
        numbers = tf.fill([tf.size(tokens) - 1], row["row"] + 1)
        return {"previous": tokens[:-1] + 1, "next": tokens[1:] + 1, "part": part, "prompt": in_prompt, ROWS: numbers}

    def convert(packed: Features) -> Features:
        features = {
            "decoder_input_tokens": tf.maximum(packed["previous"] - 1, 0),
            "decoder_target_tokens": tf.maximum(packed["next"] - 1, 0),
            "decoder_causal_attention": tf.maximum(packed["prompt"] - 1, 0),
            **_weights(packed),
        }
        if "next_segment_ids" in packed:
            features["decoder_segment_ids"] = packed["next_segment_ids"]
            features["decoder_positions"] = packed["next_positions"]
        return features

    length = spec.lengths["inputs"] + spec.lengths["targets"]
    lengths = dict.fromkeys(("previous", "next", "part", "prompt", ROWS), length)
    return _pack_or_pad(dataset.map(select), lengths, spec.pack).map(convert)


def _weights(packed: Features) -> Features:
    part = packed["part"]
    return {
        "decoder_loss_weights": tf.cast((part > 0) & (part != PROMPT), tf.int32),
        "decoder_label_weights": tf.cast(tf.equal(part, LABEL), tf.float32),
        ROWS: packed[ROWS],
    }


def _pack_or_pad(dataset: tf.data.Dataset, lengths: Mapping[str, int], pack: bool) -> tf.data.Dataset:
    if pack:
        return seqio.utils.trim_and_pack_dataset(dataset, lengths)
    return seqio.utils.trim_and_pad_dataset(dataset, lengths)


def _fill(array: Num[np.ndarray, "some length"], rows: int) -> Num[np.ndarray, "rows length"]:
    """Adds rows of padding to the last, smaller batch of a split."""
    return np.pad(array, ((0, rows - len(array)), (0, 0)))


def _trim(arrays: Mapping[str, Num[np.ndarray, "rows length"]]) -> dict[str, Any]:
    """Cuts the columns that are padding in every row, to one of a few lengths."""
    lengths = {side: _bucket(arrays, side) for side in ("encoder", "decoder")}
    return {name: array[:, : lengths[name.partition("_")[0]]] for name, array in arrays.items()}


def _bucket(arrays: Mapping[str, Int[np.ndarray, "rows length"]], side: str) -> int:
    tokens = [array for name, array in arrays.items() if name.startswith(side) and name.endswith("tokens")]
    if not tokens:
        return 0
    full = tokens[0].shape[1]
    used = max((int(np.flatnonzero(array.any(axis=0)).max(initial=0)) + 1 for array in tokens), default=1)
    step = -(-full // LENGTH_STEPS)
    return min(-(-used // step) * step, full)


def _plain(error: tf.errors.OpError) -> Exception:
    """An InputError raised inside the pipeline, freed of TensorFlow's wrapping."""
    match = re.search(r"InputError: (.+)", str(error.message))
    if match:
        return InputError(match[1])
    if isinstance(error, tf.errors.DataLossError):
        return InputError(f"a shard is damaged: {error.message}", hint="verify it with: exaranker inspect DIR")
    return error
