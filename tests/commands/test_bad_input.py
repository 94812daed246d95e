"""Bad input through the console script, from the first stage to the last: exit code 2 and one line that says where."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from exaranker import schema
from exaranker.cli import main
from exaranker.files import sha256_file, write_json
from exaranker.files.shipped import shipped

SAMPLE = shipped("examples/sample")
LENGTHS = {"inputs": 160, "targets": 4}

Refused = Callable[[list[str]], str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a verb that must exit 2, and returns the reason: its one line on stderr without the program's name."""

    def run(words: list[str]) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2
        told = capsys.readouterr()
        *_, line = told.err.splitlines()
        assert "Traceback" not in told.err
        return line.removeprefix(f"exaranker {words[0]}: error: ")

    return run


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 of the sample's pairs in 2 shards."""
    folder = tmp_path_factory.mktemp("bad_input") / "dataset"
    pairs = ["--pairs", str(SAMPLE / "pairs.tsv"), "--limit", "64"]
    main(["explain", *pairs, "--engine", "none", "--shard_size", "32", "--output_dir", str(folder)])
    return folder


@pytest.fixture
def damaged(dataset: Path, tmp_path: Path) -> Path:
    """A copy whose last shard lacks its last 20 bytes."""
    for path in dataset.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shard = last_shard(tmp_path)
    shard.write_bytes(shard.read_bytes()[:-20])
    return tmp_path


def last_shard(folder: Path) -> Path:
    return folder / "explanations-00001-of-00002.tfrecord"


def train_words(dataset: Path, model_dir: Path, **macros: object) -> list[str]:
    """A run of two steps on a tiny T5."""
    given = {
        "MODEL_DIR": str(model_dir),
        "DATASET_DIR": str(dataset),
        "VOCABULARY_PATH": str(SAMPLE / "spiece.model"),
        "MIXTURE_OR_TASK_NAME": "exaranker_sample_label",
        "TASK_FEATURE_LENGTHS": LENGTHS,
        "INITIAL_CHECKPOINT_PATH": None,
        "USE_CACHED_TASKS": False,
        "TRAIN_STEPS": 2,
        "BATCH_SIZE": 4,
        **macros,
    }
    files = ["--gin_file", "models/t5_1_1/tiny.gin", "--gin_file", "runs/finetune.gin"]
    return ["train", *files, *(f"--gin.{name}={value!r}" for name, value in given.items())]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("pairs.tsv", None, "no such file (check the path)"),
        ("pairs.tsv", b"", "the file is empty"),
        (
            "pairs.tsv",
            b"1\tq\tp\n0\tq and p\n",
            ":2: expected 3 tab-separated columns (label, query, passage), got 2: '0\\tq and p' "
            "(tabs within a text must be made blanks)",
        ),
        (
            "pairs.tsv",
            b"1\tq\tp\nyes\tq\tp\n",
            ":2: label 'yes' is not an integer (the label is the grade as judged, such as 0 or 1)",
        ),
        (
            "pairs.tsv",
            b"1\tq\tp\n1\tcaf\xe9\tp\n",
            ":2: invalid UTF-8 at byte 5 of the line: 0xe9 (convert the file with: iconv -f latin1 -t utf-8)",
        ),
        (
            "pairs.jsonl",
            b'{"query": "q", "passage": "p", "label": 1.5}\n',
            ":1: label 1.5 is not an integer (the label is the grade as judged, such as 0 or 1)",
        ),
    ],
)
def test_pairs(tmp_path: Path, refused: Refused, name: str, content: bytes | None, reason: str) -> None:
    path, output = tmp_path / name, tmp_path / "explanations"
    if content is not None:
        path.write_bytes(content)
    where = reason if reason.startswith(":") else f": {reason}"
    assert refused(["explain", f"--pairs={path}", f"--output_dir={output}", "--engine=none"]) == f"{path}{where}"
    assert not output.exists()


@pytest.mark.parametrize("verb", ["inspect", "train"])
def test_a_truncated_tfrecord(damaged: Path, tmp_path: Path, refused: Refused, verb: str) -> None:
    size = last_shard(damaged).stat().st_size
    words = ["inspect", str(damaged)] if verb == "inspect" else train_words(damaged, tmp_path / "model")
    assert refused(words) == (
        f"{last_shard(damaged)}: {size} bytes, the manifest says {size + 20} "
        "(run the same `exaranker explain` command again to complete or repair it)"
    )
    assert not list(tmp_path.glob("model/checkpoint_*"))


@pytest.mark.parametrize("verb", ["inspect", "train"])
def test_a_truncated_tfrecord_that_its_manifest_agrees_with(
    damaged: Path, tmp_path: Path, refused: Refused, verb: str
) -> None:
    shard, manifest = last_shard(damaged), schema.read_manifest(damaged)
    manifest["shards"][1] |= {"bytes": shard.stat().st_size, "sha256": sha256_file(shard)}
    write_json(damaged / schema.MANIFEST, manifest)
    words = ["inspect", str(damaged)] if verb == "inspect" else train_words(damaged, tmp_path / "model")
    assert refused(words).startswith(f"{shard}: record 31 is cut off (run the same `exaranker explain` command again")


@pytest.mark.parametrize("verb", ["inspect", "train"])
def test_a_manifest_that_does_not_match_its_shards(damaged: Path, tmp_path: Path, refused: Refused, verb: str) -> None:
    shard = last_shard(damaged)
    shard.write_bytes(shard.read_bytes() + b"\0" * 20)
    words = ["inspect", str(damaged)] if verb == "inspect" else train_words(damaged, tmp_path / "model")
    reason = (
        rf"{re.escape(str(shard))}: sha256 \w{{12}}…, the manifest says \w{{12}}… \(run the same `exaranker explain"
    )
    assert re.match(reason, refused(words))


@pytest.mark.parametrize("verb", ["train", "rerank", "infer", "export"])
def test_a_directory_without_a_complete_checkpoint(dataset: Path, tmp_path: Path, refused: Refused, verb: str) -> None:
    (tmp_path / "model" / "checkpoint_5" / "params").mkdir(parents=True)
    (tmp_path / "run.trec").write_text("q01 Q0 p001 1 1.0 t\n")
    model = str(tmp_path / "model")
    texts = [f"--{name}={SAMPLE / name}.tsv" for name in ("queries", "passages")]
    infer = {"CHECKPOINT_PATH": model, "DATASET_DIR": str(dataset), "INFER_OUTPUT_DIR": str(tmp_path / "infer")}
    infer |= {"MIXTURE_OR_TASK_NAME": "exaranker_sample_label"}
    words = {
        "train": train_words(dataset, tmp_path / "new", INITIAL_CHECKPOINT_PATH=model),
        "rerank": [
            "rerank",
            "--checkpoint",
            model,
            *texts,
            f"--run={tmp_path / 'run.trec'}",
            f"--output={tmp_path / 'o'}",
        ],
        "infer": [
            "infer",
            "--gin_file=runs/infer.gin",
            f"--gin.TASK_FEATURE_LENGTHS={LENGTHS!r}",
            *(f"--gin.{name}={value!r}" for name, value in infer.items()),
        ],
        "export": ["export", "--checkpoint", model, "--format", "hf", "--output", str(tmp_path / "exported")],
    }[verb]
    assert refused(words).startswith(f"{model}: no complete checkpoint here, found: checkpoint_5 (expected MODEL_DIR")


def test_a_question_longer_than_the_inputs(dataset: Path, tmp_path: Path, refused: Refused) -> None:
    words = train_words(dataset, tmp_path / "model", TASK_FEATURE_LENGTHS={"inputs": 12, "targets": 4})
    assert re.fullmatch(
        r"the question '.+' alone needs \d\d tokens, the inputs are given 12 "
        r"\(raise TASK_FEATURE_LENGTHS\['inputs'\] or shorten the question\)",
        refused(words),
    )
    assert not list(tmp_path.glob("model/checkpoint_*"))


def test_an_unknown_task(dataset: Path, tmp_path: Path) -> None:
    """In a process of its own: the environment registers datasets when `exaranker.tasks` is first imported."""
    words = train_words(dataset, tmp_path / "model", DATASET_DIR=None, MIXTURE_OR_TASK_NAME="exaranker_sampel_label")
    given = {"EXARANKER_DATASETS": f"sample={dataset}", "EXARANKER_VOCABULARY": str(SAMPLE / "spiece.model")}
    command = [sys.executable, "-m", "exaranker.cli", *words]
    done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "exaranker train: error: unknown task or mixture 'exaranker_sampel_label' "
        "(did you mean exaranker_sample_label or exaranker_sample_monot5?)"
    )


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (
            "q01 Q0 p001 1 2.0 t\nq99 Q0 p001 1 1.0 t\n",
            ":2: query id 'q99' is not in {queries} (1 such ids) (give the queries that this run was made from)",
        ),
        (
            "q01 Q0 p001 1 2.0 t\nq01 Q0 p999 2 1.0 t\n",
            ":2: passage id 'p999' is not in {passages} (1 such ids) (give the passages that this run was made from)",
        ),
        ("q01 Q0 p001 1 t\n", ":1: expected 6 columns (query Q0 doc rank score tag), got 5: 'q01 Q0 p001 1 t'"),
    ],
)
def test_ids_of_a_run(tmp_path: Path, refused: Refused, run: str, reason: str) -> None:
    (tmp_path / "run.trec").write_text(run)
    texts = {name: SAMPLE / f"{name}.tsv" for name in ("queries", "passages")}
    words = ["rerank", f"--checkpoint={tmp_path}", *(f"--{name}={path}" for name, path in texts.items())]
    told = refused([*words, f"--run={tmp_path / 'run.trec'}", f"--output={tmp_path / 'out.trec'}"])
    assert told == f"{tmp_path / 'run.trec'}{reason.format(**texts)}"
    assert not (tmp_path / "out.trec").exists()


def test_queries_and_passages_that_were_swapped(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "run.trec").write_text("q01 Q0 p001 1 2.0 t\n")
    words = [
        "rerank",
        f"--checkpoint={tmp_path}",
        f"--queries={SAMPLE}/passages.tsv",
        f"--passages={SAMPLE}/queries.tsv",
    ]
    assert refused([*words, f"--run={tmp_path / 'run.trec'}", f"--output={tmp_path / 'out.trec'}"]) == (
        f"{tmp_path / 'run.trec'}: its query ids are in {SAMPLE}/queries.tsv, its passage ids in the file of queries "
        "(--queries and --passages are swapped)"
    )


def test_what_is_neither_a_file_nor_a_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.chdir(tmp_path)
    problem = "no file, no folder and no ir_datasets id is called"
    words = ["retrieve", "--passages=none", "--output=out", "--queries"]
    assert refused([*words, "none"]) == f"{problem} 'none' (check the path)"
    assert refused([*words, "beir/scifcat"]).startswith(f"{problem} 'beir/scifcat' (did you mean beir/scifact")


@pytest.mark.parametrize(
    "words",
    [
        ["rerank", "--checkpoint=none", "--queries=none", "--passages=none", "--run=none", "--output=out"],
        ["evaluate", "--qrels=none", "--run", "none"],
        ["report", "none", "--output=out"],
    ],
)
@pytest.mark.parametrize(("content", "reason"), [(None, "no such file (check the path)"), ("", "the file is empty")])
def test_missing_and_empty_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Refused,
    words: list[str],
    content: str | None,
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("none").write_text(content)
    assert refused(words) == f"none: {reason}"
    assert not Path("out").exists()


def test_a_dataset_that_is_unfinished(dataset: Path, tmp_path: Path, refused: Refused) -> None:
    manifest = json.loads((dataset / schema.MANIFEST).read_text())
    write_json(tmp_path / schema.MANIFEST, manifest | {"complete": False, "shards": manifest["shards"][:1]})
    assert refused(train_words(tmp_path, tmp_path / "model")) == (
        f"{tmp_path / schema.MANIFEST}: the dataset is unfinished: 1 of 2 shards "
        "(run the same `exaranker explain` command again to complete or repair it)"
    )


@pytest.mark.parametrize(
    ("binding", "reason"),
    [
        ("BATCHSIZE=8", "--gin.BATCHSIZE: nothing reads a macro of this name (did you mean BATCH_SIZE?)"),
        ("BATCH_SIZE=[8", "--gin.BATCH_SIZE=[8: ends within a value (close its brackets)"),
        (
            "BATCH_SIZE",
            "--gin.BATCH_SIZE: cannot be read: 'BATCH_SIZE' (a statement is NAME = VALUE",
        ),
        (
            "train.TrainConfig.lr=1",
            "--gin.train.TrainConfig.lr=1: train.TrainConfig has no parameter lr (did you mean lora?)",
        ),
    ],
)
def test_gin_bindings(dataset: Path, tmp_path: Path, refused: Refused, binding: str, reason: str) -> None:
    assert refused([*train_words(dataset, tmp_path / "model"), f"--gin.{binding}"]).startswith(reason)


def test_a_macro_of_ones_own_may_be_bound_where_it_is_read(dataset: Path, tmp_path: Path) -> None:
    words = train_words(dataset, tmp_path / "model", TRAIN_STEPS=2)
    main([*words, "--gin.MY_SIZE=8", "--gin.BATCH_SIZE=%MY_SIZE", "--dry_run"])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["report", "r.json", "--output=page.pdf"], "--output page.pdf: expected a name that ends in .html or .htm"),
        (["report", "r.json", "--output=page.html", "--usd_per_hour=-3"], "--usd_per_hour -3, expected at least 0"),
        (["inspect", "folder", "--html=page.json"], "--html page.json: expected a name that ends in .html or .htm"),
        (["inspect", "folder", "--examples=-1"], "--examples -1, expected at least 0"),
        (
            ["evaluate", "--qrels=q", "--run", "r", "--output=results.csv"],
            "--output results.csv: expected a name that ends in .json",
        ),
        (
            ["evaluate", "--qrels=q", "--run", "r", "--per_query=values.tsv.gz"],
            "--per_query values.tsv.gz: expected a name that ends in .csv",
        ),
        (
            ["faithfulness", "--explanations=e", "--output=f.png"],
            "--output f.png: expected a name that ends in .json",
        ),
        (["why", "--query= ", "--passage=text"], "--query is empty (give the text)"),
        (["why", "--query=q", "--passage="], "--passage is empty (give the text)"),
        (["why", "--query=q", "--passage=nowhere/p"], "nowhere/p: no such file (check the path)"),
        (["why", "--query=q", "--passage=passage.txt"], "passage.txt: no such file (check the path)"),
        (["check-results", "--data=nowhere"], "nowhere: --data: no such folder (check the path)"),
        (
            ["serve", "--host=192.0.2.1", "--port=0"],
            "cannot listen at 192.0.2.1 port 0: Cannot assign requested address "
            "(--host is a name or address of this machine)",
        ),
    ],
)
def test_values_of_options(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(words) == reason
    assert list(tmp_path.iterdir()) == []
