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
from exaranker.models.layers import ADAPTER
from exaranker.models.lora import init_adapter
from exaranker.models.matmul import round_kernels
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
    evaluate: Any  # jitted: (variables, batch) -> sums


def assemble(config: TrainConfig, devices: Sequence[Any] | None = None) -> Setup:
    """Lays the run out on the devices present; nothing is allocated or compiled yet.

    Raises:
        InputError: the mesh does not fit the devices, the batch or the model.
    """
    module, optimizer = models.build(config.network), config.optimizer.build()
    boxed = jax.eval_shape(lambda: _init_variables(module, config))
    state = jax.eval_shape(lambda variables: _as_state(variables, optimizer, config), nn.meta.unbox(boxed))
    # Gradients are as large as what is trained.
    state_bytes = _bytes(state) + _bytes(state.params)
    mesh = make_mesh(config.mesh, state_bytes, devices)
    check_batch(mesh, config.data.batch_size, config.num_microbatches, config.data.pairs_per_row)
    abstract = _with_shardings(state, _state_shardings(mesh, boxed, state))
    return Setup(config, mesh, module, optimizer, abstract, *_compiled(config, module, optimizer, mesh, abstract))


def random_state(setup: Setup) -> TrainState:
    """Freshly initialised weights, the same on every mesh."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, setup.abstract)

    def init() -> TrainState:
        return _as_state(nn.meta.unbox(_init_variables(setup.module, setup.config)), setup.optimizer, setup.config)

    with layout(setup.mesh):
        return jax.jit(init, out_shardings=shardings)()


def load_initial(setup: Setup, path: str) -> StoredModel:
    """A checkpoint laid out for this run, also if its layers are scanned and the run's are not, or the other way round.

    Raises:
        InputError: there is no complete checkpoint, or it is of another model.
    """
    scanned = load_card(path).config.scan_layers
    if scanned == setup.config.model.scan_layers:
        return load_for_training(path, setup.abstract.model)
    model = replace(setup.config.model, scan_layers=scanned)
    loaded = load_for_training(path, assemble(replace(setup.config, model=model)).abstract.model)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, setup.abstract.model)
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


def adapter_of(setup: Setup, frozen: Any, step: int) -> TrainState:
    """A state of given weights that stay as they are and a fresh adapter of them, which has a fresh optimizer."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, setup.abstract.params)
    adapter = jax.jit(lambda: nn.meta.unbox(_init_adapter(setup.config)), out_shardings=shardings)()
    return state_from(setup, adapter, step)._replace(frozen=frozen)


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
    rows, has_segments = data.batch_size // data.pairs_per_row, data.pack or data.pairs_per_row > 1
    return family_of(config.model).batch_shapes(rows, data.row_lengths, has_segments)


def _init_variables(module: nn.Module, config: TrainConfig) -> dict[str, Any]:
    batch = {name: jnp.zeros((1, shape[1]), dtype) for name, (shape, dtype) in batch_shapes(config).items()}
    params = module.init(jax.random.key(config.seed), batch)["params"]
    return {"params": params} if config.lora is None else {"params": params, ADAPTER: _init_adapter(config)}


def _init_adapter(config: TrainConfig) -> Any:
    assert config.lora is not None
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    return init_adapter(config.lora, key, models.abstract_params(config.model))


def _as_state(variables: Mapping[str, Any], optimizer: optax.GradientTransformation, config: TrainConfig) -> TrainState:
    params, frozen = _trained_and_frozen(variables)
    step = jnp.zeros((), jnp.int32)
    return TrainState(step, params, optimizer.init(params), round_kernels(frozen, config.model.dtype))


def _trained_and_frozen(variables: Mapping[str, Any]) -> tuple[Any, Any]:
    return (variables[ADAPTER], variables["params"]) if ADAPTER in variables else (variables["params"], None)


def _state_shardings(mesh: Mesh, boxed: Mapping[str, Any], state: TrainState) -> Any:
    params, frozen = (param_shardings(mesh, part) for part in _trained_and_frozen(boxed))
    optimizer = optimizer_shardings(mesh, params, state.params, state.optimizer)
    step: Any = NamedSharding(mesh, PartitionSpec())
    return TrainState(step, params, optimizer, frozen)


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
        lora=config.lora,
    )
    train = jax.jit(step, in_shardings=(shardings, rows), out_shardings=(shardings, replicated), donate_argnums=0)
    evaluate = jax.jit(
        make_eval_step(module, config.loss, config.lora),
        in_shardings=(shardings.variables, rows),
        out_shardings=replicated,
    )
    return train, evaluate


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
