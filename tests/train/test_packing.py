"""Packing changes how fast a split is read, not what is learnt from it."""

import flax.linen as nn
import jax
import pytest

from exaranker import models
from exaranker.files.shipped import shipped
from exaranker.losses.token import LossConfig
from exaranker.models.decoder import DecoderConfig
from exaranker.models.t5 import T5Config
from exaranker.tasks import register_dataset
from exaranker.templates import DECODER_ONLY, ENCODER_DECODER
from exaranker.train.batches import Batches, BatchSpec
from exaranker.train.step import make_eval_step

POSITIONS = 128 * (192 + 64)  # of the dataset's rows, the terms of a gradient's sum
SHAPE = {"vocab_size": 4096, "emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 16, "dtype": "float32"}
FAMILIES = {
    "t5": (ENCODER_DECODER, T5Config(**SHAPE, num_encoder_layers=2, num_decoder_layers=2), "exaranker"),
    "decoder": (DECODER_ONLY, DecoderConfig(**SHAPE, num_kv_heads=1, num_layers=2), "decoder"),
}


def epoch(template: str, **how: bool | int) -> tuple[dict[str, float], dict]:
    """Sums of all losses over one pass through the pairs, and the gradient of the whole loss."""
    family, config, _ = FAMILIES[template]
    lengths = {"inputs": 192, "targets": 64}
    task = f"exaranker_{template}_label_explanation"
    batches = Batches(BatchSpec(task, "train", lengths, 8, family, shuffle=False, repeat=False, trim=False, **how))
    module = models.build(config)
    forward = make_eval_step(module, LossConfig(label_weight=2.0, z_loss=0.01))

    def loss(params: dict, batch: dict) -> tuple[jax.Array, dict]:
        sums = forward({"params": params}, batch)
        return sums["loss"], sums

    first = next(batches).arrays
    params = nn.meta.unbox(module.init(jax.random.key(0), first)["params"])
    step = jax.jit(jax.grad(loss, has_aux=True))
    parts = [step(params, arrays) for arrays in (first, *(batch.arrays for batch in batches))]
    gradients, sums = (jax.tree.map(lambda *leaves: sum(leaves), *column) for column in zip(*parts, strict=True))
    return sums, gradients


@pytest.mark.parametrize("how", [{"pack": True}, {"pack": False, "pairs_per_row": 4}], ids=["packed", "shared"])
@pytest.mark.parametrize("template", FAMILIES)
def test_packed_and_unpacked_losses_and_gradients_agree(rounding, dataset, template, how):
    register_dataset(template, dataset, shipped("examples/sample") / "spiece.model", FAMILIES[template][2])
    (packed, ours), (unpacked, theirs) = epoch(template, **how), epoch(template, pack=False)
    assert packed["label_tokens"] == unpacked["label_tokens"] > 100
    assert packed["explanation_tokens"] == unpacked["explanation_tokens"] > 1000
    assert packed["label_correct"] == unpacked["label_correct"]
    for name in ("loss", "label_loss", "explanation_loss"):
        rounding.assert_equal_but_for_rounding(packed[name], unpacked[name], POSITIONS)
    jax.tree.map(lambda one, other: rounding.assert_equal_but_for_rounding(one, other, POSITIONS), ours, theirs)
