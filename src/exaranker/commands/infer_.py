"""`exaranker infer`: a SeqIO task through a checkpoint, configured by gin as T5X's infer.py."""

import argparse

from exaranker.gin_config import add_cache_dirs, add_gin_arguments, add_t5x_arguments, configure
from exaranker.logs import show

SUMMARY = """Runs a SeqIO task or mixture through a checkpoint: predictions, or scores of its targets, as JSON lines.
A killed run continues when the same command is given again, and ends with the same bytes."""
EXAMPLE = """exaranker infer --gin_file gin/runs/infer.gin --gin.MIXTURE_OR_TASK_NAME="'exaranker_sample_label'" \\
    --gin.TASK_FEATURE_LENGTHS="{'inputs': 512, 'targets': 16}" --gin.DATASET_DIR="'out/explanations'" \\
    --gin.CHECKPOINT_PATH="'out/model'" --gin.INFER_OUTPUT_DIR="'out/infer'" --gin.INFER_MODE="'score'" """


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_gin_arguments(parser, required=True)
    add_t5x_arguments(parser)
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="make the checks that need no accelerator, print the resolved config, and exit",
    )


def run(args: argparse.Namespace) -> None:
    from exaranker.infer import InferConfig
    from exaranker.infer.run import check_inference, infer

    config, gin_text = configure(InferConfig, args)
    add_cache_dirs(args.seqio_additional_cache_dirs)
    if args.dry_run:
        check_inference(config)
        show(gin_text)
        return
    for done in infer(config):
        show(done.path)
