"""One training step and one evaluation step: pure functions, compiled by whoever has a mesh."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from exaranker.losses.sums import Batch, Sums, loss_sums
from exaranker.losses.token import LossConfig, loss_weights, total_weight
from exaranker.models.layers import ADAPTER
from exaranker.models.lora import Lora, adapted


class TrainState(NamedTuple):
    """What an update changes: the step, the weights and the optimizer's state; and what it does not."""

    step: Int[Array, ""]  # updates done
    params: Any
    optimizer: Any
    frozen: Any = None  # the model, where `params` are an adapter of it

    @property
    def model(self) -> Any:
        """The weights of the model, trained or not."""
        return self.params if self.frozen is None else self.frozen

    @property
    def variables(self) -> dict[str, Any]:
        """All weights as flax's collections."""
        return {"params": self.params} if self.frozen is None else {"params": self.frozen, ADAPTER: self.params}


TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Sums]]


def make_train_step(
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    loss: LossConfig,
    *,
    num_microbatches: int = 1,
    seed: int = 0,
    prng: str = "threefry2x32",
    lora: Lora | None = None,
) -> TrainStep:
    """Builds (state, batch) -> (next state, sums). Dropout depends on (seed, step) only: a resumed run repeats it.

    `lora` is how the state's parameters are an adapter of what is frozen.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Sums]:
        key = jax.random.fold_in(jax.random.key(seed, impl=prng), state.step)
        batch = {**batch, "weights": loss_weights(batch, loss)}
        with adapted(lora):
            gradients, sums = _gradients(module, state, batch, loss, key, num_microbatches)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        sums |= _tokens(batch) | {"weights": total_weight(batch, loss), "gradient_norm": optax.tree.norm(gradients)}
        return TrainState(state.step + 1, params, optimizer_state, state.frozen), sums

    return step


def make_eval_step(module: nn.Module, loss: LossConfig, lora: Lora | None = None) -> Callable[[Any, Batch], Sums]:
    """Builds (variables, batch) -> sums, without dropout."""

    def step(variables: Any, batch: Batch) -> Sums:
        with adapted(lora):
            sums = loss_sums(module, variables, {**batch, "weights": loss_weights(batch, loss)}, loss, None)
        return sums | {"weights": total_weight(batch, loss)}

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
    module: nn.Module, state: TrainState, batch: Batch, loss: LossConfig, key: Array, num_microbatches: int
) -> tuple[Any, Sums]:
    def of(part: Batch, key: Array) -> tuple[Any, Sums]:
        def to_minimise(params: Any) -> tuple[Any, Sums]:
            sums = loss_sums(module, state._replace(params=params).variables, part, loss, key)
            return sums["loss"], sums

        gradients, sums = jax.grad(to_minimise, has_aux=True)(state.params)
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


def _tokens(batch: Batch) -> Sums:
    """Of both sides: the tokens that are not padding, and the positions there are."""
    sides = [
        batch["decoder_loss_weights"] + batch.get("decoder_causal_attention", 0)
    ]  # the answer and, if here, prompt
    if "encoder_input_tokens" in batch:
        sides.append(batch["encoder_input_tokens"])
    real = sum(jnp.count_nonzero(side).astype(jnp.float32) for side in sides)
    return {"real_tokens": real, "positions": jnp.float32(sum(side.size for side in sides))}
