"""`exaranker inspect`."""

import argparse
from pathlib import Path

from exaranker.commands.flag_checks import check_ending, check_not_negative
from exaranker.files import claim_outputs, write_text
from exaranker.logs import show

SUMMARY = "Verifies every checksum of an explanation dataset and shows what is in it."
EXAMPLE = "exaranker inspect out/explanations --html out/explanations.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="a folder written by `exaranker explain`")
    parser.add_argument("--examples", type=int, metavar="N", help="explanations shown (default: 3; on the page 100)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with explanations beside passages")
    parser.add_argument(
        "--usd_per_hour", type=float, metavar="USD", help="what the machine costs: adds the cost per 1,000 pairs"
    )


def run(args: argparse.Namespace) -> None:
    check_ending("--html", args.html, ".html", ".htm")
    check_not_negative("--usd_per_hour", args.usd_per_hour)
    check_not_negative("--examples", args.examples)
    with claim_outputs(args.html, inputs=_files_of(args.directory) if args.html else []):
        _inspect(args)


def _inspect(args: argparse.Namespace) -> None:
    from exaranker.preprocess.inspect.inspection import inspect
    from exaranker.preprocess.inspect.report import report

    default = 100 if args.html else 3
    found = inspect(args.directory, default if args.examples is None else args.examples)
    if args.html:
        from exaranker.preprocess.inspect.page import page

        write_text(args.html, page(found, args.usd_per_hour))
        found.examples.clear()
    show(report(found, args.usd_per_hour))
    if args.html:
        show(f"page        {args.html}")


def _files_of(directory: str) -> list[Path]:
    """The dataset's own files; a page of an earlier call beside them may be replaced."""
    return [path for path in Path(directory).glob("*") if path.suffix != ".html"]
