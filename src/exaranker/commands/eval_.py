"""`exaranker eval`: a SeqIO task's metrics for a checkpoint, configured by gin as T5X's eval.py."""

import argparse

from exaranker.gin_config import add_cache_dirs, add_gin_arguments, add_t5x_arguments, configure
from exaranker.logs import show

SUMMARY = """Computes the metrics that a SeqIO task or mixture defines, over the predictions of a checkpoint.
Writes the predictions and task_metrics.json. Measures of runs (nDCG, MAP) are `exaranker evaluate`'s."""
EXAMPLE = """exaranker eval --gin_file gin/runs/eval.gin --gin.MIXTURE_OR_TASK_NAME="'exaranker_sample_label'" \\
    --gin.DATASET_DIR="'out/explanations'" --gin.CHECKPOINT_PATH="'out/model'" --gin.EVAL_OUTPUT_DIR="'out/eval'" """


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_gin_arguments(parser, required=True)
    add_t5x_arguments(parser)
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="make the checks that need no accelerator, print the resolved config, and exit",
    )


def run(args: argparse.Namespace) -> None:
    from exaranker.infer.config import EvaluationConfig
    from exaranker.infer.evaluation import RESULTS, evaluate
    from exaranker.infer.run import check_inference

    config, gin_text = configure(EvaluationConfig, args)
    add_cache_dirs(args.seqio_additional_cache_dirs)
    if args.dry_run:
        check_inference(config.predictions)
        show(gin_text)
        return
    for task, measured in evaluate(config)["tasks"].items():
        figures = "  ".join(f"{name} {value:.4g}" for name, value in measured["metrics"].items())
        show(f"{task}  {measured['rows']} rows  {figures}")
    show(config.directory / RESULTS)
