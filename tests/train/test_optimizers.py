"""Optimizers against the papers' update rules, written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from exaranker.errors import InputError
from exaranker.models.stack import unstack_layers
from exaranker.train.optimizers import Adafactor, AdamW, LearningRate

RANDOM = np.random.default_rng(0)
MATRIX = RANDOM.normal(size=(130, 140))
GRADIENTS = [RANDOM.normal(size=(130, 140)) for _ in range(3)]


def optax_updates(config: Adafactor | AdamW) -> np.ndarray:
    return after(config.build(), {"kernel": fp32(MATRIX)}, [{"kernel": fp32(one)} for one in GRADIENTS])["kernel"]


def after(optimizer: optax.GradientTransformation, params: dict, gradients: list[dict]) -> dict:
    """The parameters after a step per gradient."""
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = jax.jit(optimizer.update)(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def last_update(config: Adafactor, start: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    optimizer, params = config.build(), {"kernel": fp32(start)}
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update({"kernel": fp32(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(updates["kernel"])


def fp32(values: np.ndarray) -> jax.Array:
    return jnp.asarray(values, jnp.float32)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def test_adafactor_follows_the_paper_s_algorithm_with_t5x_s_constants(rounding):
    params, row, column = MATRIX.copy(), np.zeros(130), np.zeros(140)
    for step, gradient in enumerate(GRADIENTS):
        decay = 1 - (step + 1) ** -0.8
        squared = gradient**2 + 1e-30
        row = decay * row + (1 - decay) * squared.mean(axis=1)
        column = decay * column + (1 - decay) * squared.mean(axis=0)
        update = gradient / np.sqrt(np.outer(row, column) / row.mean())
        update /= max(1.0, rms(update) / 1.0)
        params -= 1e-3 * max(rms(params), 1e-3) * update
    rounding.assert_same_parameters(optax_updates(Adafactor()), params, len(GRADIENTS), 1e-3, terms=MATRIX.size)


def test_adafactor_s_other_constants_are_t5x_s(rounding):
    """Each of them changes the update: no factoring below 128, the scale's floor 1e-3, clipping at RMS 1."""
    rtol = rounding.rounding(130 * 127, 1.0)  # of the mean of all squares
    small, tiny = np.full((130, 127), 2.0), np.full((130, 127), 1e-5)
    for params, scale in ((small, 2.0), (tiny, 1e-3)):
        gradient = GRADIENTS[0][:, :127]
        # The first step's decay is 0: unfactored, every element moves by its sign, and the RMS is 1 already.
        expected = -1e-3 * scale * np.sign(gradient)
        np.testing.assert_allclose(last_update(Adafactor(), params, [gradient]), expected, rtol=rtol)
    # Later, a gradient 50 times its history moves by more than 1 and is clipped to RMS 1.
    decay = 1 - 2**-0.8
    direction = 50 / np.sqrt(decay * 1 + (1 - decay) * 50**2)
    assert direction > 1.0
    gradients = [np.ones((130, 127)), np.full((130, 127), 50.0)]
    clipped, unclipped = (last_update(Adafactor(clipping_threshold=one), small, gradients) for one in (1.0, None))
    scale = 2.0 * (1 - 1e-3)
    np.testing.assert_allclose(clipped, -1e-3 * scale, rtol=2 * rtol)  # two such means
    np.testing.assert_allclose(unclipped, -1e-3 * scale * direction, rtol=2 * rtol)


@pytest.mark.parametrize("clip_global_norm", [None, 1.0])
def test_scanned_layers_are_updated_as_unrolled_ones(rounding, clip_global_norm):
    """The layers' sizes differ so much that one scale, or one set of statistics, for all of them would show."""

    def tree(values: np.random.Generator) -> dict:
        sizes = np.array([0.01, 1.0, 100.0])
        layers = {"kernel": values.normal(size=(3, 130, 140)), "scale": values.normal(size=(3, 5))}
        stack = {name: leaf * sizes.reshape(3, *[1] * (leaf.ndim - 1)) for name, leaf in layers.items()}
        decoder = {"layers": {"kernel": values.normal(size=(2, 130, 140))}, "norm": values.normal(size=5)}
        both = {"embedding": values.normal(size=(150, 130)), "encoder": {"layers": stack}, "decoder": decoder}
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), both)

    optimizer = Adafactor(clip_global_norm=clip_global_norm).build()
    params, gradients = tree(RANDOM), [tree(RANDOM) for _ in range(3)]
    scanned = after(optimizer, params, gradients)
    unrolled = after(optimizer, unstack_layers(params), [unstack_layers(gradient) for gradient in gradients])
    count = sum(leaf.size for leaf in jax.tree.leaves(params))  # squares in the global norm
    jax.tree.map(
        lambda ours, theirs: rounding.assert_same_parameters(ours, theirs, len(GRADIENTS), 1e-3, terms=count),
        unstack_layers(scanned),
        unrolled,
    )


def test_adamw_follows_the_paper_s_algorithm(rounding):
    params, first, second = MATRIX.copy(), 0.0, 0.0
    for step, gradient in enumerate(GRADIENTS, start=1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        direction = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        params = params - 3e-5 * (direction + 0.01 * params)
    rounding.assert_same_parameters(optax_updates(AdamW()), params, len(GRADIENTS), 3e-5, terms=len(GRADIENTS))


def test_clipping_is_by_the_norm_of_all_gradients(rounding):
    optimizer = AdamW(clip_global_norm=1.0).build()
    gradients = {"a": jnp.full(2, 30.0), "b": jnp.full(2, 40.0)}
    params = {"a": jnp.zeros(2), "b": jnp.zeros(2)}
    _, state = optimizer.update(gradients, optimizer.init(params), params)
    norm = np.sqrt(2 * 30**2 + 2 * 40**2)
    np.testing.assert_allclose(state[1][0].mu["b"], 0.1 * 40 / norm, rtol=rounding.rounding(4, 1.0))


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
def test_schedules(rounding, factors, step, expected):
    rate = LearningRate(0.5, factors, warmup_steps=10, decay_steps=100).schedule()
    np.testing.assert_allclose(rate(step), expected, atol=rounding.rounding(3, 0.5))  # factors, and the rate


def test_an_unknown_factor_names_the_nearest():
    with pytest.raises(InputError, match=r"'linear_warm' \(did you mean linear_warmup "):
        LearningRate(factors="constant * linear_warm")
