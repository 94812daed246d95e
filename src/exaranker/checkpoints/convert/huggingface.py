"""Hugging Face directories: config.json, safetensors and a tokenizer, as transformers loads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from exaranker.checkpoints.convert.families import from_hf_config, tensor_names, to_hf_config
from exaranker.checkpoints.convert.tensors import Tensors, check_tensors, to_params, to_tensors
from exaranker.errors import InputError
from exaranker.files import read_json, write_json
from exaranker.models import ModelConfig
from exaranker.tokenization import HUGGINGFACE_ROLES, ByteTokenizer, Tokenizer

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def read_huggingface(directory: Path) -> tuple[ModelConfig, Any]:
    """Reads configuration and fp32 parameters.

    Raises:
        InputError: a file or tensor is missing or misshapen, or the architecture is not one of ours.
    """
    stored = _read_tensors(directory)
    config = from_hf_config(read_json(directory / "config.json"), stored)
    tensors: Tensors = {}
    for name in tensor_names(config):
        if name.theirs not in stored:
            raise InputError(f"tensor {name.theirs} is missing", path=directory)
        tensor = stored[name.theirs].astype(np.float32)
        tensors[name.ours] = np.ascontiguousarray(tensor.T) if name.transposed else tensor
    check_tensors(config, tensors, directory)
    return config, to_params(config, tensors)


def write_huggingface(directory: Path, config: ModelConfig, params: Any, tokenizer: Tokenizer) -> None:
    """Writes a directory that AutoModelForSeq2SeqLM or AutoModelForCausalLM loads; the weights are exact, in fp32."""
    tensors = to_tensors(params)
    check_tensors(config, tensors, directory)
    stored = {
        name.theirs: np.ascontiguousarray(tensors[name.ours].T if name.transposed else tensors[name.ours])
        for name in tensor_names(config)
    }
    directory.mkdir(parents=True, exist_ok=True)
    save_file(stored, directory / WEIGHTS, metadata={"format": "pt"})
    write_json(directory / "config.json", to_hf_config(config, tokenizer))
    tokenizer.save(directory)
    if isinstance(tokenizer, ByteTokenizer):  # there is no file by which AutoTokenizer could tell
        write_json(directory / HUGGINGFACE_ROLES, {"tokenizer_class": "ByT5Tokenizer"})


def _read_tensors(directory: Path) -> Mapping[str, np.ndarray]:
    tensors: Tensors = {}
    for path in _weight_files(directory):
        try:
            with safe_open(path, framework="np") as stored:
                tensors.update({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot be read: {error}", path=path) from error
    return tensors


def _weight_files(directory: Path) -> list[Path]:
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    if (directory / INDEX).is_file():
        weight_map = read_json(directory / INDEX)["weight_map"]
        return [directory / name for name in sorted(set(weight_map.values()))]
    raise InputError(f"no {WEIGHTS} here", path=directory, hint="save the model with safetensors")
