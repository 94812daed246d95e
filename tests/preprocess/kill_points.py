"""Kills `explain` with SIGKILL at every point where it touches the disk, reruns it, compares the bytes, and counts
the pairs that were asked for again.

Run by test_explain.py and test_engines_server.py in a process of its own, because it forks; exits 1 on a difference.
Usage: kill_points.py FOLDER LLM_DIR ASKED [SERVER_URL]; the file ASKED gets a character for each call of the engine.
"""

import hashlib
import os
import signal
import sys
from functools import partial
from pathlib import Path

import tensorflow  # noqa: F401 - imported before forking, so that no child has to

from exaranker.preprocess.config import ExplainerConfig
from exaranker.preprocess.engines.base import Completion, EngineInfo
from exaranker.preprocess.engines.llms import load_chat_tokenizer
from exaranker.preprocess.engines.runners import EngineSpec, run_overlapping
from exaranker.preprocess.engines.server import ServerEngine
from exaranker.preprocess.engines.server_client import ServerConfig
from exaranker.preprocess.explain import Job, explain
from exaranker.preprocess.pairs.selection import select
from exaranker.preprocess.pairs.text import with_text_ids
from exaranker.preprocess.prompts.prompter import Prompter, load_style

STEPS = ("replace", "fsync", "open")
SHARD_SIZE = 4


class DigestEngine:
    info = EngineInfo("digest 1", "always")

    def __init__(self, asked: Path):
        self.asked = asked

    def generate(self, prompts, sampling, prefix):
        with self.asked.open("a") as stream:
            stream.write("." * len(prompts))
        texts = [hashlib.sha256(repr(prompt.token_ids).encode()).hexdigest() for prompt in prompts]
        return [[Completion("" if text < "8" else f"it says {text}.", "stop", 5, -0.25)] for text in texts]

    def close(self):
        pass


def job_over(tokenizer, spec: EngineSpec) -> Job:
    rows = [with_text_ids(f"question {i}", f"passage {i}", i % 2) for i in range(11)]
    config = ExplainerConfig(shard_size=SHARD_SIZE)
    prompter = Prompter(load_style("small"), tokenizer, chat=True, max_passage_tokens=64, max_prompt_tokens=1900)
    return Job(select(lambda: iter(rows), 1), "list", config, prompter, "fake", "sha256:0", spec)


def in_child(job: Job, folder: Path, kill_at: int | None) -> int:
    """Runs the job in a fork that kills itself at its `kill_at`-th step on the disk; returns the child's signal."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the progress bar
        if kill_at is not None:
            arm(kill_at)
        explain(job, folder)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def arm(kill_at: int) -> None:
    """Counts calls of `os.replace`, `os.fsync` and `os.open`; alternate steps die before and after the call."""
    count = 0

    def counted(call):
        def step(*args, **kwargs):
            nonlocal count
            count += 1
            if count == kill_at and kill_at % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*args, **kwargs)
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return step

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))


def contents(folder: Path) -> dict[str, str]:
    names = sorted(path.name for path in folder.iterdir() if path.name not in ("run.json", ".writer"))
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def main(folder: Path, llm_dir: str, asked: Path, url: str | None = None) -> None:
    if url is None:
        at_once, spec = 1, EngineSpec({"name": "digest"}, partial(DigestEngine, asked))
    else:  # two shards are under way at once, as if by two workers
        start = partial(ServerEngine, ServerConfig(url, model="llm"), str)
        at_once, spec = 2, EngineSpec({"name": "server"}, start, run_overlapping)
    job = job_over(load_chat_tokenizer(llm_dir), spec)
    assert in_child(job, folder / "undisturbed", None) == 0
    expected, pairs = contents(folder / "undisturbed"), asked.stat().st_size
    kills = most = 0
    while True:
        asked.write_text("")
        target = folder / f"killed{kills}"
        died = in_child(job, target, kills + 1)
        if died == 0:
            break
        assert died == -signal.SIGKILL, died
        kills += 1
        assert in_child(job, target, None) == 0
        if contents(target) != expected:
            sys.exit(f"killed at step {kills}: {contents(target)} instead of {expected}")
        repeated = asked.stat().st_size - pairs
        if not 0 <= repeated <= at_once * SHARD_SIZE:
            sys.exit(f"killed at step {kills}: {repeated} pairs were asked for again")
        most = max(most, repeated)
    print(f"{kills} kills, {len(expected)} files, all equal, at most {most} of {pairs} pairs repeated")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
