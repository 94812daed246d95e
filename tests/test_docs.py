"""The pages of docs/: their quick commands print what the pages say, and what they link to or name exists."""

import contextlib
import importlib.util
import io
import os
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from exaranker.cli import main

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("**/*.md"))


@pytest.fixture(scope="module")
def run_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_docs", ROOT / "scripts/run_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def printed_by(code: str) -> str:
    """What `exaranker` commands print, one a line, run in this process and folder."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for line in code.replace("\\\n", " ").strip().splitlines():
            program, *words = shlex.split(line)
            assert program == "exaranker", "quick blocks have commands of this package only"
            main(words)
    return printed.getvalue()


def test_quick_commands_print_what_the_pages_say(
    run_docs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    run_docs.prepare(Path.cwd())
    quick = [block for page in PAGES for block in run_docs.blocks(page.read_text()) if block.quick]
    assert quick
    for block in quick:
        printed = printed_by(block.code)
        assert run_docs.matches(block.output, printed), run_docs.difference(block, printed)


def test_a_page_is_run_and_mended(run_docs: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    code = "<!-- run -->\n```bash\nwc -l < queries.tsv\necho one two\n```\n\n<!-- prints -->\n```text\n{}```\n"
    page.write_text(code.format("63\none ...\n"))
    assert run_docs.run_page(page, write=False) == []
    page.write_text(code.format("64\none two\n"))
    assert [difference.splitlines()[-2:] for difference in run_docs.run_page(page, write=True)] == [["+63", " one two"]]
    assert page.read_text() == code.format("63\none two\n")


def test_every_output_of_a_page_is_of_a_block(run_docs: ModuleType) -> None:
    for page in PAGES:
        text = page.read_text()
        found = list(run_docs.blocks(text))
        assert len(found) == len(re.findall(r"^<!-- run", text, re.MULTILINE)), page
        assert sum(block.output is not None for block in found) == text.count("<!-- prints -->"), page


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=os.path.basename)
def test_relative_links_and_named_files_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    files = re.findall(
        r"`((?:docs|scripts|tests|benchmarks|src|preprocess|tasks|gin|t5x_configs)/[a-z0-9_/.]+\.\w+)", text
    )
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_the_macros_of_a_run_are_explained() -> None:
    explained = (ROOT / "docs/glossary.md").read_text()
    for name in ("finetune", "infer", "eval"):
        macros = re.findall(r"^([A-Z_]+) = ", (ROOT / f"gin/runs/{name}.gin").read_text(), re.MULTILINE)
        assert [macro for macro in macros if f"`{macro}`" not in explained] == [], name
