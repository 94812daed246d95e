"""Hugging Face directories: config.json, weights and a tokenizer, as transformers loads them.

Reading takes everything or refuses: a tensor that our model has no place for means that it computes something else.
"""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from exaranker.checkpoints.convert.conversion import Conversion, Json
from exaranker.checkpoints.convert.families import (
    conversion_of,
    exported_as,
    from_hf_config,
    tensor_names,
    to_hf_config,
)
from exaranker.checkpoints.convert.tensors import Tensors, check_finite, check_tensors, to_params, to_tensors
from exaranker.checkpoints.convert.weights import ORIGINAL, WEIGHTS, read_tensors
from exaranker.errors import InputError
from exaranker.files import read_json, write_json
from exaranker.logs import say
from exaranker.models import ModelConfig, family_of
from exaranker.tokenization import Tokenizer

MERGE = "import its base, then the adapter with --format peft; or merge them: PEFT's merge_and_unload()"
# What a tensor's name says of why it has no place here, and the remedy.
FOREIGN = (
    (re.compile(r"lora_|\.base_layer\.|modules_to_save"), MERGE),
    (re.compile(r"SCB|weight_format|absmax|quant|qweight|qzeros|\.scales?$|_scale_inv$|g_idx"), ORIGINAL),
    (re.compile(r"^(score|classifier|classification_head|qa_outputs)\b"), "a classifier's head is no language model's"),
)
LAYER = re.compile(r"\b(encoder|decoder|model)\.(?:block|layers)\.(\d+)\.")


def read_huggingface(directory: Path) -> tuple[ModelConfig, Any]:
    """Reads configuration and fp32 parameters.

    Raises:
        InputError: a file or tensor is missing, misshapen, quantised, not finite or one too many, or the architecture
            is not one of ours.
    """
    path = directory / "config.json"
    given = read_json(path)
    if not isinstance(given, dict):
        raise InputError("expected a JSON object", path=path)
    try:
        return _read_as(conversion_of(given), given, directory)
    except InputError:
        raise
    except (TypeError, ValueError, OverflowError, AttributeError, LookupError, ArithmeticError) as error:
        problem = f"a value is of the wrong type or size: {' '.join(str(error).split())[:120]}"
        raise InputError(problem, path=path, hint="fetch the model again") from error


def _read_as(conversion: Conversion, given: Json, directory: Path) -> tuple[ModelConfig, Any]:
    _refuse_foreign(conversion, given, directory)
    stored = read_tensors(directory)
    _unite_copies(conversion, given, stored, directory)
    _leave_images(conversion, stored, directory)
    config = from_hf_config(given, stored)
    names = tensor_names(config)
    _refuse_unread(config, stored.keys() - {name.theirs for name in names}, directory)
    tensors: Tensors = {}
    for name in names:
        if name.theirs not in stored:
            raise InputError(f"tensor {name.theirs} is missing", path=directory, hint="fetch the model again")
        tensor = stored.pop(name.theirs).astype(np.float32)
        tensors[name.ours] = np.ascontiguousarray(tensor.T) if name.transposed else tensor
    check_tensors(config, tensors, directory)
    check_finite(tensors, directory)
    return config, to_params(config, tensors)


def write_huggingface(directory: Path, config: ModelConfig, params: Any, tokenizer: Tokenizer) -> None:
    """Writes config.json and weights that AutoModelForSeq2SeqLM or AutoModelForCausalLM loads; exact, in fp32."""
    tensors = to_tensors(params)
    check_tensors(config, tensors, directory)
    stored = {
        name.theirs: np.ascontiguousarray(tensors[name.ours].T if name.transposed else tensors[name.ours])
        for name in tensor_names(config)
    }
    stored |= exported_as(config).fillers(config)
    directory.mkdir(parents=True, exist_ok=True)
    save_file(stored, directory / WEIGHTS, metadata={"format": "pt"})
    write_json(directory / "config.json", to_hf_config(config, tokenizer))


def _refuse_foreign(conversion: Conversion, given: Json, directory: Path) -> None:
    """What config.json says of models that we do not compute."""
    path = directory / "config.json"
    if given.get("quantization_config"):
        method = dict(given["quantization_config"]).get("quant_method", "unknown")
        raise InputError(f"quantization_config: the weights are quantised ({method})", path=path, hint=ORIGINAL)
    for architecture in given.get("architectures") or []:
        if architecture not in (conversion.architecture, *conversion.aliases):
            problem = f"architecture {architecture!r} is not supported"
            raise InputError(problem, path=path, hint=f"a {conversion.model_type} has to be {conversion.architecture}")
    if (directory / "adapter_config.json").is_file():
        raise InputError("an adapter lies beside the weights", path=directory / "adapter_config.json", hint=MERGE)


def _unite_copies(conversion: Conversion, given: Json, stored: Tensors, directory: Path) -> None:
    """Drops what is stored twice: older files repeat the embeddings under each of their names, and tied heads."""
    for copy, original in conversion.copies.items():
        if copy not in stored:
            continue
        if not _same(tensor := stored.pop(copy), stored.setdefault(original, tensor)):
            problem = f"tensors {copy} and {original} differ, in a model that has them as one"
            raise InputError(problem, path=directory, hint="fetch the model again")
    tied = given.get("tie_word_embeddings", conversion.tied)
    embedding = conversion.embedding
    if tied and conversion.head in stored and _same(stored[conversion.head], stored.get(embedding)):
        del stored[conversion.head]
    if not tied and conversion.head not in stored:
        problem = f"tensor {conversion.head} is missing, and config.json has tie_word_embeddings false"
        raise InputError(problem, path=directory, hint="a model without its output layer cannot score: fetch it again")
    for name in [name for name in stored if conversion.unused.search(name)]:
        del stored[name]


def _leave_images(conversion: Conversion, stored: Tensors, directory: Path) -> None:
    pattern = conversion.of_images
    names = [name for name in stored if pattern and pattern.search(name)]
    for name in names:
        del stored[name]
    if names:
        say(f"{directory}: left out {len(names)} tensors that are there for images: a ranker reads texts")


def _same(one: np.ndarray, other: np.ndarray | None) -> bool:
    return other is not None and one.dtype == other.dtype and np.array_equal(one, other)


def _refuse_unread(config: ModelConfig, unread: Collection[str], directory: Path) -> None:
    if not unread:
        return
    name = min(unread)
    problem = f"{len(unread)} tensors have no place in this model, among them {name}"
    for known, remedy in FOREIGN:
        if known_names := sorted(filter(known.search, unread)):
            problem = f"{len(unread)} tensors have no place in this model, among them {known_names[0]}"
            raise InputError(problem, path=directory, hint=remedy)
    depths = [getattr(config, depth) for depth in family_of(config).depths]
    if (found := LAYER.search(name)) and int(found[2]) >= min(depths):
        raise InputError(problem, path=directory, hint=f"config.json says {' and '.join(map(str, depths))} layers")
    raise InputError(problem, path=directory, hint="it computes something that ours does not: it cannot be imported")
