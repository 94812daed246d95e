"""One record says what a family is: shapes of batches, stacks of layers, and that its module takes them."""

import dataclasses
import json

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from exaranker import models
from exaranker.devices.mesh import RULES
from exaranker.losses.token import LossConfig
from exaranker.models import FAMILIES, ModelConfig, ModelFamily, family_of
from exaranker.models.decoder import DecoderConfig
from exaranker.models.family import Lengths, Stack
from exaranker.models.stack import unstack_layers
from exaranker.models.t5 import T5Config
from exaranker.models.t5gemma import T5GemmaConfig, Widths
from exaranker.templates import DECODER_ONLY, ENCODER_DECODER
from exaranker.train.step import TrainState, make_train_step

LENGTHS = {"inputs": 6, "targets": 3}
BATCHES = {
    ENCODER_DECODER: {
        "encoder_input_tokens": (2, 6),
        "encoder_segment_ids": (2, 6),
        "encoder_positions": (2, 6),
        "decoder_input_tokens": (2, 3),
        "decoder_target_tokens": (2, 3),
        "decoder_loss_weights": (2, 3),
        "decoder_label_weights": (2, 3),
        "decoder_segment_ids": (2, 3),
        "decoder_positions": (2, 3),
    },
    DECODER_ONLY: {
        "decoder_input_tokens": (2, 9),
        "decoder_target_tokens": (2, 9),
        "decoder_loss_weights": (2, 9),
        "decoder_label_weights": (2, 9),
        "decoder_segment_ids": (2, 9),
        "decoder_positions": (2, 9),
        "decoder_causal_attention": (2, 9),
    },
}
OF_PACKING = ("segment_ids", "positions")
SIZES = {"vocab_size": 32, "emb_dim": 8, "num_heads": 2, "num_kv_heads": 1, "head_dim": 4, "mlp_dim": 8}


EACH_FAMILY = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def tiny(family: ModelFamily) -> ModelConfig:
    """Two scanned layers per stack, in fp32."""
    fields = {field.name for field in dataclasses.fields(family.config)}
    config = family.config(**{name: size for name, size in SIZES.items() if name in fields})
    return dataclasses.replace(family.at_depth(config, 2), dtype="float32", scan_layers=True, remat="full")


@EACH_FAMILY
@pytest.mark.parametrize("pack", [True, False], ids=["packed", "padded"])
def test_the_batch_of_a_family(family, pack):
    expected = {
        name: shape for name, shape in BATCHES[family.template_family].items() if pack or not name.endswith(OF_PACKING)
    }
    shapes = family.batch_shapes(2, LENGTHS, pack)
    assert {name: shape for name, (shape, _) in shapes.items()} == expected
    kinds = {name: np.dtype(kind) for name, (_, kind) in shapes.items()}
    assert kinds == dict.fromkeys(expected, np.dtype("int32")) | {"decoder_label_weights": np.dtype("float32")}


@EACH_FAMILY
def test_a_few_steps_learn_a_batch_by_heart_and_scanned_layers_are_unrolled_ones(rounding, family):
    config, random = tiny(family), np.random.default_rng(0)
    shapes = family.batch_shapes(2, LENGTHS, pack=False)
    batch = {name: random.integers(2, 32, shape).astype(dtype) for name, (shape, dtype) in shapes.items()}
    batch |= {name: np.ones_like(batch[name]) for name in ("decoder_loss_weights", "decoder_label_weights")}
    params = nn.meta.unbox(jax.jit(models.build(config).init)(jax.random.key(0), batch)["params"])
    if family.is_decoder_only:
        assert set(models.build(config).head) <= params.keys()
    unrolled = models.build(dataclasses.replace(config, scan_layers=False, remat="none"))
    logits = (
        jax.jit(module.apply)({"params": values}, batch)
        for module, values in ((models.build(config), params), (unrolled, unstack_layers(params)))
    )
    # The longest sum is over positions; what the layers hand on is normed, at most the root of its width.
    atol = rounding.rounding(sum(LENGTHS.values()), SIZES["emb_dim"] ** 0.5)
    np.testing.assert_allclose(*logits, rtol=0, atol=atol)
    optimizer = optax.adam(0.01)
    step = jax.jit(make_train_step(models.build(config), optimizer, LossConfig()))
    state, losses = TrainState(jnp.int32(0), params, optimizer.init(params)), []
    for _ in range(20):
        state, sums = step(state, batch)
        losses.append(float(sums["loss"]))
    assert losses[-1] < 0.7 * losses[0]


@EACH_FAMILY
def test_every_matrix_is_split_on_a_mesh(family):
    """Its logical axes are ones that the rules lay out, over both kinds of model axes where it has two."""
    specs = nn.get_partition_spec(models.abstract_params(tiny(family)))
    for name, spec in flax.traverse_util.flatten_dict(specs, sep="/").items():
        laid_out = nn.logical_to_mesh_axes(spec, RULES)
        assert set(spec) <= {axis for axis, _ in RULES}, name
        if name.endswith(("kernel", "embedding")):
            assert {"fsdp", "tensor"} <= set(laid_out) or name.endswith("rel_embedding"), name


def test_stacks_of_unequal_depth():
    t5, decoder = T5Config(num_encoder_layers=4, num_decoder_layers=2), DecoderConfig(num_layers=5)
    assert family_of(t5).stacks(t5, Lengths(6, 3)) == [Stack(4, 6, 6, t5), Stack(2, 3, 9, t5)]
    assert family_of(decoder).stacks(decoder, Lengths(0, 9)) == [Stack(5, 9, 9, decoder)]


def test_stacks_of_unequal_widths():
    wide = Widths(emb_dim=16, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=32)
    config = T5GemmaConfig(num_encoder_layers=4, num_decoder_layers=2, encoder_widths=wide)
    encoder, decoder = family_of(config).stacks(config, Lengths(6, 3))
    assert (encoder, decoder[:3]) == (Stack(4, 6, 6, wide), (2, 3, 9))
    assert (decoder.widths.emb_dim, decoder.widths.num_heads) == (2304, 8)
    assert models.config_from_json(json.loads(json.dumps(models.config_to_json(config)))) == config


def test_another_depth_is_otherwise_the_same_model():
    assert FAMILIES["t5"].at_depth(T5Config(), 3) == T5Config(num_encoder_layers=3, num_decoder_layers=3)
    assert FAMILIES["decoder"].at_depth(DecoderConfig(), 3) == DecoderConfig(num_layers=3)
