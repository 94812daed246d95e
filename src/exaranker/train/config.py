"""The one configuration of a training run; gin's run files bind it, tests build it in Python."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from exaranker.devices.mesh import MeshConfig
from exaranker.errors import InputError, nearest
from exaranker.losses.token import LossConfig
from exaranker.models import ModelConfig
from exaranker.train.optimizers import Adafactor, Optimizer

EVALUATED = ("loss", "label_loss", "label_accuracy", "explanation_loss")  # figures of the validation split


@dataclass(frozen=True)
class CheckpointConfig:
    """When to save and what to keep: the newest `keep`, and the `keep_best` by validation `metric`."""

    period: int = 1000  # steps
    keep: int | None = 3  # None keeps all
    keep_best: int = 0
    metric: str = "loss"
    best_mode: str = "min"

    def __post_init__(self) -> None:
        for value, known in ((self.metric, EVALUATED), (self.best_mode, ("min", "max"))):
            if value not in known:
                raise InputError(f"unknown {value!r} to choose the best checkpoints by", hint=nearest(value, known))


@dataclass(frozen=True)
class DataConfig:
    """Where examples come from; the fields are T5X's macros in lower case."""

    mixture_or_task_name: str
    task_feature_lengths: Mapping[str, int]
    batch_size: int = 128  # rows over all processes and microbatches
    vocabulary_path: str = ""
    dataset_dir: str | None = None  # of an explanation dataset, for the tasks that are named after it
    use_cached_tasks: bool = False
    pack: bool = True
    shuffle: bool = True
    num_streams: int = 1  # parts of the data that processes share out; it decides the batches, their number does not


@dataclass(frozen=True)
class EvalConfig:
    """Loss on the validation split; `period` 0 turns it off."""

    period: int = 1000  # steps
    steps: int = 20  # batches


@dataclass(frozen=True)
class TrainConfig:
    """Everything a run depends on: two runs with equal configurations end with equal weights."""

    model_dir: str
    model: ModelConfig
    data: DataConfig
    train_steps: int  # of the whole life of the weights: includes the initial checkpoint's, as in T5X
    train_steps_relative: int | None = None  # or: from the initial checkpoint on
    template: str = "exaranker"
    initial_checkpoint_path: str | None = None  # MODEL_DIR or MODEL_DIR/checkpoint_N; None starts from random weights
    optimizer: Optimizer = field(default_factory=Adafactor)
    loss: LossConfig = field(default_factory=LossConfig)
    dropout_rate: float = 0.1
    num_microbatches: int = 1
    random_seed: int | None = None  # None is 0
    use_hardware_rng: bool = False
    mesh: MeshConfig = field(default_factory=MeshConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    log_period: int = 50  # steps between lines of metrics

    def __post_init__(self) -> None:
        for name in ("train_steps", "num_microbatches", "log_period"):
            if getattr(self, name) < 1:
                raise InputError(f"{name.upper()} is {getattr(self, name)}, expected at least 1")
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
        return Path(self.model_dir).absolute()
