"""The steps since metrics were last written: sums, rates, waits, and the check that the loss is still a number."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax

from exaranker.errors import InputError
from exaranker.train.step import means


class DivergedError(InputError):
    """The loss or the gradient is NaN or infinite."""


class Meter:
    """Adds up steps on the host, one behind the device, so that reading a loss never makes the device wait.

    A checkpoint that falls between two lines of metrics keeps `state()`: the next line of a resumed run then still is
    about the same steps.
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self._sums: dict[str, float] = dict(state["sums"]) if state else {}
        self._seconds: float = state["seconds"] if state else 0.0  # of training, before `_since`
        self._since = time.perf_counter()
        self._pending: tuple[int, Any, Sequence[str]] | None = None

    def add(self, step: int, sums: Any, rows: Sequence[str], *, waited: float, flops: float) -> None:
        """Notes a step that has been dispatched, and settles the one before it."""
        self.settle()
        self._pending = (step, sums, rows)
        self._count({"steps": 1.0, "waited": waited, "flops": flops})

    def settle(self) -> None:
        """Waits for the last step noted and adds its sums.

        Raises:
            DivergedError: its loss or gradient norm is NaN or infinite.
        """
        if self._pending is None:
            return
        (step, sums, rows), self._pending = self._pending, None
        values = {name: float(value) for name, value in jax.device_get(sums).items()}
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(values[name]):
                raise DivergedError(f"step {step}: {name} is {values[name]}; dataset rows in the batch: {_shown(rows)}")
        self._count(values)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Takes what is not training out of the rates: compiling, evaluating, saving. The step under way counts."""
        self.settle()
        began = time.perf_counter()
        yield
        self._seconds -= time.perf_counter() - began

    def figures(self, peak_flops: float) -> dict[str, float]:
        """What the metrics files say of these steps; `peak_flops` is that of all devices together."""
        self.settle()
        sums, seconds = self._sums, max(self._elapsed(), 1e-9)
        return means(sums) | {
            "loss_per_step": sums["loss"] / sums["steps"],  # T5X's `loss`: LOSS_NORMALIZING_FACTOR divides it
            "gradient_norm": sums["gradient_norm"] / sums["steps"],
            "steps_per_second": sums["steps"] / seconds,
            "tokens_per_second": sums["real_tokens"] / seconds,
            "mfu": sums["flops"] / seconds / peak_flops,
            "padding": 1.0 - sums["real_tokens"] / sums["positions"],
            "input_wait": sums["waited"] / seconds,
        }

    def state(self) -> dict[str, Any]:
        """What to give to a new `Meter` so that it goes on where this one stands."""
        self.settle()
        return {"sums": dict(self._sums), "seconds": self._elapsed()}

    def _elapsed(self) -> float:
        return self._seconds + time.perf_counter() - self._since

    def _count(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value


def _shown(rows: Sequence[str], most: int = 16) -> str:
    more = f" and {len(rows) - most} more" if len(rows) > most else ""
    return ", ".join(rows[:most]) + more
