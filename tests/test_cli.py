import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exaranker import cli
from exaranker.files.shipped import shipped

SAMPLE = shipped("examples/sample")
HEAVY = ("jax", "tensorflow", "vllm", "torch", "pyserini", "seqio", "ray")


def exaranker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "exaranker.cli", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, "--help"])
    assert stop.value.code == 0
    assert f"exaranker {verb} " in capsys.readouterr().out.partition("example:")[2]


@pytest.mark.parametrize(
    "modules", [["exaranker"], [f"exaranker.commands.{verb.replace('-', '_')}_" for verb in cli.VERBS]]
)
def test_package_and_help_import_nothing_heavy(modules):
    loaded = f"import sys, {', '.join(modules)}"
    check = f"{loaded}; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True).stdout == "[]\n"


def test_unknown_verb_offers_the_nearest():
    result = exaranker("rerankk")
    assert result.returncode == 2
    assert result.stderr == "exaranker: error: no verb 'rerankk' (did you mean rerank?)\n"


def test_unknown_flag_is_refused():
    result = exaranker("demo", "--outptu_dir", "x")
    assert result.returncode == 2
    assert "unrecognized arguments: --outptu_dir x" in result.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--max_length", "\u0663"], "argument --max_length: expected an integer, got '\u0663'"),
        (["--max_length", "1_0"], "argument --max_length: expected an integer, got '1_0'"),
        (["--timeout", "nan"], "argument --timeout: expected a number, got 'nan'"),
        (["--checkpoint", ""], "argument --checkpoint: expected a path, got ''"),
        (["--token_budget", "99999999999"], "--token_budget 99999999999, expected at most 16777216"),
    ],
)
def test_numbers_and_paths_of_options_are_those_of_files(words, reason, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["serve", "--port", "0", *words])
    assert stop.value.code == 2
    assert reason in capsys.readouterr().err


def test_gin_words_are_for_gin_driven_verbs_only():
    result = exaranker("demo", "--gin.BATCH_SIZE=8")
    assert result.returncode == 2
    assert "unrecognized arguments: --gin.BATCH_SIZE=8" in result.stderr


def test_no_verb_shows_the_overview():
    result = exaranker()
    assert result.returncode == 2
    assert all(verb in result.stdout for verb in cli.VERBS)


@pytest.mark.parametrize(
    ("words", "unbuffered"),
    [(["--help"], ""), (["--help"], "1"), (["rerank", "--help"], ""), (["retrieve"], ""), (["retrieve"], "1")],
)
def test_a_reader_that_has_gone_is_no_traceback(words, unbuffered, tmp_path):
    """`exaranker ... | head -0`, with the pipe closed before anything is printed."""
    if words == ["retrieve"]:
        (tmp_path / "texts.tsv").write_text("a\tsome words\n")
        texts = [f"--{name}={tmp_path / 'texts.tsv'}" for name in ("queries", "passages")]
        words = [*words, *texts, f"--output={tmp_path / 'run.trec'}", "--quiet"]
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "exaranker.cli", *words]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(writer)
    assert (result.returncode, result.stderr) == (141, "")


@pytest.mark.parametrize("package", ["tasks", "preprocess"])
def test_bare_imports_are_refused(package, monkeypatch):
    from exaranker.files.shipped import shipped

    monkeypatch.syspath_prepend(str(shipped("")))
    monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(ImportError, match=f"import exaranker.{package}, not {package}"):
        importlib.import_module(package)


def run_main(capsys: pytest.CaptureFixture[str], words: list[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    return int(str(stopped.value.code)), capsys.readouterr().err


def test_a_mistyped_option_gets_the_nearest(capsys):
    words = ["rerank", "--checkpoint=c", "--queries=q", "--passages=p", "--run=r", "--output=o", "--explain-top-k", "3"]
    code, told = run_main(capsys, words)
    reason = "unrecognized arguments: --explain-top-k 3 (did you mean --explain_top_k?)"
    assert (code, told) == (2, f"exaranker rerank: error: {reason}\n")


def test_what_nobody_foresaw_is_one_line_and_a_traceback_in_a_file(capsys, monkeypatch):
    def fail(args: object) -> None:
        raise KeyError("no such\nkey")

    monkeypatch.setattr("exaranker.commands.report_.run", fail)
    code, told = run_main(capsys, ["report", "results.json", "--output=page.html"])
    path = told.partition("with the traceback in ")[2].removesuffix(")\n")
    assert code == 1
    assert told == (
        f"exaranker report: error: KeyError: 'no such\\nkey' "
        f"(unexpected; please report it with the traceback in {path})\n"
    )
    assert "in fail\n" in Path(path).read_text()
    Path(path).unlink()


def test_an_error_of_the_system_that_nobody_caught_is_one_line(capsys, monkeypatch):
    def fail(args: object) -> None:
        Path("/nowhere/at/all").write_text("")

    monkeypatch.setattr("exaranker.commands.report_.run", fail)
    code, told = run_main(capsys, ["report", "results.json", "--output=page.html"])
    assert (code, told) == (
        2,
        "exaranker report: error: /nowhere/at/all: No such file or directory (check the path)\n",
    )


def test_control_characters_of_a_file_do_not_reach_the_terminal(capsys, tmp_path):
    (tmp_path / "qrels").write_text("q\x1b]0;title\x07\u202e 0 d 1 5\nq 0 d 1\n")
    code, told = run_main(capsys, ["evaluate", f"--qrels={tmp_path / 'qrels'}", "--run", "none\x1b[2J"])
    assert code == 2
    assert not {"\x1b", "\x07", "\u202e"} & set(told)
    assert told.count("\n") == 1


def test_home_is_expanded_in_every_option(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    _, told = run_main(capsys, ["evaluate", "--qrels=~/qrels.txt", "--run", "~/run.trec"])
    assert told == f"exaranker evaluate: error: {tmp_path}/qrels.txt: no such file (check the path)\n"


def test_json_lines(capsys, tmp_path):
    code, told = run_main(capsys, ["evaluate", f"--qrels={tmp_path / 'x'}", "--run", "none", "--log_format", "json"])
    record = json.loads(told)
    assert code == 2
    assert (record["level"], record["verb"]) == ("error", "evaluate")
    assert record["message"] == f"{tmp_path / 'x'}: no such file (check the path)"
    code, told = run_main(capsys, ["evaluate", "--log_format=json"])
    assert json.loads(told)["message"].startswith("the following arguments are required: --run")


def test_modules_of_the_current_folder_are_not_run(tmp_path):
    """A folder may hold a csv.py or jax.py of its own; the demo's stages are processes that start in it."""
    for name in ("csv", "jax", "json", "exaranker"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a module of the current folder was run')\n")
    code = (
        "from pathlib import Path; from exaranker.demo import Stage, run_or_reuse\n"
        "run_or_reuse(Stage('nothing', ['evaluate', '--help'], [], []), Path('out'), '')"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: exaranker evaluate" in done.stdout


@pytest.mark.parametrize(
    ("absent", "verb", "extra"),
    [
        ("numpy", "train", "train"),
        ("jax", "train", "train"),
        ("jax", "import", "rank"),
        ("numpy", "evaluate", "evaluate"),
        ("scipy", "evaluate", "evaluate"),
        ("bm25s", "retrieve", "evaluate"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(absent: str, verb: str, extra: str) -> None:
    hide = f"import sys; sys.modules[{absent!r}] = None; from exaranker.cli import main; main(sys.argv[1:])"
    words = {
        "train": ["--gin_file", "sample_label.gin", "--gin.MODEL_DIR='m'", "--gin.DATASET_DIR='d'"],
        "import": ["--checkpoint", str(SAMPLE), "--format", "hf", "--output", "out"],
        "evaluate": ["--qrels", str(SAMPLE / "qrels.txt"), "--run", "run.trec"],
        "retrieve": ["--queries", "q.tsv", "--passages", "p.tsv", "--output", "run.trec"],
    }[verb]
    done = subprocess.run([sys.executable, "-c", hide, verb, *words], capture_output=True, text=True)
    line = f"exaranker {verb}: error: this needs the package {absent} (pip install 'exaranker[{extra}]')"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, line)
