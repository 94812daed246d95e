"""A line now and then about a long job: how far, how fast, how much longer."""

import sys
import time
from datetime import timedelta

EVERY_SECONDS = 5.0


class Progress:
    """Counts finished items and prints to stderr; items restored from an earlier run do not count for the rate."""

    def __init__(self, verb: str, total: int):
        self._verb, self._total = verb, total
        self._done = self._restored = 0
        self._began = self._told = time.monotonic()

    def restore(self, count: int) -> None:
        """Items that an earlier run finished."""
        self._restored += count
        self._done += count

    def add(self, count: int) -> None:
        """Items just finished."""
        self._done += count
        now = time.monotonic()
        if self._done == self._total or now - self._told >= EVERY_SECONDS:
            self._told = now
            print(self.line(now - self._began), file=sys.stderr, flush=True)

    def line(self, seconds: float) -> str:
        """What is printed after `seconds` of work.

        >>> progress = Progress("scored", 4000)
        >>> progress.restore(1000)
        >>> progress.add(600)
        >>> progress.line(30.0)
        'scored 1,600 of 4,000 passages (1,000 by an earlier run), 20.0/s, 0:02:00 left'
        """
        rate = (self._done - self._restored) / max(seconds, 1e-9)
        left = timedelta(seconds=round((self._total - self._done) / rate))
        earlier = f" ({self._restored:,} by an earlier run)" if self._restored else ""
        return f"{self._verb} {self._done:,} of {self._total:,} passages{earlier}, {rate:.1f}/s, {left} left"
