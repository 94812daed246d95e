"""One training step and one evaluation step: pure functions, compiled by whoever has a mesh."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from exaranker.losses import LossConfig, loss_weights, token_losses

Batch = Mapping[str, Any]
Sums = dict[str, Any]  # scalars that add up over microbatches, batches and processes


class TrainState(NamedTuple):
    step: Int[Array, ""]  # updates done
    params: Any
    optimizer: Any


TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Sums]]


def make_train_step(
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    loss: LossConfig,
    *,
    num_microbatches: int = 1,
    seed: int = 0,
    prng: str = "threefry2x32",
) -> TrainStep:
    """Builds (state, batch) -> (next state, sums). Dropout depends on (seed, step) only: a resumed run repeats it."""

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Sums]:
        key = jax.random.fold_in(jax.random.key(seed, impl=prng), state.step)
        batch = {**batch, "weights": loss_weights(batch, loss)}
        gradients, sums = _gradients(module, state.params, batch, loss, key, num_microbatches)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        sums = sums | {"gradient_norm": optax.global_norm(gradients)}
        return TrainState(state.step + 1, params, optimizer_state), sums

    return step


def make_eval_step(module: nn.Module, loss: LossConfig) -> Callable[[Any, Batch], Sums]:
    """Builds (params, batch) -> sums, without dropout."""

    def step(params: Any, batch: Batch) -> Sums:
        return _forward(module, params, {**batch, "weights": loss_weights(batch, loss)}, loss, None)[1]

    return step


def means(sums: Mapping[str, float]) -> dict[str, float]:
    """Turns sums over steps into figures per token: the keys are those of the metrics files.

    >>> means({"loss": 6.0, "weights": 3.0, "label_loss": 1.0, "label_correct": 3.0, "label_tokens": 4.0,
    ...        "explanation_loss": 0.0, "explanation_tokens": 0.0})
    {'loss': 2.0, 'label_loss': 0.25, 'label_accuracy': 0.75}
    """
    figures = {"loss": ("loss", "weights"), "label_loss": ("label_loss", "label_tokens")}
    figures |= {"label_accuracy": ("label_correct", "label_tokens")}
    figures |= {"explanation_loss": ("explanation_loss", "explanation_tokens")}
    return {name: float(sums[top] / sums[bottom]) for name, (top, bottom) in figures.items() if sums[bottom] > 0}


def _gradients(
    module: nn.Module, params: Any, batch: Batch, loss: LossConfig, key: Array, num_microbatches: int
) -> tuple[Any, Sums]:
    def of(part: Batch, key: Array) -> tuple[Any, Sums]:
        value_and_gradient = jax.value_and_grad(lambda params: _forward(module, params, part, loss, key), has_aux=True)
        (_, sums), gradients = value_and_gradient(params)
        return gradients, sums

    if num_microbatches == 1:
        return of(batch, key)
    # Row i goes to microbatch i mod n: every device keeps the rows it already has.
    parts = {name: rows.reshape(-1, num_microbatches, *rows.shape[1:]).swapaxes(0, 1) for name, rows in batch.items()}
    keys = jax.random.split(key, num_microbatches)
    shapes = jax.eval_shape(of, jax.tree.map(lambda rows: rows[0], parts), keys[0])
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(total: Any, one: tuple[Batch, Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, of(*one)), None

    return jax.lax.scan(add, zeros, (parts, keys))[0]


def _forward(module: nn.Module, params: Any, batch: Batch, loss: LossConfig, key: Array | None) -> tuple[Any, Sums]:
    """(the number to minimise, sums for the metrics)."""
    rngs = {} if key is None else {"dropout": key}
    logits: Any = module.apply({"params": params}, batch, train=key is not None, rngs=rngs)
    targets, weights = batch["decoder_target_tokens"], batch["weights"]
    losses = token_losses(logits, targets, loss)
    weighted = jnp.sum((losses.cross_entropy + losses.z_loss) * weights)
    real = batch["decoder_loss_weights"].astype(jnp.float32)
    label = real * batch["decoder_label_weights"]
    correct = jnp.argmax(logits, axis=-1) == targets
    return weighted, {
        "loss": weighted,
        "weights": weights.sum(),
        "label_loss": jnp.sum(losses.cross_entropy * label),
        "label_correct": jnp.sum(correct * label),
        "label_tokens": label.sum(),
        "explanation_loss": jnp.sum(losses.cross_entropy * (real - label)),
        "explanation_tokens": jnp.sum(real - label),
    }
