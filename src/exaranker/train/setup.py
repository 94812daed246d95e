"""Builds what a run needs around its configuration: mesh, module, optimizer, layouts and compiled steps."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from exaranker import models
from exaranker.checkpoints.folder import load_card
from exaranker.checkpoints.store import StoredModel, load_for_training
from exaranker.devices.mesh import RULES, batch_sharding, check_batch, make_mesh, optimizer_shardings, param_shardings
from exaranker.models import family_of
from exaranker.models.family import BatchShapes
from exaranker.models.stack import stack_layers, unstack_layers
from exaranker.train.config import TrainConfig
from exaranker.train.slots import with_slots
from exaranker.train.step import TrainState, make_eval_step, make_train_step


class Setup(NamedTuple):
    """A run ready to start; `abstract` has the shapes and shardings of its state."""

    config: TrainConfig
    mesh: Mesh
    module: nn.Module
    optimizer: optax.GradientTransformation
    abstract: TrainState
    step: Any  # jitted: (state, batch) -> (state, sums)
    evaluate: Any  # jitted: (params, batch) -> sums


def assemble(config: TrainConfig, devices: Sequence[Any] | None = None) -> Setup:
    """Lays the run out on the devices present; nothing is allocated or compiled yet.

    Raises:
        InputError: the mesh does not fit the devices, the batch or the model.
    """
    module, optimizer = models.build(config.network), config.optimizer.build()
    boxed = jax.eval_shape(lambda: _init_params(module, config))
    state = jax.eval_shape(lambda: _as_state(nn.meta.unbox(boxed), optimizer))
    # Gradients are as large as the parameters.
    state_bytes = _bytes(state) + _bytes(state.params)
    mesh = make_mesh(config.mesh, state_bytes, devices)
    check_batch(mesh, config.data.batch_size, config.num_microbatches)
    abstract = _with_shardings(state, _state_shardings(mesh, boxed, state))
    return Setup(config, mesh, module, optimizer, abstract, *_compiled(config, module, optimizer, mesh, abstract))


def random_state(setup: Setup) -> TrainState:
    """Freshly initialised weights, the same on every mesh."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, setup.abstract)

    def init() -> TrainState:
        return _as_state(nn.meta.unbox(_init_params(setup.module, setup.config)), setup.optimizer)

    with layout(setup.mesh):
        return jax.jit(init, out_shardings=shardings)()


def load_initial(setup: Setup, path: str) -> StoredModel:
    """A checkpoint laid out for this run, also if its layers are scanned and the run's are not, or the other way round.

    Raises:
        InputError: there is no complete checkpoint, or it is of another model.
    """
    scanned = load_card(path).config.scan_layers
    if scanned == setup.config.model.scan_layers:
        return load_for_training(path, setup.abstract.params)
    model = replace(setup.config.model, scan_layers=scanned)
    loaded = load_for_training(path, assemble(replace(setup.config, model=model)).abstract.params)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, setup.abstract.params)
    change = jax.jit(unstack_layers if scanned else stack_layers, out_shardings=shardings)
    return loaded._replace(params=change(loaded.params))


def state_from(setup: Setup, params: Any, step: int, slots: Mapping[str, Any] | None = None) -> TrainState:
    """A state of given weights and a fresh optimizer, as fine-tuning starts, or one that goes on from T5X's `slots`.

    Raises:
        InputError: the optimizer has no accumulators like those of the slots.
    """
    shardings = jax.tree.map(lambda leaf: leaf.sharding, setup.abstract.optimizer)
    optimizer = jax.jit(setup.optimizer.init, out_shardings=shardings)(params)
    if slots:
        optimizer = with_slots(optimizer, slots, step)
    counter = jax.device_put(jnp.asarray(step, jnp.int32), setup.abstract.step.sharding)
    return TrainState(counter, params, optimizer)


@contextmanager
def layout(mesh: Mesh) -> Iterator[None]:
    """Makes the models' logical axes mean this mesh."""
    with jax.set_mesh(mesh), nn.logical_axis_rules(RULES):
        yield


def abstract_batch(config: TrainConfig, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Names, shapes and layout of one training batch."""
    shapes = batch_shapes(config)
    sharding = batch_sharding(mesh)
    return {name: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding) for name, (shape, dtype) in shapes.items()}


def batch_shapes(config: TrainConfig) -> BatchShapes:
    """The features of a training batch."""
    data = config.data
    return family_of(config.model).batch_shapes(data.batch_size, data.task_feature_lengths, data.pack)


def _init_params(module: nn.Module, config: TrainConfig) -> Any:
    batch = {name: jnp.zeros((1, shape[1]), dtype) for name, (shape, dtype) in batch_shapes(config).items()}
    return module.init(jax.random.key(config.seed), batch)["params"]


def _as_state(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def _state_shardings(mesh: Mesh, boxed: Any, state: TrainState) -> Any:
    params = param_shardings(mesh, boxed)
    optimizer = optimizer_shardings(mesh, params, state.params, state.optimizer)
    step: Any = NamedSharding(mesh, PartitionSpec())
    return TrainState(step, params, optimizer)


def _with_shardings(state: Any, shardings: Any) -> Any:
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state, shardings
    )


def _compiled(
    config: TrainConfig,
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    abstract: TrainState,
) -> tuple[Any, Any]:
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    replicated, rows = NamedSharding(mesh, PartitionSpec()), batch_sharding(mesh)
    step = make_train_step(
        module,
        optimizer,
        config.loss,
        num_microbatches=config.num_microbatches,
        seed=config.seed,
        prng=config.prng,
    )
    train = jax.jit(step, in_shardings=(shardings, rows), out_shardings=(shardings, replicated), donate_argnums=0)
    evaluate = jax.jit(
        make_eval_step(module, config.loss), in_shardings=(shardings.params, rows), out_shardings=replicated
    )
    return train, evaluate


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
