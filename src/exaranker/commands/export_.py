"""`exaranker export`."""

import argparse
from pathlib import Path

from exaranker.commands.base_flag import add_base
from exaranker.logs import show

SUMMARY = """Writes one of our checkpoints for transformers (Auto classes load it), for T5X (its restore accepts it) or,
if it is an adapter, for PEFT."""
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


def run(args: argparse.Namespace) -> None:
    from exaranker.checkpoints.convert.transfer import export_checkpoint

    show(f"wrote {export_checkpoint(args.checkpoint, args.format, args.output, args.base)}")
