"""One record says what a family is: shapes of batches, stacks of layers, and that its module takes them."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exaranker import models
from exaranker.models import FAMILIES, family_of
from exaranker.models.decoder import DecoderConfig
from exaranker.models.family import Lengths, Stack
from exaranker.models.t5 import T5Config
from exaranker.templates import DECODER_ONLY, ENCODER_DECODER

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


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("pack", [True, False], ids=["packed", "padded"])
def test_a_module_takes_the_batch_of_its_family(family, pack):
    fields = {field.name for field in dataclasses.fields(family.config)}
    config = family.at_depth(family.config(**{name: size for name, size in SIZES.items() if name in fields}), 1)
    shapes = family.batch_shapes(2, LENGTHS, pack)
    expected = {
        name: shape for name, shape in BATCHES[family.template_family].items() if pack or not name.endswith(OF_PACKING)
    }
    assert {name: shape for name, (shape, _) in shapes.items()} == expected
    kinds = {name: np.dtype(kind) for name, (_, kind) in shapes.items()}
    assert kinds == dict.fromkeys(expected, np.dtype("int32")) | {"decoder_label_weights": np.dtype("float32")}
    module = models.build(config)
    batch = {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in shapes.items()}
    params = nn.meta.unbox(models.abstract_params(config))
    logits = jax.eval_shape(lambda params, batch: module.apply({"params": params}, batch), params, batch)
    assert (logits.shape, logits.dtype) == ((*expected["decoder_input_tokens"], 32), jnp.float32)
    if family.is_decoder_only:
        assert set(module.head) <= params.keys()


def test_stacks_of_unequal_depth():
    t5, decoder = T5Config(num_encoder_layers=4, num_decoder_layers=2), DecoderConfig(num_layers=5)
    assert family_of(t5).stacks(t5, Lengths(6, 3)) == [Stack(4, 6, 6), Stack(2, 3, 9)]
    assert family_of(decoder).stacks(decoder, Lengths(0, 9)) == [Stack(5, 9, 9)]


def test_another_depth_is_otherwise_the_same_model():
    assert FAMILIES["t5"].at_depth(T5Config(), 3) == T5Config(num_encoder_layers=3, num_decoder_layers=3)
    assert FAMILIES["decoder"].at_depth(DecoderConfig(), 3) == DecoderConfig(num_layers=3)
