"""The tensors of a Hugging Face directory: safetensors, or torch's `.bin` by its loader that runs no code."""

import pickle
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from exaranker.checkpoints.convert.tensors import Tensors
from exaranker.errors import InputError, require
from exaranker.files import read_json

WEIGHTS = "model.safetensors"
TORCH_WEIGHTS = "pytorch_model.bin"
FLOATS = ("F64", "F32", "F16", "BF16")  # safetensors' names
ORIGINAL = "quantised weights cannot be trained on: give the model in float32, bfloat16 or float16"


def read_tensors(directory: Path, files: tuple[str, str] = (WEIGHTS, TORCH_WEIGHTS)) -> Tensors:
    """All tensors by name, floats as they are stored; `files` are the names of safetensors and of torch's file.

    Raises:
        InputError: there are no weights, a file is missing, cannot be read or holds more than tensors, or a tensor
            is not of floats.
    """
    read, paths = _read_safetensors, _files(directory, files[0])
    if not paths:
        read, paths = _read_torch, _files(directory, files[1])
    if not paths:
        hint = f"expected {files[0]} or {files[1]}, or the index of either"
        raise InputError(f"no {files[0]} here", path=directory, hint=hint)
    tensors: Tensors = {}
    for path in paths:
        if not path.is_file():
            raise InputError("cannot be read: no such file", path=path, hint="fetch the model again")
        tensors |= read(path)
    return tensors


def _files(directory: Path, name: str) -> list[Path]:
    if (directory / name).is_file():
        return [directory / name]
    index = directory / f"{name}.index.json"
    if not index.is_file():
        return []
    given = read_json(index)
    weight_map = given.get("weight_map") if isinstance(given, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError("has no weight_map of tensors to files", path=index, hint="fetch the model again")
    names = sorted({str(file) for file in weight_map.values()})
    for file in names:
        if Path(file).name != file:
            raise InputError(f"weight_map names {file!r}, which is not a file of this folder", path=index)
    return [directory / file for file in names]


def _read_safetensors(path: Path) -> Tensors:
    try:
        with safe_open(path, framework="np") as stored:
            for name in stored.keys():  # noqa: SIM118
                _check_kind(name, stored.get_slice(name).get_dtype(), FLOATS, path)
            return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot be read: {error}", path=path, hint="fetch the model again") from error


def _read_torch(path: Path) -> Tensors:
    torch: Any = require("torch", "explain")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        problem = f"cannot be read as tensors alone: {str(error).splitlines()[0][:120]}"
        raise InputError(problem, path=path, hint="save the model with safetensors") from error
    if not isinstance(stored, dict) or not all(isinstance(value, torch.Tensor) for value in stored.values()):
        raise InputError("holds something else than tensors by name", path=path, hint="save it with safetensors")
    floats = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
    for name, tensor in stored.items():
        _check_kind(name, tensor.dtype, floats, path)
    return {name: _to_numpy(tensor.detach().contiguous(), torch) for name, tensor in stored.items()}


def _to_numpy(tensor: Any, torch: Any) -> np.ndarray:
    if tensor.dtype is torch.bfloat16:  # numpy has no such type of its own
        return tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _check_kind(name: str, kind: Any, known: Any, path: Path) -> None:
    if kind not in known:
        raise InputError(f"tensor {name} is of type {kind}, expected floats", path=path, hint=ORIGINAL)
