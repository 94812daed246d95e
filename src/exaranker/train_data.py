"""A run's view of its data: registers the dataset its task is named after, and opens this process's streams."""

from collections.abc import Iterator, Mapping
from itertools import repeat

import jax
import numpy as np
from jaxtyping import Num

from exaranker.batches import Batches, BatchSpec
from exaranker.errors import InputError
from exaranker.models.decoder import DecoderConfig
from exaranker.models.t5 import T5Config
from exaranker.tasks import register_dataset_of, template_of
from exaranker.templates import DECODER_ONLY, ENCODER_DECODER, Template
from exaranker.train_config import TrainConfig

Arrays = Mapping[str, Num[np.ndarray, "rows length"]]


def register_task(config: TrainConfig) -> Template:
    """Registers the tasks of DATASET_DIR (without one, the task must be there already); returns the run's template.

    Raises:
        InputError: no such task, an incomplete dataset, or a template that is not for this kind of model.
    """
    data = config.data
    if data.dataset_dir is not None:
        register_dataset_of(data.mixture_or_task_name, data.dataset_dir, data.vocabulary_path, config.template)
    template = template_of(data.mixture_or_task_name)
    if (template.family == DECODER_ONLY) == isinstance(config.model, T5Config):
        raise InputError(
            f"TEMPLATE {template.name!r} is for {template.family} models, MODEL is a {type(config.model).__name__}",
            hint="set TEMPLATE to one of the model's kind",
        )
    return template


def open_batches(config: TrainConfig, split: str, state: Mapping[str, int] | None) -> Batches:
    """The batches of "train" (endless, shuffled) or "validation" (in order, once) that this process feeds.

    Raises:
        InputError: the data cannot be read, or its streams do not divide among the processes.
    """
    data, training = config.data, split == "train"
    spec = BatchSpec(
        data.mixture_or_task_name,
        split,
        data.task_feature_lengths,
        data.batch_size,
        DECODER_ONLY if isinstance(config.model, DecoderConfig) else ENCODER_DECODER,
        pack=data.pack,
        shuffle=training and data.shuffle,
        repeat=training,
        seed=config.seed,
        use_cached=data.use_cached_tasks,
        num_streams=data.num_streams,
        trim=jax.process_count() == 1,
    )
    return Batches(spec, own_streams(data.num_streams, jax.process_count(), jax.process_index()), state)


def validation_batches(config: TrainConfig, like: Arrays) -> Iterator[Arrays]:
    """This process's part of the validation split; in a job of several, batches of padding shaped as `like` follow.

    Processes must take the same number of batches, and the split may end earlier for some than for others.
    """
    yield from (batch.arrays for batch in open_batches(config, "validation", None))
    if jax.process_count() > 1:
        yield from repeat({name: np.zeros_like(rows) for name, rows in like.items()})


def own_streams(num_streams: int, process_count: int, process_index: int) -> range:
    """The streams that one process reads.

    >>> own_streams(8, process_count=4, process_index=1)
    range(2, 4)
    """
    if num_streams % process_count:
        raise InputError(
            f"DATA_STREAMS {num_streams} is not a multiple of the {process_count} processes",
            hint="keep it the same for every number of processes that is to give the same batches",
        )
    each = num_streams // process_count
    return range(process_index * each, (process_index + 1) * each)
