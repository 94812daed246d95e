import importlib
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


def test_help_imports_nothing_heavy():
    loaded = f"import sys, {', '.join(f'exaranker.commands.{verb}_' for verb in cli.VERBS)}"
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


@pytest.mark.parametrize("package", ["tasks", "preprocess"])
def test_bare_imports_are_refused(package, monkeypatch):
    from exaranker.resources import shipped

    monkeypatch.syspath_prepend(str(shipped("")))
    monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(ImportError, match=f"import exaranker.{package}, not {package}"):
        importlib.import_module(package)
