"""What `exaranker infer` and `exaranker eval` are given; gin's run files bind it, tests build it in Python."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from exaranker.checks import ActivationType, Macro, NonEmpty, NotNegative, Positive, check, check_lengths, one_of
from exaranker.errors import InputError
from exaranker.files import local_path

MODES = ("predict", "score")


@dataclass(frozen=True)
class DatasetConfig:
    """Which rows to read; the fields are T5X's. Rows keep the order of the dataset and are never packed."""

    mixture_or_task_name: NonEmpty
    task_feature_lengths: Mapping[str, int] | None = None  # None: the longest of the split
    split: NonEmpty = "test"
    batch_size: Positive = 32  # rows over all devices of this process
    use_cached: Annotated[bool, Macro("USE_CACHED_TASKS")] = False
    dataset_dir: NonEmpty | None = None  # of an explanation dataset, for the tasks that are named after it
    num_examples: Annotated[Positive | None, Macro("EVALUATOR_NUM_EXAMPLES")] = None  # only the first ones
    task_module: Annotated[NonEmpty | None, Macro("MIXTURE_OR_TASK_MODULE")] = None  # imported: it registers tasks

    def __post_init__(self) -> None:
        check(self)
        if self.task_feature_lengths is not None:
            check_lengths(self.task_feature_lengths)


@dataclass(frozen=True)
class InferConfig:
    """One job of `exaranker infer`: a task (or each task of a mixture) through a checkpoint.

    With `num_shards` jobs, each with its own `shard_id`, every row is in exactly one of their outputs.
    """

    checkpoint_path: NonEmpty  # MODEL_DIR (its newest checkpoint) or MODEL_DIR/checkpoint_N
    output_dir: Annotated[NonEmpty, Macro("INFER_OUTPUT_DIR")]
    dataset: DatasetConfig
    mode: Annotated[str, one_of(MODES), Macro("INFER_MODE")] = "predict"
    checkpoint_period: Positive = 100  # batches between two saves of what is finished
    shard_id: NotNegative = 0
    num_shards: Positive = 1
    dtype: ActivationType | None = None  # of matrix products; None is the checkpoint's
    base_checkpoint_path: NonEmpty | None = None  # of an adapter, if it is not where it was in training

    def __post_init__(self) -> None:
        check(self)
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
        return local_path(self.output_dir).absolute() / name


@dataclass(frozen=True)
class EvaluationConfig:
    """One job of `exaranker eval`: a task's own metrics (or those of each task of a mixture) for a checkpoint."""

    checkpoint_path: NonEmpty
    output_dir: Annotated[NonEmpty, Macro("EVAL_OUTPUT_DIR")]
    dataset: DatasetConfig
    checkpoint_period: Positive = 100  # batches between two saves of what is finished
    dtype: ActivationType | None = None  # of matrix products; None is the checkpoint's
    base_checkpoint_path: NonEmpty | None = None  # of an adapter, if it is not where it was in training

    def __post_init__(self) -> None:
        check(self)

    @property
    def predictions(self) -> InferConfig:
        """The job whose predictions are measured."""
        return InferConfig(
            self.checkpoint_path,
            self.output_dir,
            self.dataset,
            checkpoint_period=self.checkpoint_period,
            dtype=self.dtype,
            base_checkpoint_path=self.base_checkpoint_path,
        )

    @property
    def directory(self) -> Path:
        return local_path(self.output_dir).absolute()
