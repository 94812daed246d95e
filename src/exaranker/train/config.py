"""The one configuration of a training run; gin's run files bind it, tests build it in Python."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from exaranker.checks import (
    DropoutRate,
    Macro,
    NonEmpty,
    NotNegative,
    Positive,
    Seed,
    at_least,
    check,
    check_lengths,
    one_of,
)
from exaranker.devices.mesh import MeshConfig
from exaranker.errors import InputError
from exaranker.files import local_path
from exaranker.losses.token import LossConfig
from exaranker.models import ModelConfig
from exaranker.models.lora import Lora
from exaranker.train.optimizers import Adafactor, Optimizer

EVALUATED = ("loss", "label_loss", "label_accuracy", "explanation_loss")  # figures of the validation split


@dataclass(frozen=True)
class CheckpointConfig:
    """When to save and what to keep: the newest `keep`, and the `keep_best` by validation `metric`."""

    period: Annotated[Positive, Macro("CHECKPOINT_PERIOD")] = 1000  # steps
    keep: Annotated[int | None, at_least(1, "None keeps all"), Macro("CHECKPOINTS_TO_KEEP")] = 3
    keep_best: Annotated[NotNegative, Macro("BEST_CHECKPOINTS_TO_KEEP")] = 0
    metric: Annotated[str, one_of(EVALUATED)] = "loss"
    best_mode: Annotated[str, one_of(("min", "max"))] = "min"

    def __post_init__(self) -> None:
        check(self, "train.CheckpointConfig.")


@dataclass(frozen=True)
class DataConfig:
    """Where examples come from; the fields are T5X's macros in lower case."""

    mixture_or_task_name: NonEmpty
    task_feature_lengths: Mapping[str, int]
    batch_size: Positive = 128  # rows over all processes and microbatches; pairs, where rows have several
    vocabulary_path: str = ""
    dataset_dir: NonEmpty | None = None  # of an explanation dataset, for the tasks that are named after it
    use_cached_tasks: bool = False
    pack: bool = True
    pairs_per_row: Positive = 1  # of batches that are not packed
    shuffle: bool = True
    # Parts of the data that processes share out; it decides the batches, the number of processes does not.
    num_streams: Annotated[Positive, Macro("DATA_STREAMS")] = 1
    task_module: Annotated[NonEmpty | None, Macro("MIXTURE_OR_TASK_MODULE")] = None  # imported: it registers tasks

    def __post_init__(self) -> None:
        check(self)
        check_lengths(self.task_feature_lengths)
        if self.pairs_per_row > 1 and self.pack:
            problem = f"PAIRS_PER_ROW {self.pairs_per_row} with PACK = True, which puts as many into a row as fit"
            raise InputError(problem, hint="set PACK = False, or leave out PAIRS_PER_ROW")

    @property
    def row_lengths(self) -> dict[str, int]:
        """Tokens of a row at most, by feature."""
        return {name: length * self.pairs_per_row for name, length in self.task_feature_lengths.items()}


@dataclass(frozen=True)
class EvalConfig:
    """Loss on the validation split; `period` 0 turns it off."""

    period: Annotated[NotNegative, Macro("EVAL_PERIOD")] = 1000  # steps
    steps: Annotated[Positive, Macro("EVAL_STEPS")] = 20  # batches

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class TrainConfig:
    """Everything a run depends on: two runs with equal configurations end with equal weights."""

    model_dir: NonEmpty
    model: ModelConfig
    data: DataConfig
    train_steps: Positive  # of the whole life of the weights: includes the initial checkpoint's, as in T5X
    train_steps_relative: Positive | None = None  # or: from the initial checkpoint on
    template: NonEmpty = "exaranker"
    initial_checkpoint_path: NonEmpty | None = None  # MODEL_DIR or MODEL_DIR/checkpoint_N; None: random weights
    lora: Lora | None = None  # train an adapter of the initial checkpoint instead of all its weights
    optimizer: Optimizer = field(default_factory=Adafactor)
    loss: LossConfig = field(default_factory=LossConfig)
    dropout_rate: DropoutRate = 0.1
    num_microbatches: Positive = 1
    random_seed: Seed | None = None  # None is 0
    use_hardware_rng: bool = False
    mesh: MeshConfig = field(default_factory=MeshConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    log_period: Positive = 50  # steps between lines of metrics

    def __post_init__(self) -> None:
        check(self)
        if self.lora is not None and self.initial_checkpoint_path is None:
            raise InputError(
                "LORA is set, but INITIAL_CHECKPOINT_PATH is None: an adapter is of trained weights",
                hint="set INITIAL_CHECKPOINT_PATH, or LORA to None",
            )
        saved, evaluated = self.checkpoint.period, self.eval.period
        if self.checkpoint.keep_best and (evaluated < 1 or saved % evaluated):
            lacking = f"not every checkpoint, one in {saved} steps, is" if evaluated > 0 else "nothing is"
            raise InputError(
                f"BEST_CHECKPOINTS_TO_KEEP is {self.checkpoint.keep_best}, but {lacking} evaluated",
                hint="set EVAL_PERIOD to a divisor of CHECKPOINT_PERIOD",
            )

    def last_step(self, first: int) -> int:
        """The step to stop after, for weights that come with `first` steps of training."""
        return self.train_steps if self.train_steps_relative is None else first + self.train_steps_relative

    @property
    def seed(self) -> int:
        return self.random_seed or 0

    @property
    def prng(self) -> str:
        """The random generator: the hardware one is faster, but differs between devices."""
        return "rbg" if self.use_hardware_rng else "threefry2x32"

    @property
    def network(self) -> ModelConfig:
        """The model as trained: with this run's dropout."""
        return replace(self.model, dropout_rate=self.dropout_rate)

    @property
    def directory(self) -> Path:
        return local_path(self.model_dir).absolute()
