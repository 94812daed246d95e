"""Runs the commands that the pages of docs/ show, and compares what they print with what the pages say.

    python scripts/run_docs.py docs/getting_started.md [--write]

A block of a page is run if the line before it is `<!-- run -->`; the next block is its output if the line before that
is `<!-- prints -->`. All blocks of a page run in one new folder that has the sample's files, one after the other, and
with a cache of their own. A server that a block starts in the background writes its process id into a file `*.pid`, and
is ended with the page. In the output, `...` stands for what differs from call to call, and a number after `about` was
measured. `--write` puts into the page what was printed.
"""

import argparse
import difflib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"<!-- run(?P<quick>: quick)? -->\n```(?P<language>\w+)\n(?P<code>.*?)```\n"
    r"(?:(?:(?!<!-- )[^\n]*\n)*?<!-- prints -->\n```text\n(?P<output>.*?)```\n)?",
    re.DOTALL,
)
# An answer's id, seconds, and the digits that no two processors agree on.
VOLATILE = re.compile(r"(?<=rerank-)[0-9a-f]{32}|(?<=\bin )[\d.,]+(?= s\b)|(?<=\d\.\d{3})\d{6,}")
MEASURED = re.compile(r"(?<=\babout )[\d.,]+")
Run = Callable[[str, str, Path], str]


class Block(NamedTuple):
    """A piece of code in a page, in bash or python, and what it prints, or None where the page does not say."""

    language: str
    code: str
    output: str | None
    quick: bool  # is also run by the tests
    span: tuple[int, int]  # of the output in the page


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page that are to be run, in order."""
    for match in BLOCK.finditer(page):
        yield Block(match["language"], match["code"], match["output"], bool(match["quick"]), match.span("output"))


def prepare(folder: Path) -> None:
    """Gives a folder the files of the sample collection."""
    for file in (ROOT / "examples/sample").iterdir():
        shutil.copyfile(file, folder / file.name)


def run(language: str, code: str, folder: Path) -> str:
    """Runs code in a folder with the tools of this environment; returns what it printed.

    Raises:
        CalledProcessError: it failed.
    """
    tools = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment = os.environ | tools | {"EXARANKER_CACHE": str(folder / ".cache")}
    words = ["bash", "-euo", "pipefail", "-c", code] if language == "bash" else [sys.executable, "-c", code]
    return subprocess.run(words, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def end_servers(folder: Path) -> None:
    """Ends what a page left running, if it stopped before it did so itself."""
    for file in folder.glob("*.pid"):
        with suppress(ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGTERM)


def steady(printed: str) -> str:
    r"""What was printed, with `...` for what differs from call to call.

    >>> steady('32 passages in 0.4 s\n{"id": "rerank-' + "0f" * 16 + '", "score": 0.6612345678}')
    '32 passages in ... s\n{"id": "rerank-...", "score": 0.661...}\n'
    """
    return VOLATILE.sub("...", printed.rstrip("\n") + "\n")


def matches(expected: str, printed: str) -> bool:
    """Whether a text was printed as expected; `...` stands for anything, several lines as well.

    >>> matches("loss ...", "loss 0.25"), matches("loss 0.2", "loss 0.25")
    (True, False)
    """
    pattern = re.escape(expected.strip()).replace(r"\.\.\.", r"[\s\S]*?")
    return re.fullmatch(pattern, printed.strip()) is not None


def any_measure(block: Block) -> str:
    """The output that a page expects, whatever was measured."""
    return MEASURED.sub("...", block.output or "")


def difference(block: Block, printed: str) -> str:
    """What was printed beside what the page says, as a diff."""
    lines = (block.output or "").splitlines(), printed.splitlines()
    return "\n".join(difflib.unified_diff(*lines, "the page", "printed", lineterm=""))


def run_page(page: Path, write: bool, run: Run = run) -> list[str]:
    """Runs a page; returns the differences, which `write` puts into the page instead, as it does what was measured."""
    text, found = page.read_text(), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        changes: list[tuple[tuple[int, int], str]] = []
        try:
            for block in blocks(text):
                printed = steady(run(block.language, block.code, folder))
                if block.output is not None and not matches(block.output if write else any_measure(block), printed):
                    found.append(difference(block, printed))
                    changes.append((block.span, printed))
        finally:
            end_servers(folder)
    for (start, end), printed in reversed(changes) if write else ():
        text = text[:start] + printed + text[end:]
    if write:
        page.write_text(text)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", type=Path, nargs="+")
    parser.add_argument("--write", action="store_true", help="put what was printed into the pages")
    args = parser.parse_args()
    found = {page: run_page(page, args.write) for page in args.pages}
    for page, differences in found.items():
        print(f"{page}: {len(differences)} outputs differ", *differences, sep="\n")
    sys.exit(any(found.values()) and not args.write)


if __name__ == "__main__":
    main()
