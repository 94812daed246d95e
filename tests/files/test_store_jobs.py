"""The command line over a store in processes of its own: each stage is killed once and continues from what is there."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from exaranker.files.shipped import shipped

SAMPLE = shipped("examples/sample")
STORE = "STORE"  # the bucket's URL takes its place
TINY = {
    "MODEL_DIR": f"{STORE}/model",
    "DATASET_DIR": f"{STORE}/explanations",
    "VOCABULARY_PATH": f"{STORE}/spiece.model",
    "MIXTURE_OR_TASK_NAME": "exaranker_sample_label",
    "TASK_FEATURE_LENGTHS": {"inputs": 64, "targets": 8},
    "INITIAL_CHECKPOINT_PATH": None,
    "USE_CACHED_TASKS": False,
    "BATCH_SIZE": 4,
    "TRAIN_STEPS": 12,
    "LOG_PERIOD": 2,
    "CHECKPOINT_PERIOD": 2,
    "EVAL_PERIOD": 0,
    "EVAL_STEPS": 1,
    "LOSS_NORMALIZING_FACTOR": "NUM_REAL_TARGET_TOKENS",
    "LEARNING_RATE": 0.01,
    "t5.T5Config.vocab_size": 4096,
}
TRAIN = ["train", "--gin_file", "models/t5_1_1/tiny.gin", "--gin_file", "runs/finetune.gin"]
TRAIN += [f"--gin.{name}={value!r}" for name, value in TINY.items()]
EXPLAIN = ["explain", "--engine", "given", "--explainer", "me", "--shard_size", "1"]
EXPLAIN += ["--pairs", f"{STORE}/pairs.jsonl", "--output_dir", f"{STORE}/explanations"]
TEXTS = ["--queries", f"{STORE}/queries.tsv", "--passages", f"{STORE}/passages.tsv"]

pytestmark = pytest.mark.slow


def run(bucket: str, words: list[str], until: Callable[[], bool] | None = None) -> str:
    """What a command says; it is killed once `until` holds."""
    command = [sys.executable, "-m", "exaranker.cli", *(word.replace(STORE, bucket) for word in words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        while until is not None and process.poll() is None:
            if until():
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.02)
        said = process.communicate()[0]
    assert process.returncode == (0 if until is None else -signal.SIGKILL), said
    return said


def start_job(bucket: str, words: list[str]) -> "list[subprocess.Popen[str]]":
    """Two processes of one command, which meet on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "exaranker.cli", *(word.replace(STORE, bucket) for word in words)]
    command += ["--coordinator_address", address, "--process_count", "2", "--heartbeat_timeout", "30"]
    both = subprocess.PIPE, subprocess.STDOUT
    return [
        subprocess.Popen([*command, "--process_index", str(index)], stdout=both[0], stderr=both[1], text=True)
        for index in range(2)
    ]


def rerank(output: str) -> list[str]:
    files = [*TEXTS, "--run", f"{STORE}/bm25.trec", "--output", f"{STORE}/{output}"]
    return ["rerank", "--checkpoint", f"{STORE}/model", *files, "--token_budget", "512"]


def candidates() -> str:
    """A run of the judged passages."""
    judged = [line.split() for line in (SAMPLE / "qrels.txt").read_text().splitlines()[:300]]
    rows = [f"{query} Q0 {passage} {n} {-n} judged\n" for n, (query, _, passage, _) in enumerate(judged, start=1)]
    return "".join(rows)


def test_explain_train_and_rerank_killed_once_each(store, bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("EXARANKER_CACHE", str(tmp_path))
    for name in ("queries.tsv", "passages.tsv", "spiece.model"):
        store.put_file(str(SAMPLE / name), f"bucket/{name}")
    rows = [
        {"query": f"what is {i}", "passage": f"{i} is a number", "label": i % 2, "explanation": f"It says {i}."}
        for i in range(40)
    ]
    store.pipe_file("bucket/pairs.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())

    run(bucket, EXPLAIN, until=lambda: store.exists("bucket/explanations/explanations-00004-of-00040.tfrecord"))
    assert not json.loads(store.cat_file("bucket/explanations/manifest.json"))["complete"]
    run(bucket, EXPLAIN)
    manifest = json.loads(store.cat_file("bucket/explanations/manifest.json"))
    assert manifest["complete"]
    assert sum(shard["rows"] for shard in manifest["shards"]) == 40

    run(bucket, TRAIN, until=lambda: store.exists("bucket/model/checkpoint_4/params/_METADATA"))
    said = run(bucket, TRAIN)
    assert re.search(rf"resuming from step \d+ in {bucket}/model", said)
    names = {key.split("/")[2] for key in store.find("bucket/model") if "checkpoint_" in key}
    assert names == {"checkpoint_8", "checkpoint_10", "checkpoint_12"}

    store.pipe_file("bucket/bm25.trec", candidates().encode())
    run(bucket, rerank("killed.trec"), until=lambda: store.exists("bucket/killed.trec.partial"))
    run(bucket, rerank("killed.trec"))
    run(bucket, rerank("undisturbed.trec"))
    assert store.cat_file("bucket/killed.trec") == store.cat_file("bucket/undisturbed.trec")
    assert [key for key in store.find("bucket") if key.endswith((".writer", ".partial", ".incomplete"))] == []
    assert os.listdir(tmp_path / "mirrors") == []


def test_several_processes_read_the_bucket_but_write_where_all_see_it(store, bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("EXARANKER_CACHE", str(tmp_path / "cache"))
    store.put_file(str(SAMPLE / "spiece.model"), "bucket/spiece.model")
    rows = [{"query": f"what is {i}", "passage": f"{i} is it", "label": i % 2, "explanation": "So."} for i in range(16)]
    store.pipe_file("bucket/pairs.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    run(bucket, [word.replace("/explanations", "/several") for word in EXPLAIN])
    words = [*TRAIN, f"--gin.DATASET_DIR='{STORE}/several'", "--gin.DATA_STREAMS=2", "--gin.TRAIN_STEPS=4"]
    for model_dir, code in ((f"{tmp_path}/model", 0), (f"{STORE}/refused", 2)):
        job = start_job(bucket, [*words, f"--gin.MODEL_DIR='{model_dir}'"])
        said = [process.communicate(timeout=300)[0] for process in job]
        assert [process.returncode for process in job] == [code, code], said
    assert (tmp_path / "model/checkpoint_4/params/_METADATA").exists()
    problem = (
        f"{bucket}/refused: several processes write one checkpoint, and each has its own copy of what is in a store"
    )
    assert all(problem in text for text in said), said
    assert not [key for key in store.find("bucket/refused") if not key.endswith(".writer")]
