"""The example of each verb's --help runs as printed, from the root of the project, in the order of the pipeline."""

import importlib
import shlex
import shutil
from pathlib import Path

import pytest

from exaranker import cli
from exaranker.files.shipped import shipped


def words(verb: str) -> list[str]:
    example = importlib.import_module(f"exaranker.commands.{verb.replace('-', '_')}_").EXAMPLE
    program, *rest = shlex.split(example.replace("\\\n", " "))
    assert program == "exaranker"
    assert rest[0] == verb
    return rest


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("examples", "gin", "t5x_configs"):
        (tmp_path / folder).symlink_to(shipped(folder))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("verb", cli.VERBS)
def test_the_words_of_an_example_are_understood(verb: str) -> None:
    command = importlib.import_module(f"exaranker.commands.{verb.replace('-', '_')}_")
    cli._parse(f"exaranker {verb}", command, words(verb)[1:])


def test_examples_that_need_no_model_run_in_their_order(root: Path) -> None:
    cli.main(words("retrieve"))
    shutil.copy(root / "out" / "bm25.trec", root / "out" / "reranked.trec")  # in place of a reranker's
    cli.main(words("evaluate"))
    cli.main(words("report"))
    cli.main([*words("explain"), "--engine", "none"])
    cli.main(words("inspect"))
    cli.main(words("export-explanations"))
    cli.main([*words("train"), "--dry_run"])
    made = {path.name for path in (root / "out").iterdir()}
    assert {"bm25.trec", "results.json", "report.html", "explanations", "explanations.html", "published"} <= made
