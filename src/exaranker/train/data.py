"""A run's view of its data: registers the dataset its task is named after, and opens this process's streams."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Int

from exaranker.devices.mesh import local_rows
from exaranker.errors import InputError
from exaranker.models import family_of
from exaranker.tasks import import_tasks, register_dataset_of, template_of
from exaranker.templates import Template
from exaranker.train.batches import Batches, BatchSpec
from exaranker.train.config import TrainConfig


def register_task(config: TrainConfig) -> Template:
    """Registers the tasks of DATASET_DIR (without one, the task must be there already); returns the run's template.

    Raises:
        InputError: no such task, an incomplete dataset, or a template that is not for this kind of model.
    """
    data = config.data
    import_tasks(data.task_module)
    if data.dataset_dir is not None:
        register_dataset_of(data.mixture_or_task_name, data.dataset_dir, data.vocabulary_path, config.template)
    template = template_of(data.mixture_or_task_name)
    if template.family != family_of(config.model).template_family:
        raise InputError(
            f"TEMPLATE {template.name!r} is for {template.family} models, MODEL is a {type(config.model).__name__}",
            hint="set TEMPLATE to one of the model's kind",
        )
    return template


def open_batches(config: TrainConfig, mesh: Mesh, split: str, state: Mapping[str, int] | None = None) -> Batches:
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
        family_of(config.model).template_family,
        pack=data.pack,
        shuffle=training and data.shuffle,
        repeat=training,
        seed=config.seed,
        use_cached=data.use_cached_tasks,
        num_streams=data.num_streams,
        pairs_per_row=data.pairs_per_row,
    )
    fixed = data.pack and training  # endless batches of one length: nothing to agree upon
    agree = None if fixed or jax.process_count() == 1 else _greatest
    return Batches(spec, _own_streams(mesh, spec), state, agree)


def _greatest(numbers: Int[np.ndarray, " batches"]) -> Int[np.ndarray, " batches"]:
    return multihost_utils.process_allgather(numbers).max(axis=0)


def _own_streams(mesh: Mesh, spec: BatchSpec) -> list[int]:
    """The streams that hold the rows on this process's devices.

    Processes whose devices share rows, along the tensor axis, read the same streams.
    """
    num_rows = spec.batch_size // spec.pairs_per_row
    rows, each = local_rows(mesh, num_rows), num_rows // spec.num_streams
    streams = np.unique(rows // each)
    if len(streams) * each != len(rows):
        raise InputError(
            f"DATA_STREAMS {spec.num_streams} do not divide among the {jax.process_count()} processes: "
            f"a stream fills {each} rows of a batch, this process holds {len(rows)}",
            hint=f"{jax.process_count()} would; keep it for every number of processes that is to give the same batches",
        )
    return streams.tolist()
