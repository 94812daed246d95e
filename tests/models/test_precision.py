"""bf16, packing, rematerialisation and scanned layers change speed and memory, not what is computed."""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exaranker import models
from exaranker.models.decoder import DecoderConfig
from exaranker.models.matmul import matmul
from exaranker.models.stack import stack_layers, unstack_layers
from exaranker.models.t5 import T5Config

T5_EXACT = T5Config(
    vocab_size=96,
    emb_dim=32,
    num_heads=4,
    num_encoder_layers=2,
    num_decoder_layers=2,
    head_dim=8,
    mlp_dim=48,
    dropout_rate=0.0,
    dtype="float32",
)
CONFIGS = {
    "t5_1_0": dataclasses.replace(T5_EXACT, mlp_activations=("relu",), logits_via_embedding=True, scale_logits=True),
    "t5_1_1": T5_EXACT,
    "decoder": DecoderConfig(
        vocab_size=96, emb_dim=32, num_heads=4, num_kv_heads=2, num_layers=2, head_dim=8, mlp_dim=48, dtype="float32"
    ),
}
RANDOM = np.random.default_rng(0)
BATCH = {
    name: RANDOM.integers(2, 96, (3, 10)).astype(np.int32) for name in ("encoder_input_tokens", "decoder_input_tokens")
}
TARGETS = RANDOM.integers(2, 96, (3, 10))


@pytest.fixture(scope="module", params=CONFIGS)
def model(request):
    config = CONFIGS[request.param]
    params = jax.jit(models.build(config).init)(jax.random.key(0), BATCH)["params"]
    return config, nn.meta.unbox(params)


@partial(jax.jit, static_argnums=0)
def loss_and_gradients(module, params):
    def loss(params):
        logits = module.apply({"params": params}, BATCH, train=True)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), TARGETS[..., None], axis=-1)
        return -jnp.mean(chosen)

    return jax.value_and_grad(loss)(params)


def relative_difference(actual, expected):
    """Of two trees: the norm of the difference over the norm."""
    difference = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), actual, expected)
    norm = [np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree))) for tree in (difference, expected)]
    return norm[0] / norm[1]


def test_gradients_equal_finite_differences(model):
    config, params = model
    module = models.build(config)
    _, gradients = loss_and_gradients(module, params)
    direction = jax.tree.map(lambda leaf: np.asarray(RANDOM.normal(size=leaf.shape), np.float32), params)
    step = 1e-2 / np.sqrt(sum(leaf.size for leaf in jax.tree.leaves(params)))
    above, below = (
        loss_and_gradients(module, jax.tree.map(lambda p, d, s=sign: p + s * step * d, params, direction))[0]
        for sign in (1, -1)
    )
    slope = sum(np.vdot(g, d) for g, d in zip(jax.tree.leaves(gradients), jax.tree.leaves(direction), strict=True))
    assert float(above - below) / (2 * step) == pytest.approx(float(slope), rel=2e-2)


def test_bf16_runs_forwards_and_backwards_close_to_fp32(model):
    config, params = model
    low = models.build(dataclasses.replace(config, dtype="bfloat16"))
    loss, gradients = loss_and_gradients(low, params)
    expected_loss, expected = loss_and_gradients(models.build(config), params)
    assert loss == pytest.approx(float(expected_loss), rel=1e-2)
    assert relative_difference(gradients, expected) < 0.03  # bf16 has 8 bits: 0.4 % a rounding
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("remat", ["minimal", "full"])
@pytest.mark.parametrize("scan_layers", [False, True])
def test_remat_and_scan_change_nothing(model, remat, scan_layers):
    config, params = model
    expected_loss, expected = loss_and_gradients(models.build(config), params)
    module = models.build(dataclasses.replace(config, remat=remat, scan_layers=scan_layers))
    given = stack_layers(jax.tree.map(np.asarray, params)) if scan_layers else params
    loss, gradients = loss_and_gradients(module, given)
    assert loss == pytest.approx(float(expected_loss), rel=1e-6)
    gradients = unstack_layers(gradients) if scan_layers else gradients
    assert relative_difference(gradients, expected) < 1e-5


def test_packed_sequences_do_not_see_each_other(model):
    config, params = model
    module = models.build(config)
    alone = [
        module.apply({"params": params}, {name: tokens[row : row + 1, :5] for name, tokens in BATCH.items()})
        for row in (0, 1)
    ]
    packed = {name: np.concatenate([tokens[0:1, :5], tokens[1:2, :5]], axis=1) for name, tokens in BATCH.items()}
    for side in ("encoder", "decoder"):
        packed[f"{side}_segment_ids"] = np.array([[1] * 5 + [2] * 5])
        packed[f"{side}_positions"] = np.array([[*range(5), *range(5)]])
    together = module.apply({"params": params}, packed)
    np.testing.assert_allclose(together, np.concatenate(alone, axis=1), atol=2e-5, rtol=1e-4)


def test_the_prompt_sees_itself_in_both_directions_only_if_asked(model):
    config, params = model
    if not isinstance(config, DecoderConfig):
        return
    tokens = BATCH["decoder_input_tokens"]
    batch = {"decoder_input_tokens": tokens, "decoder_causal_attention": np.array([[1] * 4 + [0] * 6] * 3)}
    changed = {**batch, "decoder_input_tokens": np.where(np.arange(10) == 3, 95 - tokens, tokens)}
    for bidirectional in (False, True):
        module = models.build(dataclasses.replace(config, bidirectional_prefix=bidirectional))
        before, after = (np.asarray(module.apply({"params": params}, given)) for given in (batch, changed))
        assert np.array_equal(before[:, 0], after[:, 0]) != bidirectional


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_matmul_and_its_gradients(dtype):
    """Against float64 on operands that bf16 holds exactly, so that only the cotangent is rounded."""
    a, b = (np.asarray(RANDOM.integers(-8, 9, shape), np.float32) for shape in ((2, 3, 4, 5), (2, 3, 5, 6)))
    cotangent = np.asarray(RANDOM.integers(-8, 9, (2, 3, 4, 6)), np.float32)
    product, pullback = jax.vjp(lambda a, b: matmul(a, b, dtype), a, b)
    np.testing.assert_array_equal(product, a @ b)
    gradient_a, gradient_b = pullback(jnp.asarray(cotangent))
    np.testing.assert_array_equal(gradient_a, cotangent @ b.swapaxes(-1, -2))
    np.testing.assert_array_equal(gradient_b, a.swapaxes(-1, -2) @ cotangent)
