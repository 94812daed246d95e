"""SeqIO tasks -> batches of numpy arrays: packed or padded, sharded into streams, and the same again after a restart.

The features are named as SeqIO's converters name them. Ours add `decoder_label_weights` and, for soft labels,
`decoder_other_labels` and `decoder_other_label_shares`. A decoder-only sequence starts with the prompt itself: LLMs
know no begin-of-sequence token 0 before it.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import seqio
import tensorflow as tf
from jaxtyping import Int, Num

from exaranker.errors import InputError
from exaranker.tasks import dataset_numbered, dataset_of, get_task_or_mixture, has_soft_labels
from exaranker.tasks.preprocessors import LABEL
from exaranker.tasks.reading import input_error, untuned
from exaranker.templates import DECODER_ONLY
from exaranker.train.shared_rows import in_rows, share_rows, used_lengths

Tensors = dict[str, tf.Tensor]
ROWS = "rows"  # per target token: 1 + the number of its row in the dataset
DATASETS = "datasets"  # and 1 + the number of that dataset
KEPT = ["row", "dataset", "targets_part", "other_label", "other_label_share"]
PROMPT = 3  # beside preprocessors.LABEL and EXPLANATION
SHARE_UNIT = 2**20  # shares of 1 are counted in it: SeqIO packs integers only
OTHERS = ("other", "share")
LENGTH_STEPS = 8  # unpacked batches are cut to a multiple of 1/8 of both full lengths, so at most 8 shapes compile
SHARED_STEPS = 4  # rows of several pairs to one of 1/4
AGREED_AT_ONCE = 16  # batches whose lengths the processes of a job exchange in one go

Agree = Callable[[Int[np.ndarray, " batches"]], Int[np.ndarray, " batches"]]


class NumberedBatch(NamedTuple):
    """One step's input.

    `arrays`: [rows, length] each; `ids`: the dataset rows in it; `rows`: these by name, for error reports: as they are,
    or as `DATASET NUMBER` where the task mixes several datasets.
    """

    arrays: dict[str, Num[np.ndarray, "rows length"]]
    ids: list[int]
    rows: list[str]


@dataclass(frozen=True)
class BatchSpec:
    """What to read and in which shape. `batch_size` counts rows over all streams, or pairs, where rows have several.

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
    trim: bool = True  # cut unpacked batches to their longest row
    pairs_per_row: int = 1  # of unpacked batches

    def __post_init__(self) -> None:
        if self.batch_size % (self.num_streams * self.pairs_per_row):
            several = f" x {self.pairs_per_row} pairs of a row" if self.pairs_per_row > 1 else ""
            parts = f"the {self.num_streams} data streams{several}"
            raise InputError(f"BATCH_SIZE {self.batch_size} is not a multiple of {parts}")
        missing = {"inputs", "targets"} - set(self.lengths)
        if missing:
            raise InputError(
                f"TASK_FEATURE_LENGTHS {dict(self.lengths)} lacks {', '.join(sorted(missing))}",
                hint="for example {'inputs': 512, 'targets': 128}",
            )


class Batches(Iterator[NumberedBatch]):
    """Batches of the given streams, from the given state on.

    A split that is read once ends with its longest stream; streams that are through give padding until then.

    Args:
        agree: in a job of several processes, gives the greatest of each number over all of them: so they cut a batch
            alike, and end together. All must then read at the same pace.

    Raises:
        InputError: unknown task, a question that does not fit its length, a damaged dataset, or no rows to repeat.
    """

    def __init__(
        self,
        spec: BatchSpec,
        streams: Sequence[int] = (0,),
        state: Mapping[str, int] | None = None,
        agree: Agree | None = None,
    ):
        self._spec, self._agree = spec, agree
        self._first = state["batches"] if state else 0
        self._rows = spec.batch_size // spec.num_streams  # of each stream, or pairs, where rows have several
        self._num_steps = LENGTH_STEPS if spec.pairs_per_row == 1 else SHARED_STEPS * spec.pairs_per_row
        self._mixed = len({dataset_of(task.name) for task in seqio.get_subtasks(get_task_or_mixture(spec.task))}) > 1
        if spec.repeat:
            _check_rows(spec, streams)
        batched = [_stream(spec, index).batch(self._rows).skip(self._first) for index in streams]
        self._datasets = [dataset.prefetch(AGREED_AT_ONCE if agree else 4) for dataset in batched]
        self._empty = _without_rows(self._datasets[0].element_spec)
        self.rewind()

    def rewind(self) -> None:
        """Goes back to the first batch, without tracing the pipeline anew."""
        self._delivered = self._first
        self._iterators = [dataset.as_numpy_iterator() for dataset in self._datasets]
        self._read: deque[tuple[dict[str, np.ndarray], int]] = deque()  # whole batches, with the steps they are cut to

    def __next__(self) -> NumberedBatch:
        if not self._read:
            self._read.extend(self._read_ahead())
        arrays, steps = self._read[0]
        if steps == 0:
            raise StopIteration
        self._read.popleft()
        self._delivered += 1
        arrays = {name: array[:, : steps * _step(array, self._num_steps)] for name, array in arrays.items()}
        numbers = np.stack([arrays.pop(DATASETS).ravel(), arrays.pop(ROWS).ravel()])
        datasets, ids = np.unique(numbers[:, numbers[1] > 0], axis=1) - 1
        whose = [f"{dataset_numbered(number)} " if self._mixed else "" for number in datasets]
        return NumberedBatch(arrays, ids.tolist(), [f"{name}{number}" for name, number in zip(whose, ids, strict=True)])

    def state(self) -> dict[str, int]:
        """What to give to a new `Batches` so that it goes on after the last batch delivered."""
        return {"batches": self._delivered}

    def _read_ahead(self) -> list[tuple[dict[str, np.ndarray], int]]:
        batches = [self._read_one() for _ in range(AGREED_AT_ONCE if self._agree else 1)]
        steps = np.array([self._steps(arrays) for arrays in batches])
        agreed = self._agree(steps) if self._agree else steps
        return list(zip(batches, agreed.tolist(), strict=True))

    def _read_one(self) -> dict[str, np.ndarray]:
        """The streams' parts as one batch; all padding if they are through."""
        try:
            parts: list[dict[str, np.ndarray]] = [next(iterator, self._empty) for iterator in self._iterators]
        except tf.errors.OpError as error:
            raise input_error(error) from error
        whole = {name: np.concatenate([_fill(part[name], self._rows) for part in parts]) for name in self._empty}
        return whole if self._spec.pairs_per_row == 1 else self._in_shared_rows(whole)

    def _in_shared_rows(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Several pairs a row, each stream's in rows of its own."""
        lengths = {"decoder": used_lengths(arrays[ROWS])}
        if "encoder_input_tokens" in arrays:
            lengths["encoder"] = used_lengths(arrays["encoder_input_tokens"])
        decisive = lengths.get("encoder", lengths["decoder"])
        rows = []
        for start in range(0, len(decisive), self._rows):
            shared = share_rows(decisive[start : start + self._rows], self._spec.pairs_per_row)
            rows += [[start + pair for pair in row] for row in shared]
        return in_rows(arrays, rows, lengths)

    def _steps(self, arrays: Mapping[str, Num[np.ndarray, "rows length"]]) -> int:
        """The fewest steps of the full lengths that hold both sides; 0 of a batch without rows."""
        if not arrays[ROWS].any():
            return 0
        if self._spec.pack or not self._spec.trim:
            return self._num_steps
        sides = [arrays[name] for name in ("encoder_input_tokens", ROWS) if name in arrays]
        return max(_used_steps(array, self._num_steps) for array in sides)


def _check_rows(spec: BatchSpec, streams: Sequence[int]) -> None:
    """A stream without rows, repeated, would be waited for without end."""
    once = replace(spec, repeat=False, shuffle=False)
    for index in streams:
        try:
            empty = not any(True for _ in untuned(_rows(once, index)).take(1))
        except tf.errors.OpError as error:
            raise input_error(error) from error
        if empty:
            part = f" in stream {index} of {spec.num_streams}" if spec.num_streams > 1 else ""
            hint = "explain more pairs, or lower DATA_STREAMS" if part else "explain more pairs"
            raise InputError(f"split {spec.split!r} of {spec.task} has no rows{part}", hint=hint)


def _stream(spec: BatchSpec, index: int) -> tf.data.Dataset:
    """What a model is given, packed or padded."""
    convert = _decoder_only if spec.family == DECODER_ONLY else _encoder_decoder
    return untuned(convert(_rows(spec, index), spec))


def _rows(spec: BatchSpec, index: int) -> tf.data.Dataset:
    """The task's rows of one stream."""
    task = get_task_or_mixture(spec.task)
    if spec.split not in task.splits:
        raise InputError(f"task {spec.task} has no split {spec.split!r}", hint=f"it has: {', '.join(task.splits)}")
    if spec.use_cached:
        _check_cached(task, spec.split)
    # A mixture drops what it is not told to keep.
    keep = {"passthrough_features": KEPT} if isinstance(task, seqio.Mixture) else {}
    return task.get_dataset(
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


def _check_cached(task: seqio.Task | seqio.Mixture, split: str) -> None:
    for part in seqio.get_subtasks(task):
        if part.cache_dir is None:
            folders = (
                ", ".join(map(str, seqio.utils.get_global_cache_dirs())) or "EXARANKER_TASK_CACHE, which is not set"
            )
            raise InputError(
                f"USE_CACHED_TASKS is set, but {part.name} is not cached in {folders}",
                hint="cache it as docs/tasks.md shows, or set USE_CACHED_TASKS = False",
            )
        # SeqIO cannot open a cached split without rows: it has described none of their features.
        with tf.io.gfile.GFile(seqio.utils.get_cached_info_path(part.cache_dir, split)) as stream:
            if not json.load(stream):
                raise InputError(f"split {split!r} of {part.name} has no rows", hint="explain more pairs")


def _encoder_decoder(dataset: tf.data.Dataset, spec: BatchSpec) -> tf.data.Dataset:
    inputs, targets = spec.lengths["inputs"], spec.lengths["targets"]
    soft = has_soft_labels(spec.task)

    def select(row: Tensors) -> Tensors:
        numbers = _numbers(row, tf.shape(row["targets"]))
        others = _other_labels(row, tf.size(row["targets"]), 0) if soft else {}
        kept = {"inputs": row["inputs"], "targets": row["targets"], "part": row["targets_part"]}
        return {**kept, **numbers, **others}

    def convert(packed: Tensors) -> Tensors:
        segments = packed.get("targets_segment_ids")
        features = {
            "encoder_input_tokens": packed["inputs"],
            "decoder_target_tokens": packed["targets"],
            "decoder_input_tokens": seqio.utils.make_autoregressive_inputs(packed["targets"], sequence_id=segments),
            **_weights(packed),
            **_soft_labels(packed),
        }
        if segments is not None:
            features["encoder_segment_ids"] = packed["inputs_segment_ids"]
            features["encoder_positions"] = packed["inputs_positions"]
            features["decoder_segment_ids"] = segments
            features["decoder_positions"] = packed["targets_positions"]
        return features

    lengths = {"inputs": inputs, "targets": targets, "part": targets}
    lengths |= dict.fromkeys((ROWS, DATASETS, *(OTHERS if soft else ())), targets)
    return _pack_or_pad(dataset.map(select), lengths, spec.pack).map(convert)


def _decoder_only(dataset: tf.data.Dataset, spec: BatchSpec) -> tf.data.Dataset:
    """Prompt and answer in one sequence; the loss is on the answer only."""
    soft = has_soft_labels(spec.task)

    def select(row: Tensors) -> Tensors:
        tokens = tf.concat([row["inputs"], row["targets"]], 0)
        prompt = tf.size(row["inputs"])
        part = tf.concat([tf.fill([prompt - 1], PROMPT), row["targets_part"]], 0)
        # SeqIO packs what is not 0: every value is raised by one, and lowered again after packing.
        in_prompt = tf.cast(tf.range(tf.size(tokens) - 1) < prompt, tf.int32) + 1
        numbers = _numbers(row, [tf.size(tokens) - 1])
        others = _other_labels(row, tf.size(tokens) - 1, prompt - 1) if soft else {}
        kept = {"previous": tokens[:-1] + 1, "next": tokens[1:] + 1, "part": part, "prompt": in_prompt}
        return {**kept, **numbers, **others}

    def convert(packed: Tensors) -> Tensors:
        features = {
            "decoder_input_tokens": tf.maximum(packed["previous"] - 1, 0),
            "decoder_target_tokens": tf.maximum(packed["next"] - 1, 0),
            "decoder_causal_attention": tf.maximum(packed["prompt"] - 1, 0),
            **_weights(packed),
            **_soft_labels(packed),
        }
        if "next_segment_ids" in packed:
            features["decoder_segment_ids"] = packed["next_segment_ids"]
            features["decoder_positions"] = packed["next_positions"]
        return features

    length = spec.lengths["inputs"] + spec.lengths["targets"]
    lengths = dict.fromkeys(("previous", "next", "part", "prompt", ROWS, DATASETS, *(OTHERS if soft else ())), length)
    return _pack_or_pad(dataset.map(select), lengths, spec.pack).map(convert)


def _weights(packed: Tensors) -> Tensors:
    part = packed["part"]
    return {
        "decoder_loss_weights": tf.cast((part > 0) & (part != PROMPT), tf.int32),
        "decoder_label_weights": tf.cast(tf.equal(part, LABEL), tf.float32),
        ROWS: packed[ROWS],
        DATASETS: packed[DATASETS],
    }


def _numbers(row: Tensors, shape: Any) -> Tensors:
    return {ROWS: tf.fill(shape, row["row"] + 1), DATASETS: tf.fill(shape, row["dataset"] + 1)}


def _other_labels(row: Tensors, length: tf.Tensor, position: tf.Tensor | int) -> Tensors:
    """The other label and its share, at the one position that predicts the label's first token."""
    at_label = tf.one_hot(position, length, dtype=tf.int32)
    share = tf.cast(tf.round(row["other_label_share"] * SHARE_UNIT), tf.int32)
    return {"other": row["other_label"] * at_label + 1, "share": share * at_label + 1}  # raised by one, as above


def _soft_labels(packed: Tensors) -> Tensors:
    if "other" not in packed:
        return {}
    other, share = (tf.maximum(packed[name] - 1, 0) for name in OTHERS)
    return {"decoder_other_labels": other, "decoder_other_label_shares": tf.cast(share, tf.float32) / SHARE_UNIT}


def _pack_or_pad(dataset: tf.data.Dataset, lengths: Mapping[str, int], pack: bool) -> tf.data.Dataset:
    if pack:
        return seqio.utils.trim_and_pack_dataset(dataset, lengths)
    return seqio.utils.trim_and_pad_dataset(dataset, lengths)


def _without_rows(spec: Mapping[str, tf.TensorSpec]) -> dict[str, np.ndarray]:
    return {name: np.zeros((0, one.shape[1]), one.dtype.as_numpy_dtype) for name, one in spec.items()}


def _fill(array: Num[np.ndarray, "some length"], rows: int) -> Num[np.ndarray, "rows length"]:
    """Adds rows of padding to the last, smaller batch of a split."""
    return np.pad(array, ((0, rows - len(array)), (0, 0)))


def _used_steps(array: Int[np.ndarray, "rows length"], num_steps: int) -> int:
    """How many steps hold the longest row."""
    used = int(np.flatnonzero(array.any(axis=0)).max(initial=0)) + 1
    return -(-used // _step(array, num_steps))


def _step(array: Num[np.ndarray, "rows length"], num_steps: int) -> int:
    return -(-array.shape[1] // num_steps)
