"""The pages of docs/: their quick commands print what the pages say, and what they link to or name exists."""

import contextlib
import importlib.util
import io
import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path
from types import ModuleType

import pytest

from exaranker.cli import main

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("**/*.md"))
RUN = [ROOT / "README.md", *PAGES]  # whose commands are run, where they say so


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


def test_the_readme_fits_into_120_columns() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert [line for line in lines if len(line) > 120] == []


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


def test_what_differs_from_call_to_call_is_no_difference(run_docs: ModuleType, tmp_path: Path) -> None:
    printed = 'in 0.4 s\n"rerank-' + "0f" * 16 + '"\n0.6612345678 0.662\nready after about 7.5 s\n'
    page = tmp_path / "page.md"
    code = f"<!-- run -->\n```bash\nprintf '{printed}'\n```\n\n<!-- prints -->\n```text\n{{}}```\n"
    page.write_text(code.format(""))
    run_docs.run_page(page, write=True)
    written = code.format('in ... s\n"rerank-..."\n0.661... 0.662\nready after about 7.5 s\n')
    assert page.read_text() == written
    page.write_text(written.replace("about 7.5 s\n```\n", "about 9 s\n```\n"))
    assert run_docs.run_page(page, write=False) == []
    run_docs.run_page(page, write=True)
    assert page.read_text() == written


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_a_page_leaves_running_is_ended(run_docs: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    code = "sleep 600 > /dev/null & echo $! | tee sleep.pid\n"
    page.write_text(f"<!-- run -->\n```bash\n{code}```\n\n<!-- prints -->\n```text\n```\n")
    with subprocess.Popen(["sleep", "600"]) as other:
        run_docs.run_page(page, write=True)
        process = int(page.read_text().rpartition("```text\n")[2].splitlines()[0])
        deadline = time.monotonic() + 10
        while is_running(process):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert other.poll() is None
        other.send_signal(signal.SIGTERM)


def test_every_output_of_a_page_is_of_a_block(run_docs: ModuleType) -> None:
    for page in RUN:
        text = page.read_text()
        found = list(run_docs.blocks(text))
        assert len(found) == len(re.findall(r"^<!-- run", text, re.MULTILINE)), page
        assert sum(block.output is not None for block in found) == text.count("<!-- prints -->"), page


def test_blocks_that_are_run_are_whole(run_docs: ModuleType) -> None:
    """Each can be parsed, has the output that it is said to have, and is on a page that docs/claims.md names."""
    with_blocks = {page: list(run_docs.blocks(page.read_text())) for page in RUN}
    for page, found in with_blocks.items():
        for block in found:
            if block.language == "bash":
                subprocess.run(["bash", "-n", "-c", block.code], check=True)
            else:
                assert block.language == "python", page
                compile(block.code, page.name, "exec")
            assert block.output is None or block.output.strip(), (page, block.code)
    claimed = re.search(r"`python scripts/run_docs\.py ([^`]+)`", (ROOT / "docs/claims.md").read_text())
    assert claimed is not None
    assert [ROOT / name for name in claimed[1].split()] == [page for page, found in with_blocks.items() if found]


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
