"""Every file of gin/models gives the configuration its name promises."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import gin
from exaranker import models
from exaranker.gin_flags import parse_gin

GIN = Path(__file__).parents[2] / "gin"
FILES = sorted((GIN / "models").glob("*.gin"))
FAMILY_FILES = {"t5_1_0", "t5_1_1", "mt5", "umt5", "byt5", "decoder"}

# Millions of parameters; the publications round them. Flan and LM-adapted models share v1.1's shapes.
PARAMETERS = {
    "t5_1_0_small": 60.5,
    "t5_1_0_base": 222.9,
    "t5_1_0_large": 737.7,
    "t5_1_0_3b": 2851.6,
    "t5_1_0_11b": 11307.3,
    "t5_1_1_small": 77.0,
    "t5_1_1_base": 247.6,
    "t5_1_1_large": 783.2,
    "t5_1_1_xl": 2849.8,
    "t5_1_1_xxl": 11135.3,
    "mt5_small": 300.2,
    "mt5_base": 582.4,
    "mt5_large": 1229.6,
    "mt5_xl": 3742.6,
    "mt5_xxl": 12921.1,
    "byt5_small": 299.6,
    "byt5_base": 581.7,
    "byt5_large": 1228.2,
    "byt5_xl": 3737.8,
    "byt5_xxl": 12906.9,
    "umt5_small": 306.6,
    "umt5_base": 592.0,
    "umt5_xl": 3768.4,
    "umt5_xxl": 12972.5,
    "t5_tiny": 4.3,
    "t5_sample": 8.4,
    "decoder_tiny": 3.2,
    "smollm2_135m": 134.5,
    "smollm2_360m": 361.8,
    "smollm2_1_7b": 1711.4,
    "llama2_7b": 6738.4,
    "llama3_8b": 8030.3,
    "qwen2_0_5b": 494.0,
    "qwen2_1_5b": 1543.7,
    "qwen2_7b": 7615.6,
}


@pytest.mark.parametrize("path", [path for path in FILES if path.stem not in FAMILY_FILES], ids=lambda path: path.stem)
def test_number_of_parameters(path):
    parse_gin([], [f"include 'models/{path.name}'"], str(GIN))
    config = gin.query_parameter("%MODEL").scoped_configurable_fn()
    assert config == models.config_from_json(models.config_to_json(config))
    name = path.stem.replace("flan_t5", "t5_1_1").replace("t5_1_1_lm100k", "t5_1_1")
    assert millions_of_parameters(config) == pytest.approx(PARAMETERS[name], abs=0.1)


def millions_of_parameters(config):
    """Counted without allocating, and scanned, which is quick to trace."""
    module = models.build(dataclasses.replace(config, scan_layers=True))
    tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    batch = {"encoder_input_tokens": tokens, "decoder_input_tokens": tokens}
    params = jax.eval_shape(module.init, jax.random.key(0), batch)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6
