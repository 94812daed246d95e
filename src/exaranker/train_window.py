"""The steps since metrics were last written: sums, rates, waits, and the check that the loss is still a number."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from exaranker.errors import InputError
from exaranker.train_step import means


class DivergedError(InputError):
    """The loss or the gradient is NaN or infinite."""


@dataclass
class Window:
    """Adds up steps on the host, one behind the device, so that reading a loss never makes the device wait."""

    _sums: dict[str, float] = field(default_factory=dict)
    _pending: tuple[int, Any, Sequence[int]] | None = None
    _steps: int = 0
    _real_tokens: int = 0
    _positions: int = 0
    _waited: float = 0.0
    _uncounted: float = 0.0  # seconds spent compiling, evaluating and saving
    _start: float = field(default_factory=time.perf_counter)

    def add(self, step: int, sums: Any, batch: Mapping[str, np.ndarray], ids: Sequence[int], waited: float) -> None:
        """Notes a step that has been dispatched, and settles the one before it."""
        self.settle()
        self._pending = (step, sums, ids)
        self._steps += 1
        self._waited += waited
        for name in ("encoder_input_tokens", "decoder_target_tokens"):
            if name in batch:
                real = batch["decoder_loss_weights"] if name == "decoder_target_tokens" else batch[name]
                self._real_tokens += int(np.count_nonzero(real)) * jax.process_count()
                self._positions += real.size * jax.process_count()

    def settle(self) -> None:
        """Waits for the last step noted and adds its sums.

        Raises:
            DivergedError: its loss or gradient norm is NaN or infinite.
        """
        if self._pending is None:
            return
        (step, sums, ids), self._pending = self._pending, None
        values = {name: float(value) for name, value in jax.device_get(sums).items()}
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(values[name]):
                raise DivergedError(f"step {step}: {name} is {values[name]}; dataset rows in the batch: {_shown(ids)}")
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def exclude(self, seconds: float) -> None:
        """Takes time out of the rates that is not training."""
        self._uncounted += seconds

    def figures(self, flops_per_step: float, peak_flops: float) -> dict[str, float]:
        """What the metrics files say of these steps; `peak_flops` is that of all devices together."""
        self.settle()
        seconds = max(time.perf_counter() - self._start - self._uncounted, 1e-9)
        return means(self._sums) | {
            "gradient_norm": self._sums["gradient_norm"] / self._steps,
            "steps_per_second": self._steps / seconds,
            "tokens_per_second": self._real_tokens / seconds,
            "mfu": flops_per_step * self._steps / seconds / peak_flops,
            "padding": 1.0 - self._real_tokens / self._positions,
            "input_wait": self._waited / seconds,
        }


def _shown(ids: Sequence[int], most: int = 16) -> str:
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return ", ".join(map(str, ids[:most])) + more
