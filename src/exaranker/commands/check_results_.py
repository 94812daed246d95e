"""exaranker check-results."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from exaranker.errors import InputError, require
from exaranker.logs import show

SUMMARY = """Expected figures, rerun and compared: exits 1 if one is missed.
Each condition of the YAML file has commands, the run that they write, qrels or a collection, a measure, the value that
is expected and its tolerance; {sample}, {output}, {data} and {weights} stand for folders. Conditions whose files are
not here are listed as not run."""
EXAMPLE = "exaranker check-results --data data/collections"
DATA, WEIGHTS = "EXARANKER_DATA", "EXARANKER_WEIGHTS"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `exaranker check-results`."""
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="YAML", help="conditions (default: those that the package ships)"
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        default=os.environ.get(DATA),
        help=f"{{data}}: folder of collections (default: ${DATA})",
    )
    parser.add_argument(
        "--weights",
        metavar="DIR",
        default=os.environ.get(WEIGHTS),
        help=f"{{weights}}: of models (default: ${WEIGHTS})",
    )


def run(args: argparse.Namespace) -> None:
    """Checks every condition and tells each outcome as it comes."""
    for module in ("ir_measures", "scipy", "yaml"):
        require(module, "evaluate")
    from exaranker.evaluate.expected import check, read_conditions

    for option, folder in (("--data", args.data), ("--weights", args.weights)):
        if folder is not None and not Path(folder).is_dir():
            raise InputError(f"{option}: no such folder", path=folder, hint="check the path")
    conditions = read_conditions(args.file)
    outcomes = []
    with tempfile.TemporaryDirectory() as output:
        for outcome in check(conditions, {"data": args.data, "weights": args.weights, "output": output}):
            show(outcome)
            outcomes.append(outcome)
    if all(outcome.value is None for outcome in outcomes):
        raise InputError("no condition could be run here", hint="give --data DIR or --weights DIR")
    missed = sum(not outcome.holds for outcome in outcomes)
    ran = sum(outcome.value is not None for outcome in outcomes)
    show(f"{ran - missed} of {ran} hold, {len(outcomes) - ran} not run")
    if missed:
        sys.exit(1)
