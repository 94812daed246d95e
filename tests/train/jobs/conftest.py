"""The real command line in processes of its own: starts a tiny run, kills it, waits for it, reads what it left."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from exaranker.files.shipped import shipped

VOCABULARY = shipped("examples/sample") / "spiece.model"
# Rates depend on the machine; everything else in the metrics is to repeat.
RATES = ("steps_per_second", "tokens_per_second", "mfu", "input_wait")
VERBS = ("-m", "exaranker.cli")
COMPILED = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
TINY: dict[str, Any] = {
    "VOCABULARY_PATH": str(VOCABULARY),
    "MIXTURE_OR_TASK_NAME": "exaranker_sample_label_explanation",
    "TASK_FEATURE_LENGTHS": {"inputs": 128, "targets": 32},
    "INITIAL_CHECKPOINT_PATH": None,
    "USE_CACHED_TASKS": False,
    "BATCH_SIZE": 8,
    "LOSS_NORMALIZING_FACTOR": "NUM_REAL_TARGET_TOKENS",
    "LEARNING_RATE": 0.01,
    "t5.T5Config.vocab_size": 4096,
}


class Runs:
    """Runs of one dataset, in folders below `root`; they share compiled steps, as reruns of a job can."""

    def __init__(self, root: Path, dataset: Path, **bindings: Any):
        self.root = root
        self._started: list[Run] = []
        self.bindings = {**TINY, "DATASET_DIR": str(dataset), **bindings}

    def start(self, name: str, *flags: str, program: Sequence[str] = VERBS, **bindings: Any) -> "Run":
        """Starts `exaranker train`, or a program that goes on to it, with MODEL_DIR root/name."""
        directory = self.root / name
        given = {**self.bindings, "MODEL_DIR": str(directory), **bindings}
        words = [f"--gin.{key}={value!r}" for key, value in given.items()]
        files = ["--gin_file", "models/t5_1_1/tiny.gin", "--gin_file", "runs/finetune.gin"]
        command = [sys.executable, *program, "train", *files, *words, *flags]
        cache = {"JAX_COMPILATION_CACHE_DIR": str(self.root / "compiled"), **COMPILED}
        log = self.root / f"{len(self._started)}_{name}.log"
        self._started.append(Run(directory, command, {**os.environ, **cache}, log))
        return self._started[-1]

    def start_job(
        self, name: str, count: int, *flags: str, last: Sequence[str] = VERBS, **bindings: Any
    ) -> "list[Run]":
        """Starts one run in `count` processes that meet on this machine; the last one runs the program `last`."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        shared = ["--coordinator_address", address, "--process_count", str(count), "--heartbeat_timeout", "30"]
        shared += flags
        programs = [VERBS] * (count - 1) + [last]
        return [
            self.start(name, *shared, "--process_index", str(index), program=program, **bindings)
            for index, program in enumerate(programs)
        ]

    def close(self) -> None:
        """Ends what a failed test left running."""
        for run in self._started:
            run.kill()


class Run:
    """One process; its stderr goes to `log`."""

    def __init__(self, directory: Path, command: list[str], environment: Mapping[str, str], log: Path):
        self.directory, self._log = directory, log
        with log.open("wb") as stream:
            self._process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def told(self) -> str:
        """What a failed test shows: how it began to fail, and how it ended."""
        return self.said if len(self.said) <= 6000 else f"{self.said[:3000]}\n...\n{self.said[-3000:]}"

    def wait_for(self, text: str) -> None:
        """Returns as soon as the process has said `text`."""
        while text not in self.said:
            assert self._process.poll() is None, f"ended without saying {text!r}:\n{self.told}"
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self, timeout: float = 600) -> int:
        """Waits for the process; returns its exit code."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running after {timeout} s:\n{self.told}") from None

    def finish(self) -> "Run":
        """Waits for the process, which is to succeed."""
        assert self.end() == 0, self.told
        return self

    def curve(self) -> list[dict[str, Any]]:
        """Every row of the metrics, without the rates."""
        rows = map(json.loads, (self.directory / "metrics.jsonl").read_text().splitlines())
        return [{name: value for name, value in row.items() if name not in RATES} for row in rows]

    def state(self, step: int) -> dict[str, np.ndarray]:
        """All arrays of a checkpoint, parameters and optimizer, by name."""
        arrays, reader = {}, ocp.StandardCheckpointer()
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])  # whatever it was split over
        for item in ("params", "optimizer"):
            path = self.directory / f"checkpoint_{step}" / item
            stored = reader.metadata(path).item_metadata.tree
            target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), stored)
            for name, leaf in jax.tree_util.tree_leaves_with_path(reader.restore(path, target)):
                arrays[f"{item}/{jax.tree_util.keystr(name, simple=True, separator='/')}"] = np.asarray(leaf)
        return arrays

    def assert_ended_as(self, other: "Run", step: int) -> None:
        """The same rows of metrics and, bit for bit, the same last state."""
        assert self.curve() == other.curve()
        ours, theirs = self.state(step), other.state(step)
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if ours[name].tobytes() != theirs[name].tobytes()] == []


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Iterator[Runs]:
    runs = Runs(tmp_path_factory.mktemp("runs"), dataset)
    yield runs
    runs.close()
