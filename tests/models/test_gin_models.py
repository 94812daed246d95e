"""Every file of gin/models gives the configuration its name promises."""

import dataclasses
from pathlib import Path

import jax
import pytest

import gin
from exaranker import models
from exaranker.gin_config import parse_gin

GIN = Path(__file__).parents[2] / "gin"
MODELS = GIN / "models"
SIZES = sorted(path for path in MODELS.glob("*/*.gin") if path.stem != "common")

# Millions of parameters; the publications round them. Flan and LM-adapted models share v1.1's shapes.
PARAMETERS = {
    "t5_1_0/small": 60.5,
    "t5_1_0/base": 222.9,
    "t5_1_0/large": 737.7,
    "t5_1_0/3b": 2851.6,
    "t5_1_0/11b": 11307.3,
    "t5_1_1/small": 77.0,
    "t5_1_1/base": 247.6,
    "t5_1_1/large": 783.2,
    "t5_1_1/xl": 2849.8,
    "t5_1_1/xxl": 11135.3,
    "mt5/small": 300.2,
    "mt5/base": 582.4,
    "mt5/large": 1229.6,
    "mt5/xl": 3742.6,
    "mt5/xxl": 12921.1,
    "byt5/small": 299.6,
    "byt5/base": 581.7,
    "byt5/large": 1228.2,
    "byt5/xl": 3737.8,
    "byt5/xxl": 12906.9,
    "umt5/small": 306.6,
    "umt5/base": 592.0,
    "umt5/xl": 3768.4,
    "umt5/xxl": 12972.5,
    "t5_1_1/tiny": 4.3,
    "t5_1_1/sample": 8.4,
    "decoder/tiny": 3.2,
    "smollm2/135m": 134.5,
    "smollm2/360m": 361.8,
    "smollm2/1_7b": 1711.4,
    "llama2/7b": 6738.4,
    "llama3/8b": 8030.3,
    "qwen2/0_5b": 494.0,
    "qwen2/1_5b": 1543.7,
    "qwen2/7b": 7615.6,
    "qwen3/0_6b": 596.0,
    "qwen3/4b": 4022.5,
    "qwen3/8b": 8190.7,
    "t5gemma/s_s": 312.5,
    "t5gemma/b_b": 591.5,
    "t5gemma/2b_2b": 5596.9,
    "t5gemma2/270m_270m": 368.4,
    "t5gemma2/1b_1b": 1697.8,
    "t5gemma2/4b_4b": 7089.1,
}


@pytest.mark.parametrize("name", [str(path.relative_to(MODELS).with_suffix("")) for path in SIZES])
def test_number_of_parameters(name):
    parse_gin([], [f"include 'models/{name}.gin'"], str(GIN))
    config = gin.query_parameter("%MODEL").scoped_configurable_fn()
    assert config == models.config_from_json(models.config_to_json(config))
    name = name.replace("flan_t5", "t5_1_1").replace("t5_1_1_lm100k", "t5_1_1")
    assert millions_of_parameters(config) == pytest.approx(PARAMETERS[name], abs=0.1)


def millions_of_parameters(config):
    """Counted without allocating, and scanned, which is quick to trace."""
    params = models.abstract_params(dataclasses.replace(config, scan_layers=True))
    return sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6
