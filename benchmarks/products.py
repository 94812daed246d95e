"""The matrix products of T5-base on one CPU core: XLA's under each of its options for them, beside torch's.

    OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/products.py [--rounds 5] [--json FILE]

XLA reads its options once, so each has a process of its own; the processes take turns, and a figure is of the call
with the least CPU time. "Kernel" is what the compiled product calls, by XLA's own names: an option that this jaxlib was
built without changes nothing. One that it does not know ends the process, and the table says so.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from exaranker.files import write_json

WITHOUT_YNN = "--xla_cpu_experimental_ynn_fusion_type="
OPTIONS = {  # of XLA's CPU compiler
    "as it comes": "",
    "vectors of 512 bits": "--xla_cpu_prefer_vector_width=512",
    "without YNN": WITHOUT_YNN,
    "XNN": f"{WITHOUT_YNN} --xla_cpu_experimental_xnn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
    "oneDNN": f"{WITHOUT_YNN} --xla_cpu_use_onednn=true",
    "oneDNN's fusions": f"{WITHOUT_YNN} --xla_cpu_experimental_onednn_fusion_type=LIBRARY_FUSION_TYPE_DOT",
    "oneDNN's custom calls": f"{WITHOUT_YNN} --xla_cpu_experimental_onednn_custom_call=true",
}
TORCH = "torch"
KERNELS = ("ynn", "xnn", "onednn", "custom-call")
DTYPES = ("float32", "bfloat16")
TOKENS = 1024
SHAPES = {"attention": (768, 768), "in": (768, 3072), "out": (3072, 768)}  # tokens by width by features
SECONDS = 0.5  # of CPU time for a product, once it has been called three times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--child", choices=["xla", TORCH], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        json.dump(of_torch() if args.child == TORCH else of_xla(), sys.stdout)
        return
    rounds = [{name: run(name) for name in (*OPTIONS, TORCH)} for _ in range(args.rounds)]
    best = {name: fastest([one[name] for one in rounds]) for name in rounds[0]}
    print(f"{'':22} {'kernel':10}" + "".join(f" {key:>18}" for key in figures()) + "   GFLOP/s")
    for name, found in best.items():
        values = "".join(f" {found[key]:18.0f}" for key in figures()) if found else " not known to this jaxlib"
        print(f"{name:22} {found.get('kernel', ''):10}{values}")
    if args.json:
        write_json(args.json, best)


def figures() -> list[str]:
    return [f"{dtype} {shape}" for dtype in DTYPES for shape in SHAPES]


def run(name: str) -> dict[str, Any]:
    """The figures of one process; none if it does not start with this option."""
    flags = f"--xla_cpu_multi_thread_eigen=false {OPTIONS.get(name, '')}"
    command = [sys.executable, __file__, "--child", TORCH if name == TORCH else "xla"]
    done = subprocess.run(command, env={**os.environ, "XLA_FLAGS": flags}, capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def fastest(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    if not all(rounds):
        return {}
    return {"kernel": rounds[0]["kernel"]} | {key: max(one[key] for one in rounds) for key in figures()}


def of_xla() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for dtype in DTYPES:
        for name, (width, features) in SHAPES.items():
            a, b = jnp.ones((TOKENS, width), dtype), jnp.ones((width, features), dtype)
            product = jax.jit(lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32)).lower(a, b).compile()
            text = product.as_text()
            kernel = next((kernel for kernel in KERNELS if text is not None and kernel in text), "XLA's own")
            flops = gigaflops(partial(waited_for, product, a, b), width, features)
            found |= {"kernel": kernel, f"{dtype} {name}": flops}
    return found


def of_torch() -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {"kernel": TORCH}
    for dtype in DTYPES:
        for name, (width, features) in SHAPES.items():
            shape = (TOKENS, width), (width, features)
            a, b = (torch.ones(size, dtype=getattr(torch, dtype)) for size in shape)
            found[f"{dtype} {name}"] = gigaflops(partial(torch.matmul, a, b), width, features)
    return found


def waited_for(product: Any, a: jax.Array, b: jax.Array) -> None:
    product(a, b).block_until_ready()


def gigaflops(product: Callable[[], Any], width: int, features: int) -> float:
    product()
    seconds: list[float] = []
    while len(seconds) < 3 or sum(seconds) < SECONDS:
        began = time.process_time()
        product()
        seconds.append(time.process_time() - began)
    return 2 * TOKENS * width * features / min(seconds) / 1e9


if __name__ == "__main__":
    main()
