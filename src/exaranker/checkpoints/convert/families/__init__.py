"""The model types of Hugging Face that are converted: one file per family, one table of all."""

from collections.abc import Container
from typing import Any

from exaranker.checkpoints.convert.conversion import Conversion, Json, Name
from exaranker.checkpoints.convert.families.llama import LLAMA, QWEN2
from exaranker.checkpoints.convert.families.qwen3 import QWEN3
from exaranker.checkpoints.convert.families.t5 import MT5, T5, UMT5
from exaranker.checkpoints.convert.families.t5gemma import T5GEMMA
from exaranker.checkpoints.convert.families.t5gemma2 import T5GEMMA2
from exaranker.errors import InputError, nearest
from exaranker.models import ModelConfig
from exaranker.tokenization import Tokenizer

# Of several that hold a configuration, the first is what it is exported as.
CONVERSIONS = {
    conversion.model_type: conversion for conversion in (T5, MT5, UMT5, LLAMA, QWEN2, QWEN3, T5GEMMA, T5GEMMA2)
}


def conversion_of(given: Json) -> Conversion:
    """How the model of a config.json is converted.

    Raises:
        InputError: its model_type is not one of ours.
    """
    kind = str(given.get("model_type"))
    if kind not in CONVERSIONS:
        raise InputError(f"model_type {kind!r} is not supported", hint=nearest(kind, CONVERSIONS))
    return CONVERSIONS[kind]


def from_hf_config(given: Json, stored: Container[str]) -> ModelConfig:
    """Reads a config.json; `stored` are the names of the tensors beside it.

    Raises:
        InputError: the architecture, or an option of it, is not one of ours.
    """
    return conversion_of(given).read_config(given, stored)


def to_hf_config(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """Writes a configuration that transformers reads as the same function.

    Raises:
        InputError: transformers has no architecture that computes it.
    """
    return exported_as(config).write_config(config, tokenizer)


def tensor_names(config: ModelConfig) -> list[Name]:
    """Every tensor by our name and by Hugging Face's.

    Raises:
        InputError: transformers has no architecture that computes it.
    """
    return list(exported_as(config).names(config))


def exported_as(config: ModelConfig) -> Conversion:
    """The model type that computes what a configuration says.

    Raises:
        InputError: there is none; it names a field that the nearest says otherwise.
    """
    candidates = [conversion for conversion in CONVERSIONS.values() if conversion.config is type(config)]
    best = min(candidates, key=lambda conversion: len(conversion.contradictions(config)))
    for name in best.contradictions(config):
        raise InputError(
            f"{name} {getattr(config, name)!r} is nothing that transformers knows for this architecture",
            hint=f"{best.model_type} has {best.implied[name]!r}",
        )
    return best
