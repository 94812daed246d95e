"""PEFT's directories of a LoRA adapter: adapter_config.json and adapter_model.safetensors, as PeftModel loads them."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict
from safetensors.numpy import save_file

from exaranker.checkpoints.convert.conversion import Field, Json, read_fields, write_fields
from exaranker.checkpoints.convert.families import exported_as, tensor_names
from exaranker.checkpoints.convert.tensors import Tensors, check_finite, to_tensors
from exaranker.checkpoints.convert.weights import read_tensors
from exaranker.checkpoints.store import check_same_arrays
from exaranker.errors import InputError, nearest
from exaranker.files import read_json, require_shape, write_json
from exaranker.models import ModelConfig, abstract_params, family_of
from exaranker.models.lora import Lora, abstract_adapter

CONFIG, WEIGHTS, TORCH_WEIGHTS = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model."
FIELDS = (
    Field("rank", "r"),
    Field("alpha", "lora_alpha"),
    Field("dropout", "lora_dropout", 0.0),
    Field("rslora", "use_rslora", False),
)
# Fields that the tensors tell too, or that say nothing of what is computed.
PASSED_OVER = {"peft_type", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"}
PASSED_OVER |= {"base_model_name_or_path", "revision", "task_type", "auto_mapping", "inference_mode", "peft_version"}
PASSED_OVER |= {"megatron_core", "qalora_group_size", "init_lora_weights"}
# Of these, the base's weights are not those that the adapter is added to.
CHANGES_BASE = re.compile(r"pissa.*|olora|loftq|corda|lora_ga")
MERGE = "merge it with PEFT, merge_and_unload() and save_pretrained(), and import the whole model with --format hf"
MATRIX = re.compile(rf"{re.escape(PREFIX)}(.+)\.lora_(A|B)\.weight")


def read_peft(directory: Path, config: ModelConfig) -> tuple[Lora, Any]:
    """Reads an adapter of a model of this configuration, unrolled; the matrices keep their type.

    Raises:
        InputError: a file or matrix is missing or misshapen, is of no dense layer of the model, or the adapter has
            something that ours have not.
    """
    settings = _read_settings(directory / CONFIG)
    stored = read_tensors(directory, (WEIGHTS, TORCH_WEIGHTS))
    layers = {theirs: ours for ours, theirs in _dense_layers(config).items()}
    matrices = dict(_ours(key, tensor, layers, directory) for key, tensor in stored.items())
    adapted = {name.rpartition("/")[0] for name in matrices}
    try:
        lora = Lora(**settings, layers=tuple(_shortest(adapted, layers.values(), "/")))
    except InputError as error:
        raise InputError(str(error), path=directory / CONFIG) from error
    expected = abstract_adapter(lora, abstract_params(config))
    adapter = unflatten_dict(matrices, sep="/")
    hint = "the adapter is of another model than --base, or a file of it is damaged"
    check_same_arrays(adapter, expected, directory, "adapter", hint, other="base")
    check_finite(matrices, directory)
    return lora, adapter


def write_peft(directory: Path, config: ModelConfig, lora: Lora, adapter: Any) -> None:
    """Writes an adapter, for the model that `write_huggingface` makes of its base."""
    layers, matrices = _dense_layers(config), to_tensors(adapter)
    stored: Tensors = {}
    for name, matrix in matrices.items():
        layer, _, part = name.rpartition("/")
        stored[f"{PREFIX}{layers[layer]}.lora_{part.upper()}.weight"] = np.ascontiguousarray(matrix.T)
    adapted = {layers[name.rpartition("/")[0]] for name in matrices}
    task = "CAUSAL_LM" if family_of(config).is_decoder_only else "SEQ_2_SEQ_LM"
    names = {"peft_type": "LORA", "task_type": task, "base_model_name_or_path": None, "bias": "none"}
    modules = {"target_modules": _shortest(adapted, layers.values(), ".")}
    directory.mkdir(parents=True, exist_ok=True)
    save_file(stored, directory / WEIGHTS, metadata={"format": "pt"})
    write_json(directory / CONFIG, {**names, **write_fields(FIELDS, lora), **modules, "inference_mode": True})


def _read_settings(path: Path) -> dict[str, Any]:
    given = read_json(path)
    if not isinstance(given, dict):
        raise InputError("expected a JSON object", path=path)
    if given.get("peft_type") != "LORA":
        raise InputError(f"peft_type {given.get('peft_type')!r} is not supported", path=path, hint="only 'LORA' is")
    for name in sorted(given.keys() - PASSED_OVER - {field.theirs for field in FIELDS}):
        if given[name] not in (None, False, {}, [], "none"):
            raise InputError(f"{name} {given[name]!r} is not supported", path=path, hint=MERGE)
    started = str(given.get("init_lora_weights", True))
    if CHANGES_BASE.fullmatch(started):
        raise InputError(f"init_lora_weights {started!r} changes the base's weights", path=path, hint=MERGE)
    return _settings(given, path)


def _settings(given: Json, path: Path) -> dict[str, Any]:
    settings = read_fields(FIELDS, given)
    numbers = {"lora_alpha": settings["alpha"], "lora_dropout": settings["dropout"]}
    require_shape(numbers, dict.fromkeys(numbers, float), path=path)
    return {**settings, "alpha": float(settings["alpha"]), "dropout": float(settings["dropout"])}


def _dense_layers(config: ModelConfig) -> dict[str, str]:
    """PEFT's name of each dense layer, by ours."""
    conversion = exported_as(config)
    kernels = (name for name in tensor_names(config) if name.ours.endswith("/kernel"))
    return {name.ours.removesuffix("/kernel"): conversion.module(name.theirs) for name in kernels}


def _ours(key: str, tensor: np.ndarray, layers: Mapping[str, str], directory: Path) -> tuple[str, np.ndarray]:
    match = MATRIX.fullmatch(key)
    if match is None or match[1] not in layers:
        close = nearest(match[1], layers) if match else MERGE
        raise InputError(f"tensor {key} is no low-rank matrix of a dense layer of the base", path=directory, hint=close)
    return f"{layers[match[1]]}/{match[2].lower()}", np.ascontiguousarray(tensor.T)


def _shortest(chosen: Collection[str], every: Collection[str], separator: str) -> list[str]:
    """The last parts of the chosen names, if no other name ends so, else the whole names.

    >>> _shortest({"0/query", "1/query"}, ["0/query", "1/query", "0/key"], "/")
    ['query']
    """
    ends = {name.rpartition(separator)[2] for name in chosen}
    selected = {name for name in every if name.rpartition(separator)[2] in ends}
    return sorted(ends if selected == set(chosen) else chosen)
