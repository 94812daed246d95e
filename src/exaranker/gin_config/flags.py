"""T5X's command-line flags: those that mean something here, and what to say instead of the others."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exaranker.errors import InputError


class Instead(argparse.Action):
    """A flag of T5X's that has no meaning here: refused, with what does the same."""

    def __init__(self, *args: Any, instead: str, **kwargs: Any):
        super().__init__(*args, **kwargs | {"help": argparse.SUPPRESS})
        self._instead = instead

    def __call__(self, parser: argparse.ArgumentParser, *args: Any) -> None:
        parser.error(f"{self.option_strings[0]} is T5X's; {self._instead}")


def add_gin_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Adds T5X's gin flags to a verb; `--gin.NAME=VALUE` words are collected by the console script."""
    parser.add_argument(
        "--gin_file", action="append", default=[], required=required, metavar="FILE", help="gin file; may be repeated"
    )
    parser.add_argument(
        "--gin_search_paths",
        default="gin",
        metavar="DIRS",
        help="comma-separated folders that includes are looked up in, before the packaged ones (default: gin)",
    )
    group = parser.add_argument_group(
        "gin bindings", "--gin.NAME=VALUE sets a macro or parameter, for example --gin.BATCH_SIZE=8"
    )
    group.add_argument(
        "--gin_bindings", action="append", default=[], metavar="NAME=VALUE", help="the same, as T5X has it"
    )


def add_t5x_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds T5X's flags of its train, infer and eval: SeqIO's cached tasks; the others are taken or name ours."""
    parser.add_argument(
        "--seqio_additional_cache_dirs",
        action="append",
        default=[],
        metavar="DIRS",
        help="comma-separated folders with tasks that SeqIO cached, beside $EXARANKER_TASK_CACHE",
    )
    for flag in ("--alsologtostderr", "--logtostderr"):  # absl's; progress goes there in any case
        parser.add_argument(flag, action="store_true", help=argparse.SUPPRESS)
    tasks = "tasks read the TFRecords of `exaranker explain`: give --gin.DATASET_DIR=\"'DIR'\""
    parser.add_argument("--tfds_data_dir", action=Instead, instead=tasks)
    parser.add_argument("--run_mode", action=Instead, instead="the verb says it: exaranker train, infer or eval")
    parser.add_argument("--shard_id", action=Instead, instead="give --gin.SHARD_ID=N and --gin.NUM_SHARDS=N")


def add_cache_dirs(words: Sequence[str]) -> None:
    """Has SeqIO look for cached tasks in the comma-separated folders too.

    Raises:
        InputError: there is no such folder.
    """
    folders = [folder for word in words for folder in word.split(",") if folder]
    for folder in folders:
        if "://" not in folder and not Path(folder).is_dir():
            raise InputError("no such folder, in --seqio_additional_cache_dirs", path=folder)
    if folders:
        import seqio

        seqio.add_global_cache_dirs(folders)
