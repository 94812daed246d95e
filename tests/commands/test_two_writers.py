"""A second writer of an output is refused in one line, whatever the verb; what is there stays to the last byte."""

import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoModelForSeq2SeqLM, T5Config

from exaranker.cli import main
from exaranker.files.shipped import shipped

SAMPLE = shipped("examples/sample")
FIRST = "the first writer's\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, a run, results, a Hugging Face model and the same as ours."""
    folder = tmp_path_factory.mktemp("inputs")
    words = ["--limit", "16", "--engine", "none", "--output_dir", str(folder / "dataset")]
    main(["explain", "--pairs", str(SAMPLE / "pairs.tsv"), *words])
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_heads": 2, "num_layers": 1, "decoder_start_token_id": 0}
    AutoModelForSeq2SeqLM.from_config(T5Config(vocab_size=4096, **shape)).save_pretrained(folder / "hf")
    shutil.copy(SAMPLE / "spiece.model", folder / "hf")
    main(["import", "--checkpoint", str(folder / "hf"), "--format", "hf", "--output", str(folder / "model")])
    (folder / "run.trec").write_text("q01 Q0 p001 1 1.0 t\n")
    return folder


@pytest.fixture
def held() -> Iterator[list[Path]]:
    """Locks, as another process that is writing holds them, until the test ends."""
    locks: list[Path] = []
    streams = []

    class Held(list[Path]):
        def append(self, lock: Path) -> None:
            stream = lock.open("w")
            fcntl.flock(stream, fcntl.LOCK_EX)
            streams.append(stream)
            super().append(lock)

    yield Held(locks)
    for stream in streams:
        stream.close()


def bindings(**macros: object) -> list[str]:
    return [f"--gin.{name}={value!r}" for name, value in macros.items()]


def words_of(verb: str, folder: Path, output: Path) -> list[str]:
    """The command that writes `output`."""
    texts = [f"--{name}={SAMPLE / name}.tsv" for name in ("queries", "passages")]
    checkpoint = ["--checkpoint", str(folder / "model")]
    lengths = {"inputs": 160, "targets": 4}
    task = {"MIXTURE_OR_TASK_NAME": "exaranker_sample_label", "DATASET_DIR": str(folder / "dataset")}
    task |= {"TASK_FEATURE_LENGTHS": lengths, "USE_CACHED_TASKS": False, "BATCH_SIZE": 4}
    train = {"MODEL_DIR": str(output), "VOCABULARY_PATH": str(SAMPLE / "spiece.model"), "TRAIN_STEPS": 1}
    read = {"CHECKPOINT_PATH": str(folder / "model"), "SPLIT": "train"}
    return {
        "explain": [f"--pairs={SAMPLE / 'pairs.tsv'}", "--engine=none", "--limit=16", f"--output_dir={output}"],
        "inspect": [str(folder / "dataset"), f"--html={output}"],
        "export-explanations": [str(folder / "dataset"), f"--output={output}"],
        "train": [
            *("--gin_file", "models/t5_1_1/tiny.gin", "--gin_file", "runs/finetune.gin"),
            *bindings(**task, **train, INITIAL_CHECKPOINT_PATH=None),
        ],
        "infer": ["--gin_file=runs/infer.gin", *bindings(**task, **read, INFER_OUTPUT_DIR=str(output.parent))],
        "retrieve": [*texts, f"--output={output}"],
        "rerank": [*checkpoint, *texts, f"--run={folder / 'run.trec'}", f"--output={output}"],
        "evaluate": [f"--qrels={SAMPLE / 'qrels.txt'}", f"--run={folder / 'run.trec'}", f"--output={output}"],
        "report": [str(folder / "results.json"), f"--output={output}"],
        "import": [f"--checkpoint={folder / 'hf'}", "--format=hf", f"--output={output}"],
        "export": [*checkpoint, "--format=hf", f"--output={output}"],
    }[verb]


OUTPUTS = {
    "inspect": "page.html",
    "export-explanations": "rows.jsonl",
    "infer": "exaranker_sample_label-predict.jsonl-00000-of-00001",
    "retrieve": "run.trec",
    "rerank": "run.trec",
    "evaluate": "results.json",
    "report": "page.html",
}


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    *_, line = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("verb", OUTPUTS)
def test_the_second_writer_of_a_file_is_refused(verb, folder, held, tmp_path, capsys):
    output = tmp_path / OUTPUTS[verb]
    output.write_text(FIRST)
    held.append(output.with_name(f".{output.name}.writer"))
    line = refused([verb, *words_of(verb, folder, output)], capsys)
    assert line.startswith(f"exaranker {verb}: error: {output}: another process is writing here: ")
    assert output.read_text() == FIRST
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([output.name, held[0].name])


@pytest.mark.parametrize("verb", ["explain", "train", "import", "export"])
def test_the_second_writer_of_a_folder_is_refused(verb, folder, held, tmp_path, capsys):
    output, inside = tmp_path / "output", verb in ("explain", "train")
    if inside:
        output.mkdir()
        (output / "notes.txt").write_text(FIRST)
    held.append(output / ".writer" if inside else tmp_path / ".output.writer")
    line = refused([verb, *words_of(verb, folder, output)], capsys)
    assert line.startswith(f"exaranker {verb}: error: {output}: another process is writing here: ")
    expected = {"notes.txt": FIRST, ".writer": ""} if inside else {".output.writer": ""}
    found = output if inside else tmp_path
    assert {path.name: path.read_text() for path in found.iterdir()} == expected
