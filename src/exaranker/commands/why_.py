"""`exaranker why`."""

import argparse
import dataclasses
import json
import os
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from exaranker.commands.checkpoint_flags import add_checkpoint, loading
from exaranker.errors import InputError
from exaranker.files import read_lines
from exaranker.logs import show

if TYPE_CHECKING:
    from exaranker.rank.why import Why

SUMMARY = """Says why a passage has its score: label, log-odds, explanation, the explanation under the other label, and
what each sentence adds to the log-odds (by how much they fall without it)."""
EXAMPLE = (
    "exaranker why --checkpoint out/model --query 'how do bees make honey' "
    "--passage 'Worker bees carry nectar home. They fan it dry in the comb. Bears like honey.'"
)
ENDINGS = frozenset({".htm", ".html", ".json", ".jsonl", ".md", ".text", ".tsv", ".txt"})
NAMES = 14  # width of the column of names
BAR = 16  # characters of the longest bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--query", required=True, metavar="TEXT", help="the question")
    parser.add_argument("--passage", required=True, metavar="TEXT|FILE", help="the passage, or a file that has it")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_checkpoint(parser)


def run(args: argparse.Namespace) -> None:
    how = loading(args)
    passage = _passage(args.passage)
    for option, text in (("--query", args.query), ("--passage", passage)):
        if not text.strip():
            raise InputError(f"{option} is empty", hint="give the text")
    from exaranker.rank.reranker import Reranker

    reranker = Reranker.from_checkpoint(args.checkpoint, **how)
    found = reranker.why(args.query, passage)
    show(_as_json(found) if args.json else _as_text(found, len(passage)))


def _passage(given: str) -> str:
    """The text itself, or what the file of this name holds.

    Raises:
        InputError: it is a file's name, without blanks or letters of scripts that need none, of no file.
    """
    if os.path.isfile(given):
        return "\n".join(line for _, line in read_lines(given))
    is_word = len(given.split()) == 1 and given.isascii()
    if is_word and (os.sep in given or Path(given).suffix.lower() in ENDINGS):
        raise InputError("no such file", path=given, hint="check the path")
    return given


def _as_json(found: "Why") -> str:
    return json.dumps({**dataclasses.asdict(found), "probability": found.probability}, ensure_ascii=False)


def _as_text(found: "Why", characters: int) -> str:
    largest = max((abs(sentence.contribution) for sentence in found.sentences), default=0.0)
    lines = [
        f"{'label':{NAMES}}{found.label}",
        f"{'log-odds':{NAMES}}{found.score:+.2f} (probability {found.probability:.3f})",
        _wrapped("explanation", found.explanation or "none: this checkpoint seems to be trained on labels alone"),
        _wrapped(f"were it {found.other_label}", found.other_explanation or "none"),
        "",
        "what each sentence adds to the log-odds",
        *(_wrapped(_bar(one.contribution, largest), one.text) for one in found.sentences),
    ]
    if found.characters_read < characters:
        lines.append(f"the last {characters - found.characters_read} characters are not read: see --max_length")
    return "\n".join(lines)


def _bar(contribution: float, largest: float) -> str:
    """The figure, and a bar as long as it is large, full for relevance and light against it."""
    length = round(BAR * abs(contribution) / largest) if largest else 0
    return f"{contribution:+7.2f} {('█' if contribution > 0 else '░') * length:{BAR}} "


def _wrapped(name: str, text: str) -> str:
    width = shutil.get_terminal_size((100, 24)).columns
    name = f"{name:{NAMES}}"
    return textwrap.fill(" ".join(text.split()), max(width, 40), initial_indent=name, subsequent_indent=" " * len(name))
