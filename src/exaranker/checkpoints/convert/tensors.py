"""Parameters as a flat dict, checked against the model they are for: {"encoder/layers_0/mlp/wo/kernel": array}."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np

from exaranker.errors import InputError, nearest
from exaranker.models import ModelConfig, abstract_params
from exaranker.models.stack import stack_layers, unstack_layers

Tensors = dict[str, np.ndarray]


def to_tensors(params: Any) -> Tensors:
    """Flattens parameters, one entry per layer whether or not the model scans its layers."""
    host = jax.tree.map(np.asarray, params)
    return flax.traverse_util.flatten_dict(unstack_layers(host), sep="/")


def to_params(config: ModelConfig, tensors: Mapping[str, np.ndarray]) -> Any:
    """The inverse of `to_tensors`, stacked if the model scans its layers."""
    params = flax.traverse_util.unflatten_dict(dict(tensors), sep="/")
    return stack_layers(params) if config.scan_layers else params


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter of the unrolled model, without allocating any."""
    params = nn.meta.unbox(abstract_params(dataclasses.replace(config, scan_layers=False)))
    return {name: leaf.shape for name, leaf in flax.traverse_util.flatten_dict(params, sep="/").items()}


def check_tensors(config: ModelConfig, tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Compares names and shapes with the model's.

    Raises:
        InputError: names the first tensor that is missing, unknown, or of another shape.
    """
    expected = expected_shapes(config)
    for name, shape in expected.items():
        if name not in tensors:
            raise InputError(f"tensor {name} {shape} is missing", path=path, hint=nearest(name, tensors))
        if tensors[name].shape != shape:
            raise InputError(f"tensor {name} has shape {tensors[name].shape}, expected {shape}", path=path)
    for name in tensors.keys() - expected.keys():
        raise InputError(f"tensor {name} is not part of the model", path=path, hint=nearest(name, expected))


def check_finite(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Looks for values that no training gives.

    Raises:
        InputError: names the first tensor with NaN or infinite values, and how many there are.
    """
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            count = int(tensor.size - np.isfinite(tensor).sum())
            problem = f"tensor {name} has {count} of {tensor.size} values that are NaN or infinite"
            raise InputError(problem, path=path, hint="convert from a checkpoint before the training diverged")
