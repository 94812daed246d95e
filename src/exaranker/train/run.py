"""Training: `train(config)` starts, or resumes, a run in MODEL_DIR and returns its final state."""

import dataclasses
import itertools
import time
from typing import Any

import jax
import numpy as np

from exaranker.checkpoints.card import Adapter, ModelCard
from exaranker.checkpoints.folder import PREFIX, find_checkpoint, has_checkpoint
from exaranker.checkpoints.reading import weights_digest
from exaranker.checkpoints.store import StoredModel, load_slots, save_tokenizer
from exaranker.checkpoints.training_state import TrainCheckpoints, one_writer
from exaranker.devices.compilation_cache import keep_compiled
from exaranker.devices.flops import peak_flops, train_flops
from exaranker.devices.mesh import global_batch, meet
from exaranker.devices.processor import fitting_dtype
from exaranker.errors import InputError
from exaranker.files import named
from exaranker.logs import say
from exaranker.templates import Template, label_ids
from exaranker.tokenization import Tokenizer, load_tokenizer
from exaranker.train.batches import Batches
from exaranker.train.config import TrainConfig
from exaranker.train.data import open_batches, register_task
from exaranker.train.log import MetricsLog, progress_line, shown
from exaranker.train.meter import DivergedError, Meter
from exaranker.train.resuming import changes, check_model_dir, run_record
from exaranker.train.setup import Setup, adapter_of, assemble, layout, load_initial, random_state, state_from
from exaranker.train.step import TrainState, means
from exaranker.train.stopping import StopSignal


def train(config: TrainConfig, gin_text: str = "") -> TrainState:
    """Trains until `train_steps`, or until SIGTERM; either way the last state is saved.

    A run that finds checkpoints in its MODEL_DIR continues from the newest.

    Raises:
        InputError: the configuration, the data and MODEL_DIR do not fit together.
        DivergedError: the loss became NaN or infinite.
    """
    if config.initial_checkpoint_path is not None and not has_checkpoint(config.directory):
        find_checkpoint(config.initial_checkpoint_path)  # or says why not, before MODEL_DIR is made
    keep_compiled()
    setup = assemble(config)
    template = register_task(config)
    tokenizer = load_tokenizer(config.data.vocabulary_path)
    card = _card(config, tokenizer, template, gin_text)
    check_model_dir(config.directory, card)
    _say_if_emulated(config.model.dtype)
    peak = peak_flops(jax.local_devices()[0], config.model.dtype) * jax.device_count()
    with StopSignal() as stop, one_writer(config.directory):
        run = Run(setup, card, peak)
        run.claim_model_dir(tokenizer)
        log = MetricsLog(config.directory, run.step, active=jax.process_index() == 0)
        with layout(setup.mesh), log:
            run.loop(stop, log)
    return run.state


class Run:
    """One process's part of a training run: its state, its data and its checkpoints; `peak` is all devices' FLOP/s."""

    def __init__(self, setup: Setup, card: ModelCard, peak: float):
        self.setup, self.config, self.card = setup, setup.config, card
        saving = dataclasses.asdict(self.config.checkpoint)
        del saving["period"]
        self.checkpoints = TrainCheckpoints(self.config.directory, **saving)
        self._damaged: dict[int, str] = {}
        self.state, data = self._starting_point()
        self.first, self.step = data["first"], int(self.state.step)
        self.last = self.config.last_step(self.first)
        self.batches = open_batches(self.config, setup.mesh, "train", data["rows"])
        self._validation: Batches | None = None
        self._steps: dict[Any, tuple[Any, float]] = {}
        self._evaluations: dict[Any, Any] = {}
        self._peak = peak
        self.meter = Meter(data["window"])

    def claim_model_dir(self, tokenizer: Tokenizer) -> None:
        """The first that is written to MODEL_DIR, once every check has passed."""
        self.checkpoints.set_aside(self._damaged)
        save_tokenizer(self.config.directory, tokenizer)

    def loop(self, stop: StopSignal, log: MetricsLog) -> None:
        """Steps, and after each whatever is due."""
        try:
            stopping = False
            while self.step < self.last and not stopping:
                self._advance()
                if self._due(self.config.log_period):
                    self._write_figures(log)
                evaluation = self._evaluate(log) if self._due(self.config.eval.period) else None
                stopping = stop.requested(self.step)
                if stopping or self._due(self.config.checkpoint.period):
                    self._save(evaluation)
            if stopping:
                _say(f"asked to stop: saved step {self.step}; run the same command to continue")
        except DivergedError as error:
            raise DivergedError(f"{error}; last good checkpoint: {self._last_good()}") from error
        finally:
            self.checkpoints.close()

    def _starting_point(self) -> tuple[TrainState, dict[str, Any]]:
        """The state, and {"first": the step training began at, "rows": the data iterator's state, "window": ...}."""
        config, abstract = self.config, self.setup.abstract
        restored = self.checkpoints.restore_newest(abstract.params, abstract.optimizer)
        if restored is not None:
            last = config.last_step(restored.data["first"])
            if restored.card.step > last:
                raise InputError(
                    f"its newest checkpoint is of step {restored.card.step}, beyond TRAIN_STEPS {last}",
                    path=config.directory,
                    hint="name another MODEL_DIR, or train for more steps",
                )
            self._damaged = restored.damaged
            _say(f"resuming from step {restored.card.step} in {config.directory}")
            if changed := changes(restored.card.run, self.card.run):
                _say(f"changed since step {restored.card.step}: {changed}")
            step = jax.device_put(np.int32(restored.card.step), abstract.step.sharding)
            frozen = self._load_initial().params if config.lora else None
            return TrainState(step, restored.params, restored.optimizer, frozen), restored.data
        state = self._initial_state()
        first = int(state.step)
        if config.last_step(first) <= first:
            raise InputError(
                f"TRAIN_STEPS {config.train_steps} is not more than the initial checkpoint's step {first}",
                hint="TRAIN_STEPS counts its steps too; or set TRAIN_STEPS_RELATIVE",
            )
        return state, {"first": first, "rows": None, "window": None}

    def _initial_state(self) -> TrainState:
        path = self.config.initial_checkpoint_path
        if path is None:
            return random_state(self.setup)
        loaded = self._load_initial()
        if self.config.lora:
            return adapter_of(self.setup, loaded.params, loaded.card.step)
        return state_from(self.setup, loaded.params, loaded.card.step, load_slots(path))

    def _load_initial(self) -> StoredModel:
        path = self.config.initial_checkpoint_path
        assert path is not None
        loaded = load_initial(self.setup, path)
        if loaded.card.tokenizer_digest != self.card.tokenizer_digest:
            raise InputError("its tokenizer is not the one at VOCABULARY_PATH", path=path)
        return loaded

    def _advance(self) -> None:
        """Runs one step; its loss is looked at while the next one runs."""
        began = time.perf_counter()
        batch = next(self.batches)
        waited = time.perf_counter() - began
        arrays = global_batch(self.setup.mesh, batch.arrays)
        step, flops = self._compiled_step(arrays)
        self.state, sums = step(self.state, arrays)
        self.step += 1
        self.meter.add(self.step, sums, batch.rows, waited=waited, flops=flops)

    def _compiled_step(self, arrays: Any) -> tuple[Any, float]:
        """The step for these shapes and its FLOPs; compiling is kept out of the rates."""
        shapes = _shapes(arrays)
        if shapes not in self._steps:
            with self.meter.paused():
                began = time.perf_counter()
                compiled = _compile(self.setup.step, self.state, arrays)
                flops = train_flops(self.config.model, self.state.params, arrays, self.state.frozen)
                self._steps[shapes] = compiled, flops
            _say(f"compiled the step in {time.perf_counter() - began:.1f} s")
        return self._steps[shapes]

    def _compiled_evaluation(self, arrays: Any) -> Any:
        shapes = _shapes(arrays)
        if shapes not in self._evaluations:
            self._evaluations[shapes] = _compile(self.setup.evaluate, self.state.variables, arrays)
        return self._evaluations[shapes]

    def _due(self, period: int) -> bool:
        return period > 0 and (self.step % period == 0 or self.step == self.last)

    def _write_figures(self, log: MetricsLog) -> None:
        figures = self.meter.figures(self._peak)
        self.meter = Meter()
        log.write(self.step, "train", figures)
        _say(progress_line(self.step, self.last, figures))

    def _evaluate(self, log: MetricsLog) -> dict[str, float] | None:
        """Loss and label accuracy on the first batches of the validation split."""
        with self.meter.paused():
            total = self._validation_sums()
        if not total:
            _say("the validation split is empty: nothing evaluated")
            return None
        figures = means(total) | {"loss_per_step": total["loss"] / total["steps"]}
        log.write(self.step, "validation", figures)
        _say("validation  " + shown(figures))
        return figures

    def _validation_batches(self) -> Batches:
        """From the first one on; the pipeline is traced once a run."""
        if self._validation is None:
            self._validation = open_batches(self.config, self.setup.mesh, "validation")
        else:
            self._validation.rewind()
        return self._validation

    def _validation_sums(self) -> dict[str, float]:
        total: dict[str, float] = {}
        for batch in itertools.islice(self._validation_batches(), self.config.eval.steps):
            arrays = global_batch(self.setup.mesh, batch.arrays)
            sums = {"steps": 1.0, **self._compiled_evaluation(arrays)(self.state.variables, arrays)}
            total = {name: total.get(name, 0.0) + float(value) for name, value in sums.items()}
        return total

    def _save(self, evaluation: dict[str, float] | None) -> None:
        with self.meter.paused():  # settled: never saves a state whose loss has not been looked at
            card = dataclasses.replace(self.card, step=self.step)
            data = {"first": self.first, "rows": self.batches.state(), "window": self.meter.state()}
            self.checkpoints.save(card, self.state.params, self.state.optimizer, data, evaluation)

    def _last_good(self) -> str:
        self.checkpoints.wait()
        steps = self.checkpoints.steps()
        return str(self.config.directory / f"checkpoint_{steps[-1]}") if steps else "none"


def _compile(function: Any, *arguments: Any) -> Any:
    """Compiled for these arguments, in every process of the job."""
    compiled = function.lower(*arguments).compile()
    meet("compiled")
    return compiled


def _shapes(arrays: Any) -> Any:
    return tuple(sorted((name, rows.shape) for name, rows in arrays.items()))


def _card(config: TrainConfig, tokenizer: Tokenizer, template: Template, gin_text: str) -> ModelCard:
    if tokenizer.vocab_size > config.model.vocab_size:
        raise InputError(
            f"the tokenizer has {tokenizer.vocab_size} pieces, the model {config.model.vocab_size} embeddings",
            hint="set the model's vocab_size to at least the tokenizer's",
        )
    ids = label_ids(tokenizer, template)
    record = run_record(config)
    return ModelCard(config.network, template, tokenizer.digest, ids, gin_text, run=record, adapter=_adapter(config))


def _adapter(config: TrainConfig) -> Adapter | None:
    if config.lora is None or config.initial_checkpoint_path is None:
        return None
    model_dir, step = find_checkpoint(config.initial_checkpoint_path)
    base = model_dir / f"{PREFIX}_{step}"
    return Adapter(config.lora, named(str(base)), weights_digest(base))


def _say_if_emulated(dtype: str) -> None:
    if fitting_dtype(jax.local_devices()[0], dtype) != dtype:
        remedy = "--gin.ACTIVATION_DTYPE=\"'float32'\" takes less time"
        _say(f"this processor has no units for {dtype} and emulates its products: {remedy}")


def _say(message: str) -> None:
    if jax.process_index() == 0:
        say(message)
