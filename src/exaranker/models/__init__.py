"""Rankers as flax modules: build one from its configuration, and keep configurations as JSON."""

from dataclasses import asdict, fields
from typing import Any

import flax.linen as nn

from exaranker.errors import InputError, nearest
from exaranker.models.decoder import DecoderConfig, DecoderOnly
from exaranker.models.t5 import T5, T5Config

ModelConfig = T5Config | DecoderConfig

FAMILIES: dict[str, type[ModelConfig]] = {"t5": T5Config, "decoder": DecoderConfig}


def build(config: ModelConfig) -> nn.Module:
    """The module of a configuration: `build(config).apply({"params": params}, batch)` gives fp32 logits."""
    return T5(config) if isinstance(config, T5Config) else DecoderOnly(config)


def config_to_json(config: ModelConfig) -> dict[str, Any]:
    """A configuration as a JSON object, with its family.

    >>> config_to_json(T5Config(vocab_size=128))["family"]
    't5'
    """
    family = next(name for name, kind in FAMILIES.items() if isinstance(config, kind))
    return {"family": family, **asdict(config), "mlp_activations": list(config.mlp_activations)}


def config_from_json(value: dict[str, Any]) -> ModelConfig:
    """Reads what `config_to_json` wrote.

    Raises:
        InputError: an unknown family or field.
    """
    given = dict(value)
    family = given.pop("family", None)
    if family not in FAMILIES:
        raise InputError(f"unknown model family {family!r}", hint=nearest(str(family), FAMILIES))
    known = {field.name for field in fields(FAMILIES[family])}
    for name in sorted(given.keys() - known):
        raise InputError(f"unknown field {name!r} in a {family} configuration", hint=nearest(name, known))
    given["mlp_activations"] = tuple(given["mlp_activations"])
    return FAMILIES[family](**given)
