"""Rankers as flax modules: build one from its configuration, and keep configurations as JSON."""

from dataclasses import asdict, fields, is_dataclass
from typing import Any, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from exaranker.errors import InputError, nearest
from exaranker.models.family import FAMILIES, ModelConfig, ModelFamily, family_of

__all__ = [
    "FAMILIES",
    "ModelConfig",
    "ModelFamily",
    "abstract_params",
    "build",
    "config_from_json",
    "config_to_json",
    "family_of",
]


def build(config: ModelConfig) -> nn.Module:
    """The module of a configuration: `build(config).apply({"params": params}, batch)` gives fp32 logits."""
    return family_of(config).module(config)


def abstract_params(config: ModelConfig) -> Any:
    """Shapes, and in flax's boxes the logical axes, of all parameters; none is allocated."""
    tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    batch = {"encoder_input_tokens": tokens, "decoder_input_tokens": tokens}
    return jax.eval_shape(build(config).init, jax.random.key(0), batch)["params"]


def config_to_json(config: ModelConfig) -> dict[str, Any]:
    """A configuration as a JSON object, with its family.

    >>> config_to_json(FAMILIES["t5"].config(vocab_size=128))["family"]
    't5'
    """
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}
    return {"family": family_of(config).name, **values}


def config_from_json(value: dict[str, Any]) -> ModelConfig:
    """Reads what `config_to_json` wrote.

    Raises:
        InputError: an unknown family or field, or a value that a field cannot have.
    """
    given = dict(value)
    family = given.pop("family", None)
    if family not in FAMILIES:
        raise InputError(f"unknown model family {family!r}", hint=nearest(str(family), FAMILIES))
    kind = FAMILIES[family].config
    known = {field.name: field.type for field in fields(kind)}
    for name in sorted(given.keys() - known):
        raise InputError(f"unknown field {name!r} in a {family} configuration", hint=nearest(name, known))
    return kind(**{name: _from_json(known[name], value) for name, value in given.items()})


def _from_json(kind: Any, value: Any) -> Any:
    if isinstance(value, dict):
        record: Any = next(filter(is_dataclass, get_args(kind)))
        return record(**value)
    return tuple(value) if isinstance(value, list) else value
