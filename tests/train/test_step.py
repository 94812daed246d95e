"""Gradients of whole models: against finite differences, and the same whichever way they are computed."""

import dataclasses
from types import ModuleType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from exaranker import models
from exaranker.losses.token import LossConfig
from exaranker.models.decoder import DecoderConfig
from exaranker.models.stack import stack_layers, unstack_layers
from exaranker.models.t5 import T5Config
from exaranker.train.step import TrainState, make_eval_step, make_train_step

SHAPE: dict[str, Any] = {"vocab_size": 64, "emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 24}
T5_SHAPE = {**SHAPE, "num_encoder_layers": 2, "num_decoder_layers": 2, "dtype": "float32", "dropout_rate": 0.0}
# Without its relu, whose kinks no difference of losses may straddle; relu's gradient is jax's own.
V1_0 = {"mlp_activations": ("gelu",), "logits_via_embedding": True, "scale_logits": True}
FAMILIES: dict[str, models.ModelConfig] = {
    "t5_1_0": T5Config(**T5_SHAPE, **V1_0),
    "t5_1_1": T5Config(**T5_SHAPE),
    "umt5": T5Config(**T5_SHAPE, relative_bias_per_layer=True),
    "decoder": DecoderConfig(**SHAPE, num_kv_heads=1, num_layers=2, dtype="float32"),
}
LOSS = LossConfig(label_weight=2.0, loss_normalizing_factor="NUM_REAL_TARGET_TOKENS")


class Gradient(NamedTuple):
    loss: float
    sums: dict[str, Any]
    values: Any  # as the parameters


def batch_for(config: models.ModelConfig, rows: int = 4) -> dict[str, jax.Array]:
    """Random rows of unequal lengths: 12 positions of input, 8 of target; the label is the first target token."""
    random = np.random.default_rng(1)
    ends = np.array([5, 8, 3, 7])[:rows, None]
    tokens = random.integers(2, 64, (rows, 8))
    real = (np.arange(8) < ends).astype(np.int32)
    batch = {
        "decoder_input_tokens": np.pad(tokens, ((0, 0), (1, 0)))[:, :-1] * real,
        "decoder_target_tokens": tokens * real,
        "decoder_loss_weights": real,
        "decoder_label_weights": (np.arange(8) == 0) * np.ones((rows, 1), np.float32),
    }
    if isinstance(config, T5Config):
        batch["encoder_input_tokens"] = random.integers(2, 64, (rows, 12)) * (np.arange(12) < ends + 4)
    else:
        batch["decoder_causal_attention"] = real * (np.arange(8) < 2)
    return {name: jnp.asarray(array) for name, array in batch.items()}


def params_of(config: models.ModelConfig) -> Any:
    init = jax.jit(models.build(config).init)
    return nn.meta.unbox(init(jax.random.key(0), batch_for(config))["params"])


# Hands the gradients out as its state and changes nothing.
CAPTURE = optax.GradientTransformation(
    lambda params: params, lambda gradients, state, params: (jax.tree.map(jnp.zeros_like, gradients), gradients)
)


def gradient_of(config: models.ModelConfig, params: Any, loss: LossConfig = LOSS, **options: Any) -> Gradient:
    """What a training step computes."""
    step = jax.jit(make_train_step(models.build(config), CAPTURE, loss, **options))
    state, sums = step(TrainState(jnp.int32(0), params, params), batch_for(config))
    return Gradient(float(sums["loss"]), sums, state.optimizer)


def assert_same(rounding: ModuleType, ours: Gradient, theirs: Gradient) -> None:
    """But for the order of fp32 sums, of which the longest are over the 64 pieces."""
    rounding.assert_equal_but_for_rounding(ours.loss, theirs.loss, terms=64)
    jax.tree.map(
        lambda one, other: rounding.assert_equal_but_for_rounding(one, other, terms=64), ours.values, theirs.values
    )


EACH_KIND = pytest.mark.parametrize("family", ["t5_1_1", "decoder"], indirect=True)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> tuple[models.ModelConfig, Any, Gradient]:
    config = FAMILIES[request.param]
    params = params_of(config)
    return config, params, gradient_of(config, params)


def test_every_tensor_s_gradient_is_the_slope_of_the_loss(rounding, family):
    """Along each tensor's own gradient, by central differences of the loss, in fp32.

    The step moves the loss by 0.002 at most and the tensor by half a percent of its length: smaller ones drown in
    fp32's rounding of the loss, larger ones in curvature: of a central difference that is the square of the step, some
    (0.005)^2. Of the slope, rounding leaves as much as of two losses, over their distance.
    """
    config, params, gradient = family
    evaluate = jax.jit(make_eval_step(models.build(config), LOSS))
    batch = batch_for(config)
    flat, slopes = flatten_dict(params, sep="/"), flatten_dict(gradient.values, sep="/")
    for name, values in slopes.items():
        norm = float(jnp.linalg.norm(values))
        step = min(0.002 / norm, 0.005 * float(jnp.linalg.norm(flat[name])))
        losses = [
            float(evaluate({"params": unflatten_dict(moved, sep="/")}, batch)["loss"])
            for moved in ({**flat, name: flat[name] + way * values / norm} for way in (step, -step))
        ]
        slope = (losses[0] - losses[1]) / (2 * step)
        rounded = rounding.rounding(64, gradient.loss) / (2 * step)  # pieces
        np.testing.assert_allclose(slope, norm, rtol=0, atol=rounded, err_msg=name)


@EACH_KIND
def test_accumulated_gradients_equal_those_of_one_big_batch(rounding, family):
    config, params, gradient = family
    accumulated = gradient_of(config, params, num_microbatches=2)
    assert_same(rounding, accumulated, gradient)
    for name in ("label_tokens", "label_correct", "explanation_tokens", "real_tokens", "positions"):
        assert accumulated.sums[name] == gradient.sums[name]


@pytest.mark.slow
@EACH_KIND
def test_computing_activations_again_changes_nothing_not_even_dropout(rounding, family):
    config, params, gradient = family
    dropping = dataclasses.replace(config, dropout_rate=0.2)
    expected = gradient_of(dropping, params)
    assert abs(expected.loss - gradient.loss) > 1e-3
    for remat in ("minimal", "full"):
        assert_same(rounding, gradient_of(dataclasses.replace(dropping, remat=remat), params), expected)


@EACH_KIND
def test_minimal_keeps_the_products_of_weights_and_full_computes_them_again(family):
    config, params, _ = family
    counts = []
    for remat in ("none", "minimal", "full"):
        step = make_train_step(models.build(dataclasses.replace(config, remat=remat)), CAPTURE, LOSS)
        text = jax.jit(step).lower(TrainState(jnp.int32(0), params, params), batch_for(config)).as_text()
        counts.append(text.count("stablehlo.dot_general"))
    blocks = [1, 1, 2, 2] if isinstance(config, T5Config) else [1, 1]  # of attention in each layer
    products = 2 * sum(blocks)  # of queries with keys, and of their weights with values
    projections = sum(4 * count + len(config.mlp_activations) + 1 for count in blocks)
    # The result of a layer's last projection is nothing that the backward pass needs.
    assert counts[1:] == [counts[0] + products, counts[0] + products + projections - len(blocks)]


@pytest.mark.parametrize("remat", ["none", "full"])
@pytest.mark.parametrize("family", ["umt5", "decoder"], indirect=True)  # umT5 has a bias in each layer
def test_scanned_layers_have_the_gradients_of_unrolled_ones(rounding, family, remat):
    config, params, gradient = family
    scanned = dataclasses.replace(config, scan_layers=True, remat=remat)
    found = gradient_of(scanned, stack_layers(params))
    assert_same(rounding, found._replace(values=unstack_layers(found.values)), gradient)


@EACH_KIND
def test_bf16_gradients_point_where_fp32_ones_do(rounding, family):
    config, params, gradient = family
    found = gradient_of(dataclasses.replace(config, dtype="bfloat16"), params)
    ours, theirs = (
        jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(one.values)]) for one in (found, gradient)
    )
    # As vectors: so far apart, 0.0625 of their length, their cosine is 0.998 at least.
    most = rounding.rounding(64, 1.0, "bfloat16") / 2  # pieces; one of the two is exact
    assert jnp.linalg.norm(ours - theirs) <= most * jnp.linalg.norm(theirs)


@EACH_KIND
def test_label_and_explanation_gradients_add_up_by_their_weights(rounding, family):
    config, params, _ = family

    def weighted(label: float, explanation: float) -> Gradient:
        return gradient_of(config, params, LossConfig(label_weight=label, explanation_weight=explanation))

    label, explanation, both = weighted(1.0, 0.0), weighted(0.0, 1.0), weighted(3.0, 0.5)
    assert min(optax.tree.norm(label.values), optax.tree.norm(explanation.values)) > 0.1
    values = jax.tree.map(lambda one, other: 3.0 * one + 0.5 * other, label.values, explanation.values)
    assert_same(rounding, both, Gradient(3.0 * label.loss + 0.5 * explanation.loss, {}, values))
