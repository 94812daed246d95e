"""`exaranker import`."""

import argparse
from pathlib import Path

from exaranker.errors import InputError
from exaranker.logs import show

SUMMARY = """Turns a Hugging Face directory, a T5X checkpoint or an adapter of PEFT's into one of our checkpoints, ready
to train or rerank with."""
EXAMPLE = "exaranker import --checkpoint smollm2 --format hf --output out/smollm2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="DIR|ID",
        help="Hugging Face directory (config.json, safetensors, tokenizer) or hub id, the embedded smollm2, "
        "T5X's checkpoint_N, or PEFT's directory of an adapter",
    )
    parser.add_argument("--format", choices=("hf", "t5x", "peft"), required=True)
    parser.add_argument(
        "--base",
        type=Path,
        metavar="DIR|ID",
        help="for peft: the model that the adapter was trained on, MODEL_DIR or Hugging Face's directory or hub id",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="MODEL_DIR to write")
    parser.add_argument(
        "--tokenizer", metavar="FILE", help="spiece.model, tokenizer.json or byt5, if DIR does not hold it"
    )
    parser.add_argument(
        "--template",
        metavar="NAME|FILE",
        help="the words around a pair: a name, or a *.yaml of your own (default: exaranker; decoder for decoder-only)",
    )


def run(args: argparse.Namespace) -> None:
    from exaranker.checkpoints.convert.public import usable_base
    from exaranker.checkpoints.convert.transfer import import_adapter, import_checkpoint
    from exaranker.preprocess.engines.llms import resolve_llm

    source = Path(args.checkpoint)
    if (args.format == "peft") != (args.base is not None):
        raise InputError(
            "--base goes with --format peft, and that needs it",
            hint="the base is a checkpoint, or a model of Hugging Face's",
        )
    if args.format == "peft":
        if args.tokenizer is not None:
            raise InputError("--tokenizer goes with --format hf or t5x", hint="an adapter has that of its base")
        base = usable_base(args.base)
        show(f"wrote {import_adapter(source, base, args.output, args.template)}")
        return
    if args.format == "hf" and not source.is_dir():
        source = resolve_llm(args.checkpoint).path
    path = import_checkpoint(source, args.format, args.output, args.tokenizer, args.template)
    show(f"wrote {path}")
