"""`exaranker export-explanations`."""

import argparse
from pathlib import Path

from exaranker.logs import show, warn

SUMMARY = """Writes the rows of an explanation dataset to one file, with a Hugging Face dataset card beside it.

The suffix is the format: *.jsonl, *.parquet, or *.tsv, the form of ExaRanker's released files (label, input, output);
also *.jsonl.gz and *.tsv.gz. `explain --engine given` reads JSON Lines and the TSV back."""
EXAMPLE = "exaranker export-explanations out/explanations --output out/published/explanations.jsonl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="a folder written by `exaranker explain`")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the file; its card is README.md in the same folder"
    )


def run(args: argparse.Namespace) -> None:
    from exaranker.preprocess.dataset.export import export_explanations

    exported = export_explanations(args.directory, args.output)
    if exported.ambiguous and ".tsv" in args.output.suffixes:
        warn(f"{exported.ambiguous} rows have the template's own words in them: no reader can take them apart again")
    show(f"wrote {exported.rows} rows ({exported.relevant} relevant) to {args.output}, and README.md beside it")
