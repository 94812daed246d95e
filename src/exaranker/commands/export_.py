"""`exaranker export`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from exaranker.commands.base_flag import add_base
from exaranker.errors import InputError
from exaranker.logs import show

if TYPE_CHECKING:
    from exaranker.checkpoints.convert.model_card import Measured

SUMMARY = """Writes one of our checkpoints for Hugging Face, for T5X (its restore accepts it) or, of adapters, for PEFT.

A Hugging Face directory is loaded and ranks alike by transformers' Auto classes, sentence-transformers' CrossEncoder,
rerankers and, if decoder-only, vLLM; README.md in it is a model card that says how."""
EXAMPLE = "exaranker export --checkpoint out/model --format hf --output out/model-hf"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", type=Path, required=True, metavar="DIR", help="MODEL_DIR, or MODEL_DIR/checkpoint_N"
    )
    parser.add_argument(
        "--format", choices=("hf", "t5x", "peft"), required=True, help="an adapter is merged for all but peft"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory to write")
    add_base(parser)
    parser.add_argument(
        "--dtype", choices=("bfloat16", "float32"), help="round weights to this (default: as the checkpoint has them)"
    )
    parser.add_argument("--results", metavar="FILE", help="results.json of `exaranker evaluate`, for the model card")
    parser.add_argument("--run", metavar="NAME", help="which of its runs is this model's (default: its only one)")


def run(args: argparse.Namespace) -> None:
    from exaranker.checkpoints.convert.public import usable_base
    from exaranker.checkpoints.convert.transfer import export_checkpoint

    for option in ("results", "dtype"):
        if getattr(args, option) and args.format == "t5x":
            raise InputError(f"--{option} goes with --format hf or peft", hint="leave one of them out")
    if args.run and not args.results:
        raise InputError("--run goes with --results", hint="it is one of their runs")
    results = _results(args.results, args.run) if args.results else []
    base = args.base and usable_base(args.base)
    path = export_checkpoint(args.checkpoint, args.format, args.output, base, results, args.dtype)
    show(f"wrote {path}")


def _results(path: str, name: str | None) -> "list[Measured]":
    from exaranker.checkpoints.convert.model_card import Measured
    from exaranker.evaluate.results import read_results

    results = read_results(path)
    names = [run["name"] for run in results["runs"]]
    own = name or (names[0] if len(names) == 1 else None)
    if own not in names:
        problem = f"--run {name!r} is none of its runs" if name else "it has several runs"
        raise InputError(problem, path=path, hint=f"--run is one of {', '.join(names)}")
    collection = Path(results["qrels"]["file"]).name
    return [
        Measured(collection, run["name"], measure, run["means"][measure], run["name"] == own)
        for run in results["runs"]
        for measure in results["measures"]
    ]
