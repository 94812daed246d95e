"""`exaranker train`: fine-tune a reranker, configured by gin."""

import argparse

from exaranker.devices.malloc import keep_freed_memory
from exaranker.gin_config import add_cache_dirs, add_gin_arguments, add_t5x_arguments, configure
from exaranker.logs import show

SUMMARY = "Fine-tunes a reranker on a SeqIO task or mixture; run again, it continues from the newest checkpoint."
EXAMPLE = """exaranker train --gin_file t5x_configs/sample_label.gin --gin.MODEL_DIR="'out/model'" \\
    --gin.DATASET_DIR="'out/explanations'" --gin.VOCABULARY_PATH="'examples/sample/spiece.model'" """


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_gin_arguments(parser, required=True)
    add_t5x_arguments(parser)
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="make all checks, print the resolved config, sizes and the memory estimate, and exit",
    )
    add_process_arguments(parser)


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """T5X's flags for a job of several processes."""
    group = parser.add_argument_group(
        "several processes", "On TPU pods and under SLURM --process_count is enough: jax finds out the rest."
    )
    group.add_argument("--coordinator_address", metavar="HOST:PORT", help="where process 0 listens")
    group.add_argument("--process_count", type=int, metavar="N")
    group.add_argument("--process_index", type=int, metavar="I")
    group.add_argument(
        "--initialization_timeout", type=int, default=300, metavar="SECONDS", help="to find each other (%(default)s)"
    )
    group.add_argument("--multiprocess_gpu", action="store_true", help=argparse.SUPPRESS)  # T5X's: the others say it
    group.add_argument(
        "--heartbeat_timeout",
        type=int,
        default=100,
        metavar="SECONDS",
        help="the job ends when a process was silent for so long; run again, it continues (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> None:
    from exaranker.devices.mesh import connect
    from exaranker.train import TrainConfig

    config, gin_text = configure(TrainConfig, args)
    if config.data.pack:
        keep_freed_memory()
    add_cache_dirs(args.seqio_additional_cache_dirs)
    connect(
        args.coordinator_address,
        args.process_count,
        args.process_index,
        args.heartbeat_timeout,
        args.initialization_timeout,
    )
    from exaranker.train.run import train

    if args.dry_run:
        from exaranker.train.dry_run import check_run, describe

        check_run(config)
        show(f"{gin_text}\n{describe(config)}")
        return
    train(config, gin_text)
