"""Run by test_ray.py in a process of its own, which it kills: explains the pairs of kill_points.py by two
workers of the cluster at RAY_ADDRESS, or without one in this process; a second for each shard.

Usage: ray_driver.py FOLDER LLM_DIR TRACE; the file TRACE gets a line for each shard begun.
"""

import os
import sys
from pathlib import Path

from exaranker.preprocess.engines.base import EngineInfo
from exaranker.preprocess.engines.llms import load_chat_tokenizer
from exaranker.preprocess.engines.ray import RayConfig, run_on_ray
from exaranker.preprocess.engines.runners import EngineSpec, run_here
from exaranker.preprocess.explain import explain

sys.path.append(str(Path(__file__).parents[1]))
from kill_points import job_over


class SlowEngine:
    """Sent to the workers by value, as all of this script."""

    info = EngineInfo("slow 1", "always")

    def __init__(self, trace: Path):
        self.trace = trace

    def generate(self, prompts, sampling, prefix):
        import hashlib
        import time

        from exaranker.preprocess.engines.base import Completion

        with self.trace.open("a") as stream:
            stream.write("begun\n")
        time.sleep(1)
        digests = [hashlib.sha256(repr(prompt.token_ids).encode()).hexdigest()[:9] for prompt in prompts]
        return [[Completion(f"it speaks of {digest}.", "stop", 9, -0.5)] for digest in digests]

    def close(self):
        pass


def main(folder: str, llm_dir: str, trace: str) -> None:
    def start():
        return SlowEngine(Path(trace))

    def on_ray(*given):
        return run_on_ray(*given, RayConfig(address="auto", workers=2))

    spec = EngineSpec({"name": "slow"}, start, on_ray if "RAY_ADDRESS" in os.environ else run_here)
    explain(job_over(load_chat_tokenizer(llm_dir), spec), folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
