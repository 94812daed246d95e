"""Training tokens per CPU-second: our step against transformers in torch, fp32 and bf16, AdamW, dropout 0.1.

    python benchmarks/train_step.py [--shapes t5-small ...] [--json FILE]

The two engines of a row run as two processes on the same single core with one thread each, and step in turns, so that
both meet the same machine; CPU time counts, and medians over the rounds. So does the matrix product that they are
compared with, whose best time of all rounds is its peak. Two threads on two cores would be fairer to
neither: torch's OpenMP threads spin while a busy neighbour holds one of them. Batches are 8 rows of 160 + 64 tokens
without padding. Ours drops features along the whole sequence, as T5X does, torch draws a bit for each activation.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from exaranker.files import write_json

SHAPES = ("t5-small", "t5-base", "smollm2-135m")
DTYPES = ("float32", "bfloat16")
TRAINERS = ("ours", "transformers")
TOKENS = 8 * (160 + 64)


class Row(NamedTuple):
    shape: str
    dtype: str
    engine: str
    seconds: float  # CPU, of one step
    tokens_per_cpu_second: float
    gemm_fraction: float  # of the fastest matrix product measured on this core in this type
    first_step: float  # CPU seconds: compiling, or warming up
    peak_bytes: int  # resident
    loss_change: float  # from the first to the last step: both must learn the batch


class Worker:
    """An engine in a process of its own that steps when told to."""

    def __init__(self, engine: str, shape: str, dtype: str, steps: int):
        script = str(Path(__file__).with_name("train_worker.py"))
        command = [sys.executable, script, engine, shape, dtype, str(steps)]
        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process: Any = subprocess.Popen(command, env=os.environ | one_thread, **pipes)
        self.setup = self._read()

    def step(self) -> dict[str, Any]:
        print(file=self._process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker ended with status {self._process.wait()}")
        return json.loads(line)


def compare(shape: str, dtype: str, rounds: int, steps: int) -> list[Row]:
    """Both engines in turns."""
    workers = {engine: Worker(engine, shape, dtype, steps) for engine in TRAINERS}
    answers: dict[str, list[dict[str, Any]]] = {engine: [] for engine in TRAINERS}
    peak = 0.0
    for _ in range(rounds):
        peak = max(peak, gemm_peak(dtype))
        for engine, worker in workers.items():
            answers[engine].append(worker.step())
    for worker in workers.values():
        worker.close()
    work = model_flops(shape)
    return [_row(shape, dtype, engine, workers[engine].setup, answers[engine], work / peak) for engine in TRAINERS]


def model_flops(shape: str) -> float:
    """Of one training step."""
    import flax.linen as nn
    import jax
    from train_worker import SHAPES, features

    from exaranker import models
    from exaranker.devices.flops import train_flops

    module, batch = models.build(SHAPES[shape]), features(shape)
    params = jax.eval_shape(lambda: nn.meta.unbox(module.init(jax.random.key(0), batch)["params"]))
    return train_flops(SHAPES[shape], params, batch)


def gemm_peak(dtype: str, size: int = 2048, repeats: int = 5) -> float:
    """FLOP/s of a large matrix product on this core, by CPU time; the best of a few."""
    import jax
    import jax.numpy as jnp

    from exaranker.models.matmul import matmul

    multiply, a = jax.jit(lambda a: matmul(a, a, dtype)), jnp.ones((size, size), dtype)
    multiply(a).block_until_ready()
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        multiply(a).block_until_ready()
        best = min(best, time.process_time() - began)
    return 2.0 * size**3 / best


def table(rows: Sequence[Row]) -> str:
    lines = [
        f"{'shape':13} {'dtype':9} {'engine':13} {'CPU-s/step':>10} {'tokens/CPU-s':>12} {'ratio':>6} "
        f"{'of gemm':>8} {'first, s':>9} {'peak, GB':>9} {'loss':>7}"
    ]
    for row in rows:
        peer = next(r for r in rows if r[:3] == (row.shape, row.dtype, "transformers"))
        lines.append(
            f"{row.shape:13} {row.dtype:9} {row.engine:13} {row.seconds:10.2f} {row.tokens_per_cpu_second:12.0f} "
            f"{peer.seconds / row.seconds:6.2f} {row.gemm_fraction:8.0%} {row.first_step:9.1f} "
            f"{row.peak_bytes / 1e9:9.2f} {row.loss_change:+7.2f}"
        )
    return "\n".join(lines)


def _row(shape: str, dtype: str, engine: str, setup: Any, answers: list[Any], gemm_seconds: float) -> Row:
    seconds = statistics.median(answer["seconds"] for answer in answers)
    last = answers[-1]
    change = last["losses"][-1] - last["losses"][0]
    rates = (TOKENS / seconds, gemm_seconds / seconds)
    return Row(shape, dtype, engine, seconds, *rates, setup["first_step"], last["peak_bytes"], change)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=2, help="per round (default: %(default)s)")
    parser.add_argument("--core", type=int, help="to pin everything to (default: the first this process may use)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0)) if args.core is None else args.core})
    pairs = [(shape, dtype) for shape in args.shapes for dtype in args.dtypes]
    rows: list[Row] = []
    for shape, dtype in pairs:
        rows += compare(shape, dtype, args.rounds, args.steps)
        print(table(rows[-2:]), file=sys.stderr, flush=True)
    print(table(rows))
    if args.json:
        write_json(args.json, [row._asdict() for row in rows])


if __name__ == "__main__":
    main()
