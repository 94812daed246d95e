"""Dynamic batching: the one thread that owns the model, and the coroutines that wait for it.

Between two batches of scores the thread does one piece of the explanations that are asked for, so that neither keeps
the other waiting for long.
"""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np

from exaranker.rank.arguments import QueryPassage
from exaranker.rank.engines import LogOdds
from exaranker.rank.reranker import EXPLANATION_ROWS, IN_FLIGHT, Explanation, Reranker
from exaranker.serve.fair_queue import FairQueue, Taken
from exaranker.serve.metrics import Metrics
from exaranker.serve.promise import Promise, failing, model_failed
from exaranker.serve.refusal import RefusalError

STREAMED_PIECES = 8  # of one streamed explanation, between two batches of scores
LONGEST_RETRY = 60  # seconds


class Scored(NamedTuple):
    """Log-odds in the order of the inputs; how long these waited for their first batch, and took from there on."""

    log_odds: list[float]
    queue_seconds: float
    model_seconds: float


class _Job:
    """The inputs of one request."""

    def __init__(self, inputs: Sequence[Sequence[int]]):
        self.inputs = inputs
        self.promise: Promise[Scored] = Promise()
        self._scores = np.empty(len(inputs), np.float32)
        self._left = len(inputs)
        self._came = time.monotonic()
        self._began: float | None = None

    def begin(self) -> float | None:
        """The seconds it has waited, if this is its first batch."""
        if self._began is not None:
            return None
        self._began = time.monotonic()
        return self._began - self._came

    def give(self, index: int, score: float) -> None:
        self._scores[index] = score
        self._left -= 1
        if not self._left:
            began = self._began or self._came
            self.promise.give(Scored(self._scores.tolist(), began - self._came, time.monotonic() - began))


class _Running(NamedTuple):
    batch: Taken[_Job]
    log_odds: LogOdds
    began: float


@dataclass(eq=False)
class _Explaining:
    pair: QueryPassage
    score: float
    promise: Promise[Explanation] = field(default_factory=Promise)


class _Stream:
    """An explanation that is decoded piece by piece."""

    def __init__(self, reranker: Reranker, pair: QueryPassage, score: float):
        self.gone = False  # nobody listens any more
        self.heard: asyncio.Queue[str | RefusalError | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._pieces = reranker.explain_stream(*pair, score)

    def advance(self) -> bool:
        """Decodes a few pieces; returns whether more may come."""
        if self.gone:
            return False
        try:
            pieces = list(islice(self._pieces, STREAMED_PIECES))
        except Exception as error:
            self._say(model_failed(error))
            return False
        for piece in pieces:
            self._say(piece)
        if len(pieces) < STREAMED_PIECES:
            self._say(None)
        return len(pieces) == STREAMED_PIECES

    def _say(self, piece: str | RefusalError | None) -> None:
        self._loop.call_soon_threadsafe(self.heard.put_nowait, piece)


class Batcher:
    """Scores and explains for many coroutines at once, each input in a batch with those of other requests."""

    def __init__(self, reranker: Reranker, metrics: Metrics, waiting_tokens: int):
        self._reranker = reranker
        self._metrics = metrics
        self._bound = waiting_tokens
        self._queue: FairQueue[_Job] = FairQueue(reranker.max_length, reranker.token_budget, reranker.model.num_devices)
        self._running: deque[_Running] = deque()
        self._explanations: deque[_Explaining] = deque()
        self._streams: deque[_Stream] = deque()
        self._done_tokens = 0
        self._busy_seconds = 0.0
        self._last_end = 0.0
        self._stopping = False
        self._changed = threading.Condition()  # held whenever a queue is touched
        self._thread = threading.Thread(target=self._work, name="ranker", daemon=True)
        metrics.waiting_tokens.set_function(lambda: self._queue.tokens)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ends the thread after the batch that it is in."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    async def score(self, inputs: Sequence[Sequence[int]]) -> Scored:
        """Log-odds of token ids as `Reranker.encode` makes them; cancelling this drops what still waits.

        Raises:
            RefusalError: too much waits already, or the model failed.
        """
        job = _Job(inputs)
        with self._changed:
            self._refuse_overload(sum(map(len, inputs)))
            self._queue.add(job, inputs)
            self._changed.notify()
        try:
            return await job.promise.future
        except BaseException:
            with self._changed:
                self._queue.drop(job)
            raise

    async def explain(self, pairs: Sequence[QueryPassage], scores: Sequence[float]) -> list[Explanation]:
        """An explanation per pair, after the label that its score implies; cancelling this drops what still waits.

        Raises:
            RefusalError: the model failed.
        """
        work = [_Explaining(pair, score) for pair, score in zip(pairs, scores, strict=True)]
        with self._changed:
            self._explanations.extend(work)
            self._changed.notify()
        try:
            return await asyncio.gather(*(item.promise.future for item in work))
        finally:
            with self._changed:
                self._explanations = deque(item for item in self._explanations if item not in work)

    async def explain_stream(self, pair: QueryPassage, score: float) -> AsyncIterator[str]:
        """One explanation, piece by piece as it is decoded.

        Raises:
            RefusalError: the model failed.
        """
        stream = _Stream(self._reranker, pair, score)
        with self._changed:
            self._streams.append(stream)
            self._changed.notify()
        try:
            while (piece := await stream.heard.get()) is not None:
                if isinstance(piece, RefusalError):
                    raise piece
                yield piece
        finally:
            stream.gone = True

    def _refuse_overload(self, tokens: int) -> None:
        waiting = self._queue.tokens
        if waiting and waiting + tokens > self._bound:
            rate = self._done_tokens / self._busy_seconds if self._busy_seconds else waiting
            seconds = min(math.ceil(waiting / rate), LONGEST_RETRY)
            raise RefusalError(429, "Overloaded", f"{waiting:,} tokens wait already; try again in {seconds} s", seconds)

    def _work(self) -> None:
        while self._wait_for_work():
            self._begin_batch()
            self._end_batches()
            self._explain()
            self._continue_a_stream()

    def _wait_for_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopping or self._queue.tokens or self._running or self._explanations or self._streams
            )
            return not self._stopping

    def _begin_batch(self) -> None:
        with self._changed:
            batch = self._queue.take()
        if batch is None:
            return
        waited = [job.begin() for job, _ in batch.members]
        for seconds in waited:
            if seconds is not None:
                self._metrics.queue_seconds.observe(seconds)
        with failing(job.promise for job, _ in batch.members):
            log_odds = self._reranker.model.log_odds(batch.texts)
            self._running.append(_Running(batch, log_odds, time.monotonic()))

    def _end_batches(self) -> None:
        """Waits for the oldest batches, but leaves the device some as long as more inputs wait."""
        most = IN_FLIGHT if self._queue.tokens else 0
        while len(self._running) > most:
            batch, log_odds, began = self._running.popleft()
            with failing(job.promise for job, _ in batch.members):
                scores = np.asarray(log_odds)[batch.texts.rows]
                for (job, index), score in zip(batch.members, scores, strict=True):
                    job.give(index, score)
            self._count(batch, began)

    def _count(self, batch: Taken[_Job], began: float) -> None:
        now = time.monotonic()
        seconds = now - max(began, self._last_end)
        self._last_end = now
        self._busy_seconds += seconds
        self._done_tokens += batch.num_tokens
        self._metrics.tokens.inc(batch.num_tokens)
        self._metrics.batch_rows.observe(len(batch.members))
        self._metrics.batch_seconds.observe(seconds)

    def _explain(self) -> None:
        with self._changed:
            rows = min(len(self._explanations), EXPLANATION_ROWS * self._reranker.model.num_devices)
            work = [self._explanations.popleft() for _ in range(rows)]
        if not work:
            return
        with failing(item.promise for item in work):
            found = self._reranker.explain([item.pair for item in work], [item.score for item in work])
            for item, explanation in zip(work, found, strict=True):
                item.promise.give(explanation)
        self._metrics.explanations.inc(len(work))

    def _continue_a_stream(self) -> None:
        with self._changed:
            stream = self._streams.popleft() if self._streams else None
        if stream is not None and stream.advance():
            with self._changed:
                self._streams.append(stream)
