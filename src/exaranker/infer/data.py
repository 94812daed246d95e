"""The rows that `exaranker infer` and `exaranker eval` read: a task's examples, in order, one shard of them."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import seqio
import tensorflow as tf

from exaranker.checkpoints.card import ModelCard
from exaranker.errors import InputError
from exaranker.infer.config import DatasetConfig
from exaranker.models import family_of
from exaranker.tasks import get_task_or_mixture, import_tasks, register_dataset_of, template_of, tokenizer_of
from exaranker.tasks.reading import input_error, untuned

Row = Mapping[str, Any]  # numpy: `inputs` and `targets` (token ids), query_id, doc_id, *_pretokenized, ...


def open_tasks(config: DatasetConfig, card: ModelCard, tokenizer: Path) -> list[seqio.Task]:
    """The task of that name, or the tasks of that mixture, in the checkpoint's own words and vocabulary.

    Raises:
        InputError: no such task or split, an incomplete dataset, or one that the checkpoint cannot read.
    """
    name = config.mixture_or_task_name
    import_tasks(config.task_module)
    if config.dataset_dir is not None:
        register_dataset_of(name, config.dataset_dir, tokenizer, card.template)
    tasks = list(seqio.get_subtasks(get_task_or_mixture(name)))
    for task in tasks:
        if config.split not in task.splits:
            raise InputError(
                f"task {task.name} has no split {config.split!r}", hint=f"it has: {', '.join(task.splits)}"
            )
        if tokenizer_of(task.name).digest != card.tokenizer_digest:
            raise InputError(f"task {task.name} has another vocabulary than the checkpoint's", hint=_OWN_WORDS)
        if template_of(task.name).family != family_of(card.config).template_family:
            raise InputError(
                f"task {task.name} is written for {template_of(task.name).family} models, the checkpoint is not one",
                hint=_OWN_WORDS,
            )
    return tasks


def task_rows(task: seqio.Task, config: DatasetConfig, shard_id: int = 0, num_shards: int = 1) -> Iterator[Row]:
    """The rows of one shard, in order.

    Raises:
        InputError: the data are damaged, or a question does not fit the inputs.
    """
    lengths = config.task_feature_lengths
    dataset = task.get_dataset(
        sequence_length=None if lengths is None else dict(lengths),
        split=config.split,
        shuffle=False,
        num_epochs=1,
        shard_info=seqio.ShardInfo(shard_id, num_shards),
        use_cached=config.use_cached,
        trim_output_features=False,  # the preprocessor has cut what may be cut
    )
    try:
        yield from islice(untuned(dataset).as_numpy_iterator(), config.num_examples)
    except tf.errors.OpError as error:
        raise input_error(error) from error


def feature_lengths(tasks: Iterable[seqio.Task], config: DatasetConfig) -> dict[str, int]:
    """TASK_FEATURE_LENGTHS, or the longest inputs and targets there are."""
    if config.task_feature_lengths is not None:
        return dict(config.task_feature_lengths)
    longest = {"inputs": 1, "targets": 1}
    for row in (row for task in tasks for row in task_rows(task, config)):
        longest = {name: max(length, len(row[name])) for name, length in longest.items()}
    return longest


_OWN_WORDS = "set DATASET_DIR, and the task is written with the checkpoint's own template and vocabulary"
