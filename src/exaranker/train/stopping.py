"""Stopping when asked: SIGTERM, which schedulers send before they take a machine away."""

import signal
from types import FrameType, TracebackType
from typing import Any

import jax
from jax.experimental import multihost_utils


class StopSignal:
    """While entered, SIGTERM is noted instead of killing the process; `requested` is asked after every step."""

    def __init__(self) -> None:
        self._received = False
        self._previous: Any = None

    def requested(self, step: int) -> bool:
        """Whether to save and leave now: true at the same step in all processes of a job."""
        if jax.process_count() > 1:  # there jax.distributed listens to SIGTERM
            return multihost_utils.reached_preemption_sync_point(step)
        return self._received

    def __enter__(self) -> "StopSignal":
        if jax.process_count() == 1:
            self._previous = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = True
