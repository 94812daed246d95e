"""Many hosts: Ray Data with an LLM in each worker. A block is a shard, so the texts do not depend on who did it.

Ray restarts a worker that dies and gives its shard to a living one; this process writes what they return.
"""

import json
import logging
import os
import time
import warnings
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from typing import Any

from exaranker import logs
from exaranker.checks import NonEmpty, NotNegative, Positive, check
from exaranker.errors import InputError, require
from exaranker.preprocess.dataset.files import RejectedPair
from exaranker.preprocess.dataset.writer import ShardResult
from exaranker.preprocess.engines.base import Engine, EngineInfo
from exaranker.preprocess.engines.runners import explain_shard
from exaranker.preprocess.recipe import Finished, Recipe, Shard
from exaranker.schema import ExplainedPair, Pair

Columns = dict[str, Any]


@dataclass(frozen=True)
class RayConfig:
    """How many engines, and what each needs; bound in gin as `ray.NAME`."""

    address: NonEmpty | None = None  # "auto" or a head's address; None: $RAY_ADDRESS, else a Ray of this machine's own
    workers: Positive = 2
    cpus_per_worker: Positive = 1
    gpus_per_worker: NotNegative | None = None  # None: where there are GPUs, one for each of the engine's ranks
    max_restarts: NotNegative = 8  # of one worker: a shard that kills every worker must end the run some time

    def __post_init__(self) -> None:
        check(self, "ray.")


class ShardWorker:
    """Lives in a Ray worker: starts the engine once, then turns one shard after the other into rows."""

    def __init__(self, recipe: Recipe, start: Callable[[], Engine]):
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # else all workers of a host share its first cores
        self._recipe, self._engine = recipe, start()

    def __call__(self, batch: Columns) -> Columns:
        columns = zip(*(batch[field].tolist() for field in Pair._fields), strict=True)
        shard = Shard(int(batch["shard"][0]), [Pair(*values) for values in columns])
        return {"finished": [json.dumps(explain_shard(self._recipe, self._engine, shard))]}


def run_on_ray(
    recipe: Recipe, start: Callable[[], Engine], shards: Iterable[Shard], config: RayConfig, ranks: int = 1
) -> Generator[Finished, None, None]:
    """Yields shards as their workers finish them, in any order.

    Each worker's engine takes `ranks` devices. A shard's seconds are those since the one that was finished before it,
    if it took no less itself: they add up to the run's.

    Raises:
        InputError: the cluster is too small, an engine does not start, or a shard kills every worker.
    """
    ray = require("ray", "ray")
    config = _connect(ray, config, ranks)
    rows = _explained(ray, _dataset(ray, shards), (recipe, start), config)
    before = time.monotonic()
    try:
        # `iter_rows` prefetches: it would keep a finished shard back until the next one is finished too.
        for batch in rows.iter_batches(prefetch_batches=0, batch_size=None, batch_format="numpy"):
            for finished in map(_finished, batch["finished"]):
                seconds, before = time.monotonic() - before, time.monotonic()
                yield finished._replace(seconds=min(finished.seconds, seconds))
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        hint = "finished shards are kept: mend it and run the same command again"
        raise InputError(f"Ray gave up: {lines[-1]}", hint=hint) from error


def _explained(ray: Any, dataset: Any, arguments: tuple[Any, ...], config: RayConfig) -> Any:
    with warnings.catch_warnings():
        # Ray 2.60 deprecates passing max_restarts on, for removal in 2.64, and has no other way to bound them.
        warnings.simplefilter("ignore", DeprecationWarning)
        return dataset.map_batches(
            ShardWorker,
            fn_constructor_args=arguments,
            batch_size=None,  # the whole block: one shard
            compute=ray.data.ActorPoolStrategy(size=config.workers, max_tasks_in_flight_per_actor=1),
            num_cpus=config.cpus_per_worker,
            num_gpus=config.gpus_per_worker,
            max_restarts=config.max_restarts,
            max_task_retries=config.max_restarts,
        )


def _connect(ray: Any, config: RayConfig, ranks: int) -> RayConfig:
    """Returns the configuration with the GPUs that it left open."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not ray.is_initialized():
        ray.init(
            address=config.address,
            log_to_driver=logs.is_verbose(),
            logging_level="info" if logs.is_verbose() else "error",
            include_dashboard=None if config.address else False,
        )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # there is one already
    logging.getLogger("ray.data").setLevel(logging.INFO if logs.is_verbose() else logging.ERROR)
    has = ray.cluster_resources()
    gpus = (ranks if has.get("GPU") else 0) if config.gpus_per_worker is None else config.gpus_per_worker
    for kind, each in (("CPU", config.cpus_per_worker), ("GPU", gpus)):
        if has.get(kind, 0) < each * config.workers:
            problem = f"{config.workers} workers of {each} {kind}s each, but the cluster has {has.get(kind, 0):g}"
            raise InputError(problem, hint="--gin.ray.workers=N")
    return replace(config, gpus_per_worker=gpus)


def _dataset(ray: Any, shards: Iterable[Shard]) -> Any:
    """One block a shard, kept in Ray's object store, which spills to disk."""
    pyarrow = require("pyarrow", "ray")
    blocks = []
    for shard in shards:
        columns = dict(zip(Pair._fields, map(list, zip(*shard.pairs, strict=True)), strict=True))
        blocks.append(ray.put(pyarrow.table({"shard": [shard.number] * len(shard.pairs), **columns})))
    return ray.data.from_arrow_refs(blocks)


def _finished(text: str) -> Finished:
    """What `ShardWorker` returned; named tuples travel as JSON lists."""
    index, (kept, rejected, num_tokens), engine, seconds = json.loads(text)
    result = ShardResult([ExplainedPair(*row) for row in kept], [RejectedPair(*row) for row in rejected], num_tokens)
    return Finished(index, result, EngineInfo(*engine), seconds)
