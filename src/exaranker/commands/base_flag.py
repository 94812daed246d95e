"""The flag that says where the model of an adapter is."""

import argparse
from pathlib import Path


def add_base(parser: "argparse._ActionsContainer") -> None:
    """Adds `--base` to a verb that loads a checkpoint."""
    parser.add_argument(
        "--base",
        type=Path,
        metavar="DIR|ID",
        help="of an adapter: the model it was trained on, ours or Hugging Face's, if that has moved",
    )
