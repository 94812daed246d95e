"""`exaranker demo`."""

import argparse
from pathlib import Path

from exaranker.errors import InputError
from exaranker.files import is_mirror

SUMMARY = """Runs the whole pipeline with the embedded LLM, on the embedded sample or on a folder of your own.
Finished stages are re-used."""
EXAMPLE = "exaranker demo --output_dir out/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output_dir", type=Path, default=Path("out/demo"), help="default: %(default)s")
    parser.add_argument(
        "--sample",
        type=Path,
        metavar="DIR",
        help="queries.tsv, passages.tsv, qrels.txt and pairs.tsv of your own, in the form of examples/sample "
        "(default: that)",
    )
    parser.add_argument("--pairs", type=int, default=240, help="training pairs to explain (default: %(default)s)")
    parser.add_argument("--train_steps", type=int, default=32, help="of each reranker (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    if is_mirror(args.output_dir):
        problem = "the demo's output cannot be in a store: each of its stages is a process of its own"
        raise InputError(problem, path=args.output_dir, hint="name a local folder")
    for name in ("pairs", "train_steps"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} {getattr(args, name)}, expected at least 1")
    from exaranker.demo import run_demo

    run_demo(args.output_dir, args.sample, args.pairs, args.train_steps)
