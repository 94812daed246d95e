"""What `exaranker infer` and `exaranker eval` are given; gin's run files bind it, tests build it in Python."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from exaranker.errors import InputError, nearest

MODES = ("predict", "score")
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class DatasetConfig:
    """Which rows to read; the fields are T5X's. Rows keep the order of the dataset and are never packed."""

    mixture_or_task_name: str
    task_feature_lengths: Mapping[str, int] | None = None  # None: the longest of the split
    split: str = "test"
    batch_size: int = 32  # rows over all devices of this process
    use_cached: bool = False
    dataset_dir: str | None = None  # of an explanation dataset, for the tasks that are named after it
    num_examples: int | None = None  # only the first ones

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"BATCH_SIZE is {self.batch_size}, expected at least 1")
        missing = {"inputs", "targets"} - set(self.task_feature_lengths or ("inputs", "targets"))
        if missing:
            raise InputError(
                f"TASK_FEATURE_LENGTHS {dict(self.task_feature_lengths or {})} lacks {', '.join(sorted(missing))}",
                hint="for example {'inputs': 512, 'targets': 128}",
            )


@dataclass(frozen=True)
class InferConfig:
    """One job of `exaranker infer`: a task (or each task of a mixture) through a checkpoint.

    With `num_shards` jobs, each with its own `shard_id`, every row is in exactly one of their outputs.
    """

    checkpoint_path: str  # MODEL_DIR (its newest checkpoint) or MODEL_DIR/checkpoint_N
    output_dir: str
    dataset: DatasetConfig
    mode: str = "predict"
    checkpoint_period: int = 100  # batches between two saves of what is finished
    shard_id: int = 0
    num_shards: int = 1
    dtype: str | None = None  # of matrix products; None is the checkpoint's

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"unknown mode {self.mode!r}", hint=nearest(self.mode, MODES))
        if self.dtype not in (None, *DTYPES):
            raise InputError(f"unknown ACTIVATION_DTYPE {self.dtype!r}", hint=nearest(str(self.dtype), DTYPES))
        if self.checkpoint_period < 1:
            raise InputError(f"CHECKPOINT_PERIOD is {self.checkpoint_period}, expected at least 1")
        if not 0 <= self.shard_id < self.num_shards:
            raise InputError(
                f"SHARD_ID {self.shard_id} is out of range",
                hint=f"expected 0 to NUM_SHARDS - 1 = {self.num_shards - 1}",
            )

    def output(self, task_name: str) -> Path:
        """The file of one task, named as T5X names it.

        >>> InferConfig("model", "out", DatasetConfig("t"), num_shards=8, shard_id=3).output("t").name
        't-predict.jsonl-00003-of-00008'
        """
        name = f"{task_name}-{self.mode}.jsonl-{self.shard_id:05}-of-{self.num_shards:05}"
        return Path(self.output_dir).absolute() / name


@dataclass(frozen=True)
class EvaluationConfig:
    """One job of `exaranker eval`: a task's own metrics (or those of each task of a mixture) for a checkpoint."""

    checkpoint_path: str
    output_dir: str
    dataset: DatasetConfig
    checkpoint_period: int = 100  # batches between two saves of what is finished
    dtype: str | None = None  # of matrix products; None is the checkpoint's

    @property
    def predictions(self) -> InferConfig:
        """The job whose predictions are measured."""
        return InferConfig(
            self.checkpoint_path,
            self.output_dir,
            self.dataset,
            checkpoint_period=self.checkpoint_period,
            dtype=self.dtype,
        )

    @property
    def directory(self) -> Path:
        return Path(self.output_dir).absolute()
