"""The command line over `s3://` in processes of its own: each stage is killed once and continues from what is there."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from exaranker.shipped import shipped

SAMPLE = shipped("examples/sample")
STORE = "s3://jobs"
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


@pytest.fixture(scope="module")
def store() -> Iterator:
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        store = s3fs.S3FileSystem(use_listings_cache=False)
        store.mkdir("jobs")
        yield store
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def run(words: list[str], until: Callable[[], bool] | None = None) -> str:
    """What a command says; it is killed once `until` holds."""
    command = [sys.executable, "-m", "exaranker.cli", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        while until is not None and process.poll() is None:
            if until():
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.02)
        said = process.communicate()[0]
    assert process.returncode == (0 if until is None else -signal.SIGKILL), said
    return said


def rerank(output: str) -> list[str]:
    files = [*TEXTS, "--run", f"{STORE}/bm25.trec", "--output", f"{STORE}/{output}"]
    return ["rerank", "--checkpoint", f"{STORE}/model", *files, "--token_budget", "512"]


def candidates() -> str:
    """A run of the judged passages."""
    judged = [line.split() for line in (SAMPLE / "qrels.txt").read_text().splitlines()[:300]]
    rows = [f"{query} Q0 {passage} {n} {-n} judged\n" for n, (query, _, passage, _) in enumerate(judged, start=1)]
    return "".join(rows)


def test_explain_train_and_rerank_killed_once_each(store, tmp_path, monkeypatch):
    monkeypatch.setenv("EXARANKER_CACHE", str(tmp_path))
    for name in ("queries.tsv", "passages.tsv", "spiece.model"):
        store.put_file(str(SAMPLE / name), f"jobs/{name}")
    rows = [
        {"query": f"what is {i}", "passage": f"{i} is a number", "label": i % 2, "explanation": f"It says {i}."}
        for i in range(40)
    ]
    store.pipe_file("jobs/pairs.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())

    run(EXPLAIN, until=lambda: store.exists("jobs/explanations/explanations-00004-of-00040.tfrecord"))
    assert not json.loads(store.cat_file("jobs/explanations/manifest.json"))["complete"]
    run(EXPLAIN)
    manifest = json.loads(store.cat_file("jobs/explanations/manifest.json"))
    assert manifest["complete"]
    assert sum(shard["rows"] for shard in manifest["shards"]) == 40

    run(TRAIN, until=lambda: store.exists("jobs/model/checkpoint_4/params/_METADATA"))
    said = run(TRAIN)
    assert re.search(rf"resuming from step \d+ in {STORE}/model", said)
    names = {key.split("/")[2] for key in store.find("jobs/model") if "checkpoint_" in key}
    assert names == {"checkpoint_8", "checkpoint_10", "checkpoint_12"}

    store.pipe_file("jobs/bm25.trec", candidates().encode())
    run(rerank("killed.trec"), until=lambda: store.exists("jobs/killed.trec.partial"))
    run(rerank("killed.trec"))
    run(rerank("undisturbed.trec"))
    assert store.cat_file("jobs/killed.trec") == store.cat_file("jobs/undisturbed.trec")
    assert [key for key in store.find("jobs") if key.endswith((".writer", ".partial", ".incomplete"))] == []
    assert os.listdir(tmp_path / "mirrors") == []
