"""`exaranker infer` and `eval`, on checkpoints of both families trained for a moment on the sample's pairs."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from exaranker import models
from exaranker.checkpoints.store import load_for_inference
from exaranker.cli import main
from exaranker.files.shipped import shipped
from exaranker.infer import DatasetConfig, InferConfig
from exaranker.infer.run import infer
from exaranker.rank.loaded_model import LoadedModel
from exaranker.rank.reranker import Reranker
from exaranker.schema import read_shard, shard_paths

SAMPLE = shipped("examples/sample")
FAMILIES = {
    "t5": ("models/t5_1_1/tiny.gin", "T5Config", "exaranker"),
    "decoder": ("models/decoder/tiny.gin", "DecoderConfig", "decoder"),
}
INPUTS, TARGETS = 160, 4
PIECES = 4096  # of which a log-probability sums the exponentials


class Trained(NamedTuple):
    family: str
    checkpoint: Path
    dataset: Path


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 of the sample's pairs in 3 shards, without explanations: about 85 of them in the split "train"."""
    folder = tmp_path_factory.mktemp("infer") / "pairs"
    limits = ["--limit=96", "--shard_size=32", "--engine=none"]
    main(["explain", f"--pairs={SAMPLE / 'pairs.tsv'}", f"--output_dir={folder}", *limits])
    return folder


@pytest.fixture(scope="session")
def train_once(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    return functools.cache(lambda family: train(family, dataset, tmp_path_factory.mktemp(family)))


@pytest.fixture(scope="session", params=FAMILIES)
def trained(request: pytest.FixtureRequest, train_once: Callable[[str], Trained]) -> Trained:
    return train_once(request.param)


@pytest.fixture(scope="session")
def t5(train_once: Callable[[str], Trained]) -> Trained:
    return train_once("t5")


def train(family: str, dataset: Path, model_dir: Path) -> Trained:
    """Long enough to answer with one of the two labels."""
    model, config, template = FAMILIES[family]
    macros = {
        "MODEL_DIR": str(model_dir),
        "DATASET_DIR": str(dataset),
        "VOCABULARY_PATH": str(SAMPLE / "spiece.model"),
        "MIXTURE_OR_TASK_NAME": "exaranker_sample_label",
        "TASK_FEATURE_LENGTHS": {"inputs": INPUTS, "targets": TARGETS},
        "INITIAL_CHECKPOINT_PATH": None,
        "TEMPLATE": template,
        "TRAIN_STEPS": 100,
        "LEARNING_RATE": 0.01,
        "BATCH_SIZE": 8,
        "USE_CACHED_TASKS": False,
        "LOSS_NORMALIZING_FACTOR": "NUM_REAL_TARGET_TOKENS",
        "EVAL_PERIOD": 0,
        "ACTIVATION_DTYPE": "float32",
        f"{config}.vocab_size": PIECES,
    }
    main(["train", "--gin_file", model, "--gin_file", "runs/finetune.gin", *bindings(macros)])
    return Trained(family, model_dir, dataset)


def bindings(macros: dict[str, Any]) -> list[str]:
    return [f"--gin.{name}={value!r}" for name, value in macros.items()]


def words(verb: str, trained: Trained, output: Path, **macros: Any) -> list[str]:
    given = {
        "MIXTURE_OR_TASK_NAME": "exaranker_sample_label",
        "TASK_FEATURE_LENGTHS": {"inputs": INPUTS, "targets": TARGETS},
        "DATASET_DIR": str(trained.dataset),
        "CHECKPOINT_PATH": str(trained.checkpoint),
        f"{verb.upper()}_OUTPUT_DIR": str(output),
        "SPLIT": "train",
        "BATCH_SIZE": 8,
    }
    return [verb, "--gin_file", f"runs/{verb}.gin", *bindings(given | macros)]


def read(output: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / name).read_text().splitlines()]


def step_by_step(trained: Trained, pair: tuple[str, str], answer: list[int]) -> np.ndarray:
    """Log-probabilities of the whole vocabulary before each token of an answer, one step at a time."""
    card, params, _ = load_for_inference(trained.checkpoint)
    tokens = np.array([Reranker.from_checkpoint(trained.checkpoint).encode(*pair)], np.int32)
    rows = []
    for count in range(len(answer)):
        prefix = np.array([answer[:count]], np.int32).reshape(1, count)
        module = models.build(card.config)
        (logits, *_), _ = module.apply({"params": params}, tokens, prefix, 1, method="begin", mutable=["cache"])
        rows.append(np.asarray(jax.nn.log_softmax(logits[0])))
    return np.array(rows)


def likelihood_rounding(rounding: ModuleType, steps: np.ndarray) -> float:
    """Of an answer's log-likelihood: each token's logit, over positions, and the log of a sum over all pieces."""
    rounded = len(steps) * float(rounding.rounding(INPUTS, np.abs(steps).max()) + rounding.rounding(PIECES, 1.0))
    return min(rounded, 1e-4)


def texts(trained: Trained) -> dict[str, tuple[int, str, str]]:
    """(relevant, query, passage) by ids, read from the dataset's shards themselves."""
    rows = [row for path in shard_paths(trained.dataset) for row in read_shard(path)]
    return {f"{row.query_id} {row.doc_id}": (row.relevant, row.query, row.passage) for row in rows}


def test_scores_are_the_log_likelihood_and_the_log_odds(rounding: ModuleType, trained: Trained, tmp_path: Path) -> None:
    main(words("infer", trained, tmp_path, INFER_MODE="score"))
    lines = read(tmp_path, "exaranker_sample_label-score.jsonl-00000-of-00001")
    known, tokenizer = texts(trained), load_for_inference(trained.checkpoint).tokenizer
    assert [set(line) for line in lines] == [{"query_id", "doc_id", "inputs", "score", "log_odds"}] * len(lines)
    assert len(lines) > 60
    given = [known[f"{line['query_id']} {line['doc_id']}"] for line in lines]
    odds = list(Reranker.from_checkpoint(trained.checkpoint, max_length=INPUTS).score((q, p) for _, q, p in given))
    rounding.assert_equal_but_for_rounding([line["log_odds"] for line in lines], odds, terms=INPUTS)  # positions
    for line, (relevant, query, passage) in list(zip(lines, given, strict=True))[:3]:
        target = line["inputs"]["targets_pretokenized"]
        assert target.strip() == ("true" if relevant else "false")
        answer = [*tokenizer.encode(target), tokenizer.eos_id]
        steps = step_by_step(trained, (query, passage), answer)
        expected = sum(steps[i, token] for i, token in enumerate(answer))
        assert line["score"] == pytest.approx(expected, abs=likelihood_rounding(rounding, steps))


def test_predictions_are_greedy(trained: Trained, tmp_path: Path) -> None:
    main(words("infer", trained, tmp_path))
    lines = read(tmp_path, "exaranker_sample_label-predict.jsonl-00000-of-00001")
    known, tokenizer = texts(trained), load_for_inference(trained.checkpoint).tokenizer
    for line in lines[:3]:
        answer = tokenizer.encode(line["prediction"] if trained.family == "t5" else " " + line["prediction"].strip())
        _, query, passage = known[f"{line['query_id']} {line['doc_id']}"]
        steps = step_by_step(trained, (query, passage), [*answer, tokenizer.eos_id])
        assert steps.argmax(axis=1).tolist() == [*answer, tokenizer.eos_id]


def test_every_row_is_in_one_shard(t5: Trained, tmp_path: Path) -> None:
    for shard in range(5):  # more than the 3 files
        main(words("infer", t5, tmp_path, NUM_SHARDS=5, SHARD_ID=shard, INFER_MODE="score"))
    main(words("infer", t5, tmp_path, INFER_MODE="score"))
    whole = read(tmp_path, "exaranker_sample_label-score.jsonl-00000-of-00001")
    parts = [read(tmp_path, f"exaranker_sample_label-score.jsonl-{shard:05}-of-00005") for shard in range(5)]
    ids = sorted((line["query_id"], line["doc_id"]) for part in parts for line in part)
    assert ids == sorted((line["query_id"], line["doc_id"]) for line in whole)
    assert all(parts)


@pytest.mark.slow
def test_two_devices_infer_as_one(rounding: ModuleType, t5: Trained, tmp_path: Path) -> None:
    name = "exaranker_sample_label-{}.jsonl-00000-of-00001"
    flags = os.environ.get("XLA_FLAGS", "")
    environment = {**os.environ, "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=2"}
    for mode in ("score", "predict"):
        main(words("infer", t5, tmp_path / "one", INFER_MODE=mode))
        command = [sys.executable, "-m", "exaranker.cli", *words("infer", t5, tmp_path / "two", INFER_MODE=mode)]
        subprocess.run(command, check=True, env=environment)
    one, two = (read(tmp_path / folder, name.format("score")) for folder in ("one", "two"))
    _, query, passage = next(iter(texts(t5).values()))
    atol = likelihood_rounding(rounding, step_by_step(t5, (query, passage), [0] * TARGETS))
    assert [line["score"] for line in two] == pytest.approx([line["score"] for line in one], abs=atol)
    one, two = (read(tmp_path / folder, name.format("predict")) for folder in ("one", "two"))
    assert two == one


@pytest.mark.slow
def test_a_killed_job_continues_and_gives_the_same_bytes(
    t5: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = LoadedModel.generate
    options = {"BATCH_SIZE": 2, "CHECKPOINT_PERIOD": 1}
    name = "exaranker_sample_label-predict.jsonl-00000-of-00001"
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    main(words("infer", t5, undisturbed, **options))

    partial = killed / f"{name}.partial"
    command = [sys.executable, "-m", "exaranker.cli", *words("infer", t5, killed, **options)]
    process = subprocess.Popen(command)
    while process.poll() is None and not (partial.is_file() and len(partial.read_text().splitlines()) > 2):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / name).exists()

    batches = []
    monkeypatch.setattr(LoadedModel, "generate", lambda *args, **kw: batches.append(1) or generate(*args, **kw))
    finished = len(partial.read_text().splitlines()) - 2  # a header, and a line that may be cut short
    main(words("infer", t5, killed, **options))
    assert len(batches) <= len(read(killed, name)) / 2 + 1 - finished
    assert (killed / name).read_bytes() == (undisturbed / name).read_bytes()
    assert [path.name for path in killed.iterdir()] == [name]


@pytest.mark.slow
def test_a_job_killed_at_any_step_continues_and_gives_the_same_bytes(
    t5: Trained, tmp_path: Path, left_by_kills: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoadedModel, "from_checkpoint", functools.cache(LoadedModel.from_checkpoint))
    lengths = {"inputs": INPUTS, "targets": TARGETS}
    rows = {"split": "train", "batch_size": 2, "dataset_dir": str(t5.dataset), "num_examples": 6}
    dataset = DatasetConfig("exaranker_sample_label", lengths, **rows)

    def work(folder: Path) -> None:
        infer(InferConfig(str(t5.checkpoint), str(folder), dataset, mode="score", checkpoint_period=1))

    kills = left_by_kills(work)
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert list(expected) == ["exaranker_sample_label-score.jsonl-00000-of-00001"]
    assert len(kills) > 6
    for left in kills:
        work(left)
        assert {path.name: path.read_bytes() for path in left.iterdir()} == expected


def test_eval_gives_the_tasks_own_metrics(t5: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(words("eval", t5, tmp_path, TASK_FEATURE_LENGTHS=None))
    lines = read(tmp_path, "exaranker_sample_label-predict.jsonl-00000-of-00001")
    known = texts(t5)
    said = [line["prediction"] for line in lines]
    gold = [("false", "true")[known[f"{line['query_id']} {line['doc_id']}"][0]] for line in lines]
    right = sum(a == b for a, b in zip(said, gold, strict=True))
    results = json.loads((tmp_path / "task_metrics.json").read_text())
    measured = results["tasks"]["exaranker_sample_label"]
    assert measured["rows"] == len(lines) > 60
    assert measured["metrics"]["label_accuracy"] == pytest.approx(100 * right / len(lines))
    assert right > 0
    assert (results["step"], results["split"]) == (100, "train")
    assert f"exaranker_sample_label  {len(lines)} rows  label_accuracy" in capsys.readouterr().out


def test_eval_of_the_first_rows(t5: Trained, tmp_path: Path) -> None:
    main(words("eval", t5, tmp_path, EVALUATOR_NUM_EXAMPLES=5))
    assert json.loads((tmp_path / "task_metrics.json").read_text())["tasks"]["exaranker_sample_label"]["rows"] == 5


@pytest.mark.parametrize("verb", ["infer", "eval"])
def test_a_dry_run_makes_the_checks_and_shows_what_would_run(
    verb: str, t5: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*words(verb, t5, tmp_path / "out"), "--dry_run"])
    assert "BATCH_SIZE = 8" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*words(verb, t5, tmp_path / "out", SPLIT="trian"), "--dry_run"])
    assert "has no split 'trian' (it has: train, " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("macros", "message"),
    [
        ({"CHECKPOINT_PATH": "nowhere"}, "nowhere: no such directory (expected MODEL_DIR or MODEL_DIR/checkpoint_N)"),
        ({"MIXTURE_OR_TASK_NAME": "exaranker_sample_lable"}, "did you mean exaranker_sample_label"),
        (
            {"MIXTURE_OR_TASK_NAME": "exaranker_sampel_label", "DATASET_DIR": None},
            "unknown task or mixture 'exaranker_sampel_label' (did you mean exaranker_sample_label",
        ),
        ({"SHARD_ID": 3, "NUM_SHARDS": 3}, "SHARD_ID 3 is out of range (expected 0 to NUM_SHARDS - 1 = 2)"),
        ({"INFER_MODE": "scoer"}, "INFER_MODE is 'scoer', expected one of predict, score (did you mean score?)"),
        (
            {"ACTIVATION_DTYPE": "float16"},
            "ACTIVATION_DTYPE is 'float16', expected one of float32, bfloat16 (did you mean bfloat16 or float32?)",
        ),
        ({"SPLIT": "dev"}, "task exaranker_sample_label has no split 'dev' (it has: "),
        ({"BATCH_SIZE": 0}, "BATCH_SIZE is 0, expected at least 1"),
        ({"CHECKPOINT_PERIOD": 0}, "CHECKPOINT_PERIOD is 0, expected at least 1"),
        ({"TASK_FEATURE_LENGTHS": {"inputs": 9}}, "TASK_FEATURE_LENGTHS {'inputs': 9} lacks targets"),
        ({"TASK_FEATURE_LENGTHS": {"inputs": 9, "targets": 4}}, "tokens, the inputs are given 9"),
    ],
)
def test_bad_input(
    t5: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str], macros: dict[str, Any], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words("infer", t5, tmp_path, **macros))
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.jsonl-00000-of-0000?"))


def test_a_macro_that_must_be_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["infer", "--gin_file", "runs/infer.gin"])
    assert stopped.value.code == 2
    assert "MIXTURE_OR_TASK_NAME is not set (add --gin.MIXTURE_OR_TASK_NAME=VALUE" in capsys.readouterr().err


def test_a_task_of_another_vocabulary_or_family_is_refused(
    t5: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from exaranker.tasks import register_dataset

    for vocabulary, template, message in (
        ("byt5", "exaranker", "has another vocabulary than the checkpoint's"),
        (str(SAMPLE / "spiece.model"), "decoder", "is written for decoder_only models, the checkpoint is not one"),
    ):
        register_dataset("sample", t5.dataset, vocabulary, template)
        with pytest.raises(SystemExit):
            main(words("infer", t5, tmp_path, DATASET_DIR=None))
        assert message in capsys.readouterr().err
