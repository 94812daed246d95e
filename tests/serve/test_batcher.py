"""The thread that owns the model outlives its failures, and what nobody waits for any more is dropped."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from exaranker import Reranker
from exaranker.rank.loaded_model import LoadedModel
from exaranker.serve.batcher import Batcher
from exaranker.serve.metrics import Metrics
from exaranker.serve.refusal import RefusalError

INPUTS = [[5, 6, 7, 1]] * 30


@asynccontextmanager
async def running(reranker: Reranker) -> AsyncIterator[Batcher]:
    batcher = Batcher(reranker, Metrics(), waiting_tokens=200)
    batcher.start()
    yield batcher
    batcher.stop()


def test_an_error_of_the_model_reaches_those_who_wait_and_nobody_else(
    reranker: Reranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError("no\nmemory")

    async def run() -> None:
        async with running(reranker) as batcher:
            with monkeypatch.context() as patch:
                patch.setattr(LoadedModel, "log_odds", fail)
                with pytest.raises(RefusalError, match="the model failed: MemoryError: no memory") as refused:
                    await batcher.score(INPUTS)
                assert refused.value.status == 424
                patch.setattr(LoadedModel, "generate", fail)
                with pytest.raises(RefusalError, match="MemoryError"):
                    await batcher.explain([("q", "p")], [1.0])
            assert len((await batcher.score(INPUTS)).log_odds) == 30

    asyncio.run(run())


def test_a_full_queue_refuses_until_something_is_dropped(reranker: Reranker) -> None:
    async def run() -> None:
        batcher = Batcher(reranker, Metrics(), waiting_tokens=200)  # its thread takes nothing yet
        first = asyncio.ensure_future(batcher.score(INPUTS))
        explained = asyncio.ensure_future(batcher.explain([("q", "p")], [1.0]))
        await asyncio.sleep(0)
        with pytest.raises(RefusalError, match="120 tokens wait already; try again in 1 s") as refused:
            await batcher.score(INPUTS)
        assert refused.value.headers == {"Retry-After": "1"}
        for waiting in (first, explained):
            waiting.cancel()
        await asyncio.wait([first, explained])
        second = asyncio.ensure_future(batcher.score(INPUTS))
        batcher.start()
        assert len((await second).log_odds) == 30
        batcher.stop()

    asyncio.run(run())
