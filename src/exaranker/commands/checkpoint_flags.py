"""Which ranker, and how it is loaded: the same words in every verb that ranks."""

import argparse
from pathlib import Path
from typing import Any

from exaranker.commands.base_flag import add_base
from exaranker.errors import InputError, require

# As `Reranker.from_checkpoint` calls them.
LOADING = ("max_length", "token_budget", "dtype", "base", "template", "engine")
MOST_TOKENS = 2**24  # of a batch: no device holds what a model computes of more


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds --checkpoint and how it is loaded."""
    group = parser.add_argument_group("the ranker")
    group.add_argument(
        "--checkpoint",
        type=Path,
        metavar="DIR|ID",
        help="MODEL_DIR or MODEL_DIR/checkpoint_N; or a Hugging Face directory or hub id, converted once into a cache "
        "(default: the ranker in the box, an adapter of SmolLM2-135M)",
    )
    group.add_argument(
        "--template",
        metavar="NAME|FILE",
        help="the words that a Hugging Face model was trained to read, if it is not known by name",
    )
    add_base(group)
    group.add_argument(
        "--max_length", type=int, metavar="N", help="tokens of an input (default: the model's own, else 512)"
    )
    group.add_argument(
        "--token_budget", type=int, metavar="N", help="tokens per batch and device (default: by the kind of device)"
    )
    group.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "int8"),
        help="of matrix products (default: the checkpoint's, if the CPU has it); int8 is CTranslate2's",
    )
    group.add_argument(
        "--engine",
        choices=("jax", "ctranslate2"),
        help="what scores; ctranslate2: on a CPU, in float32 or int8 (default: jax; ctranslate2 for int8, and "
        "where a CPU without units for bf16 has to compute in float32)",
    )


def loading(args: argparse.Namespace) -> dict[str, Any]:
    """What was given for `Reranker.from_checkpoint`, checked.

    Raises:
        InputError: a number is too small or too large, or a package that ranking needs is not installed.
    """
    for name in ("max_length", "token_budget"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} {value}, expected at least 1")
        if value is not None and value > MOST_TOKENS:
            raise InputError(f"--{name} {value}, expected at most {MOST_TOKENS}")
    for module in ("jax", "flax", "orbax.checkpoint"):
        require(module, "rank")
    return {name: getattr(args, name) for name in LOADING}
