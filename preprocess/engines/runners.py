"""Where engines run and in which order shards are done; each way yields the same shards."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from exaranker.logs import say
from exaranker.preprocess.engines.base import Call, Completion, Engine
from exaranker.preprocess.recipe import Asked, Finished, Recipe, Shard

Answers = list[list[list[Completion]]]  # by call, prompt, sample
Runner = Callable[[Recipe, Callable[[], Engine], Iterable[Shard]], Generator[Finished, None, None]]


def run_here(recipe: Recipe, start: Callable[[], Engine], shards: Iterable[Shard]) -> Generator[Finished, None, None]:
    """One shard after the other in this process."""
    engine = _started(start)
    try:
        for shard in shards:
            yield explain_shard(recipe, engine, shard)
    finally:
        engine.close()


def run_overlapping(
    recipe: Recipe, start: Callable[[], Engine], shards: Iterable[Shard], at_once: int = 2
) -> Generator[Finished, None, None]:
    """Several shards asked at once of one engine, so that it is never idle between two; yields in shard order.

    A shard's seconds are those since the shard before it was finished, so that they add up to the run's.
    """
    engine = _started(start)
    waiting: deque[tuple[Asked, Future[Answers]]] = deque()
    pool = ThreadPoolExecutor(at_once)
    began = time.monotonic()

    def first() -> Finished:
        nonlocal began
        asked, answers = waiting.popleft()
        result = recipe.judge(asked, answers.result())
        seconds, began = _since(began), time.monotonic()
        return Finished(asked.shard.number, result, engine.info, seconds)

    try:
        for shard in shards:
            asked = recipe.ask(shard)
            waiting.append((asked, pool.submit(_answers, engine, asked.calls)))
            if len(waiting) == at_once:
                yield first()
        while waiting:
            yield first()
    finally:
        engine.close()
        pool.shutdown(cancel_futures=True)


class EngineSpec(NamedTuple):
    """An engine not yet started: loading an LLM is only worth it when there are shards to generate.

    `settings` are those that change the text; like the LLM's they may not change under a dataset.
    """

    settings: dict[str, Any]
    start: Callable[[], Engine]
    run: Runner = run_here


def explain_shard(recipe: Recipe, engine: Engine, shard: Shard) -> Finished:
    """Prompts, the engine's calls, filters."""
    began = time.monotonic()
    asked = recipe.ask(shard)
    return Finished(shard.number, recipe.judge(asked, _answers(engine, asked.calls)), engine.info, _since(began))


def _answers(engine: Engine, calls: Iterable[Call]) -> Answers:
    return [_answer(engine, call) for call in calls]


def _answer(engine: Engine, call: Call) -> list[list[Completion]]:
    answers = engine.generate(*call) if call.prompts else []
    if len(answers) != len(call.prompts):
        raise ValueError(f"{engine.info.version} gave {len(answers)} answers to {len(call.prompts)} prompts")
    return answers


def _since(began: float) -> float:
    return time.monotonic() - began


def _started(start: Callable[[], Engine]) -> Engine:
    began = time.monotonic()
    engine = start()
    say(f"{engine.info.version} ready in {_since(began):.0f} s")
    return engine
