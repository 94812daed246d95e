"""Both products and their gradients, against fp32 numpy on operands rounded by hand."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exaranker import models
from exaranker.models.attention import attend
from exaranker.models.decoder import DecoderConfig
from exaranker.models.matmul import heads_first, matmul, matmul_transposed
from exaranker.models.t5 import T5Config

SHAPES = [((5, 7), (7, 3)), ((2, 3, 4, 6), (2, 3, 6, 5)), ((1, 4), (4, 2))]


def rounded(x, dtype):
    return np.asarray(jnp.asarray(x).astype(dtype).astype(jnp.float32), np.float64)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shapes", SHAPES, ids=["matrices", "batched", "one_row"])
@pytest.mark.parametrize("transpose", [False, True], ids=["plain", "transposed"])
def test_product_and_gradients(rounding, shapes, dtype, transpose):
    random = np.random.default_rng(0)
    a, b = (random.standard_normal(shape).astype(np.float32) for shape in shapes)
    cotangent = random.standard_normal((*a.shape[:-1], b.shape[-1])).astype(np.float32)
    function = matmul_transposed if transpose else matmul
    given = b.swapaxes(-1, -2) if transpose else b

    @jax.jit
    def run(a, b, cotangent):
        product, pull = jax.vjp(lambda a, b: function(a, b, dtype), a, b)
        return product, *pull(cotangent)

    product, gradient_a, gradient_b = run(a, given, cotangent)
    a, b, cotangent = (rounded(x, dtype) for x in (a, b, cotangent))
    expected_b = a.swapaxes(-1, -2) @ cotangent
    assert product.dtype == gradient_a.dtype == gradient_b.dtype == jnp.float32
    # No shape has an axis longer than 7, and sums are in fp32 whatever the operands are.
    rounding.assert_equal_but_for_rounding(product, a @ b, terms=7)
    rounding.assert_equal_but_for_rounding(gradient_a, cotangent @ b.swapaxes(-1, -2), terms=7)
    expected_b = expected_b.swapaxes(-1, -2) if transpose else expected_b
    rounding.assert_equal_but_for_rounding(gradient_b, expected_b, terms=7)


@pytest.mark.parametrize("transpose", [False, True], ids=["plain", "transposed"])
def test_an_fp32_product_with_a_bf16_operand_keeps_17_bits_of_the_other(rounding, transpose):
    random = np.random.default_rng(0)
    a, b = random.standard_normal((5, 64)).astype(np.float32), rounded(random.standard_normal((64, 3)), "bfloat16")
    stored = jnp.asarray(b, jnp.bfloat16)
    product = matmul_transposed(a, stored.T, "float32") if transpose else matmul(a, stored, "float32")
    summed = rounding.rounding(2 * 64, np.abs(a @ b).max())  # of both halves
    assert (np.abs(product - a @ b) <= 2.0**-17 * (np.abs(a) @ np.abs(b)) + summed).all()


@pytest.mark.parametrize("transpose", [False, True], ids=["plain", "transposed"])
def test_one_bf16_row_does_not_copy_the_matrix_to_fp32(transpose):
    """Which took seven times as long on a CPU."""
    row, matrix = jnp.ones((1, 96), jnp.bfloat16), jnp.ones((80, 96) if transpose else (96, 80), jnp.bfloat16)
    product = matmul_transposed if transpose else matmul
    compiled = jax.jit(product, static_argnums=2).lower(row, matrix, "bfloat16").compile().as_text()
    assert f"bf16[{matrix.shape[0]},{matrix.shape[1]}]" in compiled
    assert f"f32[{matrix.shape[0]},{matrix.shape[1]}]" not in compiled.replace("bf16", "")


def test_attention_multiplies_keys_and_values_in_bf16():
    query, keys = (jnp.ones((2, length, 3, 16)) for length in (32, 48))  # batch, length, heads, dim
    mask = jnp.ones((2, 1, 1, 48), bool)

    def attention(query, key, value):
        heads = (heads_first(x.astype(jnp.bfloat16)) for x in (query, key, value))
        return attend(*heads, mask, None, "bfloat16", lambda weights: weights)

    compiled = jax.jit(attention).lower(query, keys, keys).compile().as_text()
    assert "bf16[2,3,48,16]" in compiled
    assert "f32[2,3,48,16]" not in compiled.replace("bf16", "")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("dim", [6, 5])
def test_heads_come_first_and_gradients_go_back(dtype, dim):
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((2, 4, 3, dim)), dtype)
    cotangent = jnp.asarray(random.standard_normal((2, 3, 4, dim)), dtype)
    moved, pull = jax.vjp(jax.jit(heads_first), x)
    np.testing.assert_array_equal(moved, x.swapaxes(1, 2))
    np.testing.assert_array_equal(pull(cotangent)[0], cotangent.swapaxes(1, 2))


MODELS = {
    "t5": T5Config(96, 32, 4, 2, 2, 8, 48, dropout_rate=0.0, logits_via_embedding=True, scale_logits=True),
    "decoder": DecoderConfig(96, 32, 4, 2, 2, 8, 48),
}


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_a_models_gradient_in_bfloat16_points_where_the_fp32_gradient_does(rounding, config):
    tokens = np.random.default_rng(0).integers(2, 96, (4, 16))
    batch = {"encoder_input_tokens": tokens, "decoder_input_tokens": tokens}
    exact, rough = (models.build(dataclasses.replace(config, dtype=dtype)) for dtype in ("float32", "bfloat16"))
    params = nn.meta.unbox(jax.jit(exact.init)(jax.random.key(0), batch)["params"])

    def gradient(module):
        def loss(params):
            return jnp.mean(jax.nn.log_softmax(module.apply({"params": params}, batch))[..., 7])

        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(params))])

    a, b = gradient(exact), gradient(rough)
    # As vectors, which bounds both their angle and their lengths.
    most = rounding.rounding(config.mlp_dim, 1.0, "bfloat16") / 2  # one of the two is exact
    assert np.linalg.norm(b - a) <= most * np.linalg.norm(a)
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) >= 0.999
    assert np.linalg.norm(b) == pytest.approx(np.linalg.norm(a), rel=0.02)
