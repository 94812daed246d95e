"""Kills `explain` with SIGKILL at every point where it touches the disk, reruns it, compares the bytes, and
counts the shards that were generated again.

Run by test_explain.py in a process of its own, because it forks; prints one line per kill and exits 1 on a difference.
Usage: kill_points.py FOLDER LLM_DIR
"""

import hashlib
import os
import signal
import sys
from pathlib import Path

import tensorflow  # noqa: F401 - imported before forking, so that no child has to

from exaranker.preprocess.configs import ExplainerConfig
from exaranker.preprocess.engines import Completion, EngineInfo
from exaranker.preprocess.explain import Job, explain
from exaranker.preprocess.llms import load_tokenizer
from exaranker.preprocess.prompting import Prompter, load_style
from exaranker.preprocess.readers import with_text_ids
from exaranker.preprocess.runners import EngineSpec
from exaranker.preprocess.selection import select

STEPS = ("replace", "fsync", "open")


class DigestEngine:
    info = EngineInfo("digest 1", "always")
    asked = Path()  # a file that gets a character for each shard that is generated

    def generate(self, prompts, sampling, prefix):
        with self.asked.open("a") as stream:
            stream.write(".")
        texts = [hashlib.sha256(repr(prompt.token_ids).encode()).hexdigest() for prompt in prompts]
        return [[Completion("" if text < "8" else f"it says {text}.", "stop", 5, -0.25)] for text in texts]

    def close(self):
        pass


def job_over(tokenizer) -> Job:
    rows = [with_text_ids(f"question {i}", f"passage {i}", i % 2) for i in range(11)]
    config = ExplainerConfig(shard_size=4)
    prompter = Prompter(load_style("small"), tokenizer, chat=True, max_passage_tokens=64, max_prompt_tokens=1900)
    spec = EngineSpec({"name": "digest"}, DigestEngine)
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


def main(folder: Path, llm_dir: str) -> None:
    job = job_over(load_tokenizer(llm_dir))
    DigestEngine.asked = folder / "asked"
    assert in_child(job, folder / "undisturbed", None) == 0
    expected = contents(folder / "undisturbed")
    shards = len(DigestEngine.asked.read_text())
    kills = 0
    while True:
        DigestEngine.asked.write_text("")
        target = folder / f"killed{kills}"
        died = in_child(job, target, kills + 1)
        if died == 0:
            break
        assert died == -signal.SIGKILL, died
        kills += 1
        assert in_child(job, target, None) == 0
        if contents(target) != expected:
            sys.exit(f"killed at step {kills}: {contents(target)} instead of {expected}")
        if not shards <= len(DigestEngine.asked.read_text()) <= shards + 1:
            sys.exit(f"killed at step {kills}: {DigestEngine.asked.read_text()} calls for {shards} shards")
    print(f"{kills} kills, {len(expected)} files, all equal, at most one of {shards} shards repeated")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
