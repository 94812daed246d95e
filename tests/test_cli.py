import importlib
import os
import subprocess
import sys

import pytest

from exaranker import cli

HEAVY = ("jax", "tensorflow", "vllm", "torch", "pyserini", "seqio", "ray")


def exaranker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "exaranker.cli", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, "--help"])
    assert stop.value.code == 0
    assert f"exaranker {verb} " in capsys.readouterr().out.partition("example:")[2]


@pytest.mark.parametrize("modules", [["exaranker"], [f"exaranker.commands.{verb}_" for verb in cli.VERBS]])
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
        words = [*words, *texts, f"--output={tmp_path / 'run.trec'}"]
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "exaranker.cli", *words]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(writer)
    assert (result.returncode, result.stderr) == (141, "")


@pytest.mark.parametrize("package", ["tasks", "preprocess"])
def test_bare_imports_are_refused(package, monkeypatch):
    from exaranker.shipped import shipped

    monkeypatch.syspath_prepend(str(shipped("")))
    monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(ImportError, match=f"import exaranker.{package}, not {package}"):
        importlib.import_module(package)
