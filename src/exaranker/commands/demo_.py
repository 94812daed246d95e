"""`exaranker demo`."""

import argparse
from pathlib import Path

SUMMARY = "Runs the whole pipeline on the embedded sample, LLM and models; finished stages are re-used."
EXAMPLE = "exaranker demo --output_dir out/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output_dir", type=Path, default=Path("out/demo"), help="default: %(default)s")
    parser.add_argument("--pairs", type=int, default=240, help="training pairs to explain (default: %(default)s)")
    parser.add_argument("--train_steps", type=int, default=80, help="of each reranker (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    from exaranker.demo import run_demo

    run_demo(args.output_dir, args.pairs, args.train_steps)
