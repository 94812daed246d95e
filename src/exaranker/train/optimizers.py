"""Optimizers and learning-rate schedules, as frozen configurations that build optax transformations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from exaranker.checks import Macro, NonEmpty, NotNegative, Positive, above, at_least, check, from_to_below
from exaranker.errors import InputError, nearest

Schedule = Callable[[Any], Any]


@dataclass(frozen=True)
class LearningRate:
    """A learning rate as a product of T5X's factors: "constant * linear_warmup * rsqrt_decay".

    >>> round(float(LearningRate(3e-5, "constant * linear_warmup", warmup_steps=10).schedule()(5)), 8)
    1.5e-05
    """

    base: Annotated[float, at_least(0), Macro("LEARNING_RATE")] = 1e-3
    factors: Annotated[NonEmpty, Macro("LEARNING_RATE_FACTORS")] = "constant"
    warmup_steps: NotNegative = 1000
    decay_steps: Positive = 100_000  # where linear_decay and cosine_decay reach zero

    def __post_init__(self) -> None:
        check(self)
        for name in self._names():
            if name not in _FACTORS:
                raise InputError(f"unknown learning-rate factor {name!r}", hint=nearest(name, _FACTORS))

    def schedule(self) -> Schedule:
        """The learning rate as a function of the step; the first update is step 0."""

        def rate(step: Any) -> Float[Array, ""]:
            value = jnp.asarray(1.0)
            for name in self._names():
                value = value * _FACTORS[name](self, step)
            return value

        return rate

    def _names(self) -> list[str]:
        return [name.strip() for name in self.factors.split("*")]


_FACTORS: dict[str, Callable[[LearningRate, Any], Any]] = {
    "constant": lambda config, step: config.base,
    "linear_warmup": lambda config, step: jnp.minimum(1.0, step / max(config.warmup_steps, 1)),
    "rsqrt_decay": lambda config, step: 1.0 / jnp.sqrt(jnp.maximum(step, max(config.warmup_steps, 1))),
    "linear_decay": lambda config, step: jnp.maximum(0.0, 1.0 - step / config.decay_steps),
    "cosine_decay": lambda config, step: 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(step / config.decay_steps, 1.0))),
}


@dataclass(frozen=True)
class Adafactor:
    """Adafactor (arXiv 1804.04235) with T5X's settings: no momentum, updates scaled by the parameter's RMS."""

    learning_rate: LearningRate = LearningRate()
    decay_rate: Annotated[float, above(0)] = 0.8
    step_offset: NotNegative = 0
    clipping_threshold: Annotated[float | None, above(0)] = 1.0
    min_dim_size_to_factor: Positive = 128
    multiply_by_parameter_scale: bool = True
    weight_decay_rate: Annotated[float | None, at_least(0)] = None
    clip_global_norm: Annotated[float | None, above(0), Macro("CLIP_GLOBAL_NORM")] = None

    def __post_init__(self) -> None:
        check(self, "optimizers.Adafactor.")

    def build(self) -> optax.GradientTransformation:
        adafactor = optax.adafactor(
            self.learning_rate.schedule(),
            min_dim_size_to_factor=self.min_dim_size_to_factor,
            decay_rate=self.decay_rate,
            decay_offset=self.step_offset,
            multiply_by_parameter_scale=self.multiply_by_parameter_scale,
            clipping_threshold=self.clipping_threshold,
            weight_decay_rate=self.weight_decay_rate,
        )
        return _clipped(_per_layer(adafactor), self.clip_global_norm)


@dataclass(frozen=True)
class AdamW:
    """AdamW with the ExaRanker scripts' settings (torch's defaults, decay on every parameter)."""

    learning_rate: LearningRate = LearningRate(base=3e-5)
    beta1: Annotated[float, from_to_below(0, 1)] = 0.9
    beta2: Annotated[float, from_to_below(0, 1)] = 0.999
    epsilon: Annotated[float, above(0)] = 1e-8
    weight_decay: Annotated[float, at_least(0), Macro("WEIGHT_DECAY")] = 0.01
    clip_global_norm: Annotated[float | None, above(0), Macro("CLIP_GLOBAL_NORM")] = None

    def __post_init__(self) -> None:
        check(self, "optimizers.AdamW.")

    def build(self) -> optax.GradientTransformation:
        adamw = optax.adamw(
            self.learning_rate.schedule(), self.beta1, self.beta2, self.epsilon, weight_decay=self.weight_decay
        )
        return _clipped(adamw, self.clip_global_norm)


Optimizer = Adafactor | AdamW


STACK = "layers"  # flax's name for layers that are scanned; their parameters have a leading axis


def _per_layer(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Updates every layer of a scanned stack on its own, as T5X does.

    Its statistics and its scale are not its neighbours', so scanned and unrolled models train alike.
    """

    def init(params: Any) -> Any:
        groups = _by_stack(params)
        if not any(groups):
            return inner.init(params)
        return {name: (jax.vmap(inner.init) if name else inner.init)(part) for name, part in groups.items()}

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        groups = _by_stack(params)
        if not any(groups):
            return inner.update(gradients, state, params)
        updates: dict[tuple[str, ...], Any] = {}
        states: dict[str, Any] = {}
        for name, part in _by_stack(gradients).items():
            step = jax.vmap(inner.update) if name else inner.update
            one, states[name] = step(part, state[name], groups[name])
            updates |= flatten_dict(one)
        return unflatten_dict(updates), states

    return optax.GradientTransformation(init, update)


def _by_stack(params: Any) -> dict[str, Any]:
    """Nested parameters by the stack they are in, under their full names; those in none under "".

    >>> _by_stack({"embedding": 1, "encoder": {"layers": {"scale": 2}, "norm": 3}})
    {'': {'embedding': 1, 'encoder': {'norm': 3}}, 'encoder/layers': {'encoder': {'layers': {'scale': 2}}}}
    """
    groups: dict[str, dict[tuple[str, ...], Any]] = {}
    for path, leaf in flatten_dict(params).items():
        end = path.index(STACK) + 1 if STACK in path else 0
        groups.setdefault("/".join(path[:end]), {})[path] = leaf
    return {name: unflatten_dict(leaves) for name, leaves in groups.items()}


def _clipped(optimizer: optax.GradientTransformation, norm: float | None) -> optax.GradientTransformation:
    return optimizer if norm is None else optax.chain(optax.clip_by_global_norm(norm), optimizer)
