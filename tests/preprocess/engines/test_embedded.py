"""The real LLM through every engine, and SIGKILL while it writes; all by the command a user types."""

import os
import pty
import random
import re
import signal
import socket
import subprocess
import sys
import termios
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from exaranker import schema
from exaranker.files import read_json
from exaranker.files.shipped import shipped

pytestmark = pytest.mark.slow

PAIRS = shipped("examples/sample") / "pairs.tsv"
# As many threads as a Ray worker has.
ONE_CORE = {"VLLM_CPU_OMP_THREADS_BIND": str(min(os.sched_getaffinity(0))), "OMP_NUM_THREADS": "1"}


def command(folder, *options):
    words = ["explain", "--pairs", str(PAIRS), "--output_dir", str(folder), *options]
    return [sys.executable, "-m", "exaranker.cli", *words]


def explain(folder, *options, **environment):
    done = subprocess.run(
        command(folder, *options), capture_output=True, text=True, timeout=800, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return schema.verify(folder)


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name not in ("run.json", ".writer")}


def at_a_terminal(words):
    """Runs the command with a terminal for its stderr; returns what it showed there."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    shown = []
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        with suppress(OSError):  # Linux says EIO when the last writer is gone
            while part := os.read(ours, 4096):
                shown.append(part)
    os.close(ours)
    assert process.returncode == 0
    return b"".join(shown).decode(errors="replace")


def rows(folder):
    return [row for path in schema.shard_paths(folder) for row in schema.read_shard(path)]


def kill_while_generating(folder, options, wait):
    """Starts the command, waits until the LLM is loaded and `wait` seconds more, and kills it."""
    process = subprocess.Popen(command(folder, *options), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    line = next(line for line in process.stderr if " ready in " in line)
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, f"finished within {wait:.1f} s of: {line}"
    process.stderr.close()


@pytest.mark.timeout(1800)
def test_sigkill_at_three_random_moments_then_rerun_gives_the_same_bytes(tmp_path):
    options = ["--limit", "48", "--shard_size", "16"]
    assert explain(tmp_path / "undisturbed", *options)["num_shards"] == 3
    seconds = min(read_json(tmp_path / "undisturbed" / "run.json")["seconds"].values())
    spans = [(0, 0.6), (1.05, 1.6), (0, 0.6)]  # in shards: within the first, after one is finished, within the next
    moments = [random.SystemRandom().uniform(*span) * seconds for span in spans]
    print(f"killed {moments} s after the LLM was ready; a shard takes {seconds} s")
    for moment in moments:
        kill_while_generating(tmp_path / "killed", options, moment)
    explain(tmp_path / "killed", *options)
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")


@pytest.mark.timeout(1200)
def test_texts_that_are_drawn_depend_on_the_seed_only(tmp_path):
    drawing = ["--limit", "8", "--gin.explainer.samples=3", "--gin.explainer.temperature=0.7"]
    for folder, seed in (("first", 0), ("other", 1)):
        explain(tmp_path / folder, *drawing, f"--gin.explainer.seed={seed}")
    shown = at_a_terminal(command(tmp_path / "again", *drawing, "--gin.explainer.seed=0"))
    assert "explain: 100%" in shown
    assert "this shard:" in shown
    assert contents(tmp_path / "again") == contents(tmp_path / "first")
    texts = [{row.explanation for row in rows(tmp_path / folder)} for folder in ("first", "other")]
    assert min(map(len, texts)) >= 4
    assert texts[0] != texts[1]


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """64 pairs in two shards by vLLM in one process, with the second pass."""
    folder = tmp_path_factory.mktemp("offline")
    explain(folder, *SIXTY_FOUR, **ONE_CORE)
    return folder


SIXTY_FOUR = ["--limit", "64", "--shard_size", "32", "--gin.explainer.relevance_prompt='relevance'"]


@pytest.mark.timeout(1200)
def test_most_pairs_are_explained_and_the_llm_believes_more_in_relevant_ones(offline):
    manifest = schema.verify(offline)
    assert [shard["repeatable"] for shard in manifest["shards"]] == [
        "one call per shard, prefix cache warmed alike"
    ] * 2
    engine = r"vllm \S+, torch \S+, transformers \S+, cpu with 1 thread in (bfloat16|float32)"
    assert all(re.fullmatch(engine, shard["engine"]) for shard in manifest["shards"])
    found = rows(offline)
    assert len(found) >= 40
    assert all(row.explanation.startswith("The passage is ") and row.num_tokens > 3 for row in found)
    assert all(0 < row.llm_relevance < 1 for row in found)
    means = [sum(b) / len(b) for b in ([row.llm_relevance for row in found if row.relevant == side] for side in (0, 1))]
    assert means[1] > means[0]


@pytest.mark.timeout(1800)
def test_two_ray_workers_write_the_same_bytes(offline, tmp_path):
    explain(tmp_path, *SIXTY_FOUR, "--engine", "ray", "--gin.ray.workers=2")
    assert contents(tmp_path) == contents(offline)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`vllm serve` on this machine, with the embedded LLM."""
    from exaranker.embedded.llm import embedded_llm_dir

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    words = ["--model", str(embedded_llm_dir()), "--served-model-name", "smollm2", "--max-model-len", "2048"]
    words += ["--enforce-eager", "--host", "127.0.0.1", "--port", str(port)]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_TARGET_DEVICE": "cpu", **ONE_CORE}
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words],
            stdout=stream, stderr=stream, env={**os.environ, **settings}, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until_served(f"http://127.0.0.1:{port}/v1/models", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_served(url, process, log):
    for _ in range(600):
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise TimeoutError(log.read_text()[-3000:])


@pytest.mark.timeout(1800)
def test_a_real_server_gives_like_texts_in_the_same_form(offline, server, tmp_path):
    """Greedy texts depend on the batch: half of them, and the form of all, is what can be promised."""
    manifest = explain(tmp_path, *SIXTY_FOUR, "--engine", "server", f"--gin.server.base_url='{server}'")
    expected = schema.verify(offline)
    assert manifest["settings"].pop("engine") == {"name": "server", "model": None, "prompts": "tokens"}
    assert expected["settings"].pop("engine")["name"] == "vllm"
    assert manifest["settings"] == expected["settings"]
    assert manifest["shards"][0].keys() == expected["shards"][0].keys()
    assert manifest["shards"][0]["repeatable"] == "no: the server batches requests as they come"
    texts = [{row.doc_id + row.query_id: row for row in rows(folder)} for folder in (offline, tmp_path)]
    both = texts[0].keys() & texts[1].keys()
    same = Counter(texts[0][key].explanation == texts[1][key].explanation for key in both)
    print(f"{same[True]} of {len(both)} texts are those of the offline engine")
    assert same[True] >= len(both) / 2
    beliefs = [abs(texts[0][key].llm_relevance - texts[1][key].llm_relevance) for key in both]
    assert max(beliefs) < 0.1
