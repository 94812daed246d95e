"""The arithmetic of a forward pass, against what the compiler counts."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from exaranker import models
from exaranker.devices.flops import forward_flops
from exaranker.models.t5 import T5Config
from exaranker.models.t5gemma import T5GemmaConfig
from exaranker.models.t5gemma2 import T5Gemma2Config

SIZES: dict[str, Any] = {"vocab_size": 256, "emb_dim": 256, "num_heads": 4, "head_dim": 64, "mlp_dim": 512}
SIZES |= {"num_encoder_layers": 1, "num_decoder_layers": 1, "dtype": "float32"}
BATCH = {"encoder_input_tokens": np.ones((4, 256), np.int32), "decoder_input_tokens": np.ones((4, 64), np.int32)}


@pytest.mark.parametrize(
    "config",
    [T5Config(**SIZES), T5GemmaConfig(**SIZES, num_kv_heads=2), T5Gemma2Config(**SIZES, num_kv_heads=2)],
    ids=["t5", "t5gemma", "t5gemma2"],
)
def test_products_are_all_but_a_few_percent_of_what_the_compiler_counts(config):
    """Norms, activations, softmax and rotations are the rest."""
    module, params = models.build(config), nn.meta.unbox(models.abstract_params(config))
    compiled = jax.jit(lambda params, batch: module.apply({"params": params}, batch)).lower(params, BATCH).compile()
    assert 0.97 < forward_flops(config, params, BATCH) / compiled.cost_analysis()["flops"] < 1.0
