"""Optimizers against the papers' update rules, written out in numpy."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from exaranker.errors import InputError
from exaranker.optimizers import Adafactor, AdamW, LearningRate

RANDOM = np.random.default_rng(0)
MATRIX = RANDOM.normal(size=(130, 140))
GRADIENTS = [RANDOM.normal(size=(130, 140)) for _ in range(3)]


def optax_updates(config: Adafactor | AdamW) -> np.ndarray:
    optimizer = config.build()
    params = jnp.asarray(MATRIX, jnp.float32)
    state = optimizer.init(params)
    for gradient in GRADIENTS:
        updates, state = optimizer.update(jnp.asarray(gradient, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(params)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def test_adafactor_follows_the_paper_s_algorithm_with_t5x_s_constants():
    params, row, column = MATRIX.copy(), np.zeros(130), np.zeros(140)
    for step, gradient in enumerate(GRADIENTS):
        decay = 1 - (step + 1) ** -0.8
        squared = gradient**2 + 1e-30
        row = decay * row + (1 - decay) * squared.mean(axis=1)
        column = decay * column + (1 - decay) * squared.mean(axis=0)
        update = gradient / np.sqrt(np.outer(row, column) / row.mean())
        update /= max(1.0, rms(update) / 1.0)
        params -= 1e-3 * max(rms(params), 1e-3) * update
    np.testing.assert_allclose(optax_updates(Adafactor()), params, rtol=2e-6, atol=1e-8)


def test_adamw_follows_the_paper_s_algorithm():
    params, first, second = MATRIX.copy(), 0.0, 0.0
    for step, gradient in enumerate(GRADIENTS, start=1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        direction = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        params = params - 3e-5 * (direction + 0.01 * params)
    np.testing.assert_allclose(optax_updates(AdamW()), params, rtol=2e-6, atol=1e-8)


def test_clipping_is_by_the_norm_of_all_gradients():
    optimizer = AdamW(clip_global_norm=1.0).build()
    gradients = {"a": jnp.full(2, 30.0), "b": jnp.full(2, 40.0)}
    params = {"a": jnp.zeros(2), "b": jnp.zeros(2)}
    _, state = optimizer.update(gradients, optimizer.init(params), params)
    norm = np.sqrt(2 * 30**2 + 2 * 40**2)
    np.testing.assert_allclose(state[1][0].mu["b"], 0.1 * 40 / norm, rtol=1e-6)


@pytest.mark.parametrize(
    ("factors", "step", "expected"),
    [
        ("constant", 0, 0.5),
        ("constant * linear_warmup", 2, 0.1),
        ("constant * linear_warmup", 50, 0.5),
        ("constant * rsqrt_decay", 4, 0.5 / np.sqrt(10)),
        ("constant * rsqrt_decay", 100, 0.05),
        ("constant * linear_decay", 25, 0.375),
        ("constant * cosine_decay", 50, 0.25),
        ("constant * cosine_decay", 400, 0.0),
    ],
)
def test_schedules(factors, step, expected):
    rate = LearningRate(0.5, factors, warmup_steps=10, decay_steps=100).schedule()
    np.testing.assert_allclose(rate(step), expected, atol=1e-7)


def test_an_unknown_factor_names_the_nearest():
    with pytest.raises(InputError, match=r"'linear_warm' \(did you mean linear_warmup "):
        LearningRate(factors="constant * linear_warm")
