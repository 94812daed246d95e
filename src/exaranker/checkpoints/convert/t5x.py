"""T5X checkpoints: reads the legacy (msgpack and zarr) and the Orbax layout, writes the legacy one.

T5X restores the legacy layout everywhere, for inference and, with the Adafactor slots written here, for fine-tuning.
A T5X checkpoint says nothing of its configuration: it is inferred from the names and shapes of the tensors.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.serialization
import flax.traverse_util
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from exaranker.checkpoints.convert.tensors import Tensors, check_finite, check_tensors, to_params, to_tensors
from exaranker.errors import InputError
from exaranker.models import ModelConfig, family_of
from exaranker.models.t5 import T5Config

VERSION = 3  # of the msgpack file, as T5X writes it
MSGPACK = "checkpoint"
CHUNK_BYTES = 2**27  # larger tensors are split along their first axis
# T5X's Adafactor keeps row and column sums of tensors whose last two axes are at least this long.
FACTORED_FROM = 128


class T5XCheckpoint(NamedTuple):
    """What is in a `checkpoint_N`; `slots` are Adafactor's accumulators in use, {"encoder/…/kernel/v_row": array}."""

    config: T5Config
    params: Any  # fp32
    step: int
    slots: Tensors


def read_t5x(directory: Path) -> T5XCheckpoint:
    """Reads configuration, parameters, step and Adafactor's slots of `checkpoint_N`.

    Slots of scanned layers, which T5X factors by rules of its own, are left out.

    Raises:
        InputError: it is not a T5X checkpoint, or a tensor is missing or misshapen.
    """
    state = _read_state(directory)
    tensors = dict(_unscanned(_flatten(state["target"])))
    config = infer_config(tensors, directory)
    check_tensors(config, tensors, directory)
    check_finite(tensors, directory)
    slots = _slots_in_use(state["state"].get("param_states") or {}, tensors, directory)
    return T5XCheckpoint(config, to_params(config, tensors), int(np.asarray(state["state"]["step"])), slots)


def write_t5x(
    directory: Path, config: ModelConfig, params: Any, step: int, slots: Mapping[str, np.ndarray] | None = None
) -> Path:
    """Writes `directory/checkpoint_<step>` and returns its path; without `slots`, Adafactor's are empty.

    Raises:
        InputError: the model is not a T5, the only family this layout is for.
    """
    if not isinstance(config, T5Config):
        raise InputError(f"T5X checkpoints hold T5s, this is a {family_of(config).name}", hint="export --format hf")
    target = directory / f"checkpoint_{step}"
    tensors = to_tensors(params)
    check_tensors(config, tensors, target)
    target.mkdir(parents=True)
    specs = {name: _write_zarr(target, f"target/{name}", tensor) for name, tensor in tensors.items()}
    carried = slots if slots and _fit(slots, tensors) else {}
    states = {name: _adafactor_slots(name, tensor, carried) for name, tensor in tensors.items()}
    state = {"step": np.int32(step), "param_states": flax.traverse_util.unflatten_dict(states, sep="/")}
    optimizer = {"target": flax.traverse_util.unflatten_dict(specs, sep="/"), "state": state}
    # Not to_bytes(), which would make dicts of the lists in the specs.
    contents = flax.serialization.msgpack_serialize({"version": VERSION, "optimizer": optimizer})
    (target / MSGPACK).write_bytes(contents)
    return target


def infer_config(tensors: Mapping[str, np.ndarray], path: Path) -> T5Config:
    """The configuration that gives these names and shapes.

    Raises:
        InputError: a tensor that tells the shape is missing.
    """

    def shape(name: str) -> tuple[int, ...]:
        if name not in tensors:
            raise InputError(f"tensor {name} is missing", path=path, hint="expected T5X's encoder-decoder")
        return tensors[name].shape

    per_layer = "encoder/layers_0/relpos_bias/rel_embedding" in tensors
    bias = "encoder/layers_0/relpos_bias/rel_embedding" if per_layer else "encoder/relpos_bias/rel_embedding"
    gated = "encoder/layers_0/mlp/wi_0/kernel" in tensors
    (vocab_size, emb_dim), (num_heads, num_buckets) = shape("token_embedder/embedding"), shape(bias)
    tied = "decoder/logits_dense/kernel" not in tensors
    return T5Config(
        vocab_size=vocab_size,
        emb_dim=emb_dim,
        num_heads=num_heads,
        num_encoder_layers=_num_layers(tensors, "encoder"),
        num_decoder_layers=_num_layers(tensors, "decoder"),
        head_dim=shape("encoder/layers_0/attention/query/kernel")[1] // num_heads,
        mlp_dim=shape(f"encoder/layers_0/mlp/{'wi_0' if gated else 'wi'}/kernel")[1],
        mlp_activations=("gelu", "linear") if gated else ("relu",),
        logits_via_embedding=tied,
        scale_logits=tied,
        relative_bias_per_layer=per_layer,
        relative_buckets=num_buckets,
    )


def _num_layers(tensors: Mapping[str, np.ndarray], stack: str) -> int:
    return len({name.split("/")[1] for name in tensors if name.startswith(f"{stack}/layers_")})


def _read_state(directory: Path) -> dict[str, Any]:
    if (directory / MSGPACK).is_file():
        contents = flax.serialization.msgpack_restore((directory / MSGPACK).read_bytes())
        optimizer = contents["optimizer"]
        leaves = {name: _read_leaf(directory, leaf) for name, leaf in _specs(optimizer["target"])}
        slots = {name: _read_leaf(directory, leaf) for name, leaf in _specs(optimizer["state"]["param_states"])}
        state = {"step": optimizer["state"]["step"], "param_states": flax.traverse_util.unflatten_dict(slots)}
        return {"target": flax.traverse_util.unflatten_dict(leaves), "state": state}
    if (directory / "state").is_dir():
        return ocp.PyTreeCheckpointer().restore(directory.absolute() / "state")
    raise InputError(
        "not a T5X checkpoint",
        path=directory,
        hint="expected checkpoint_N with a file `checkpoint` or a folder `state`",
    )


def _specs(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Leaves by path; a dict with a `kvstore` is the TensorStore spec of a leaf."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and "kvstore" not in value:
            yield from _specs(value, (*path, name))
        else:
            yield (*path, name), value


def _read_leaf(directory: Path, leaf: Any) -> np.ndarray:
    if not isinstance(leaf, Mapping):
        return np.asarray(leaf)
    # Whatever the driver was (file, gfile, gcs), the folder now lies beside the msgpack file; `path` moved in 2021.
    path = directory / (leaf["kvstore"].get("path") or leaf["path"])
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(path)}}
    try:
        return ts.open(spec, open=True, read=True).result().read().result()
    except (ValueError, OSError) as error:
        raise InputError(f"cannot be read: {str(error).splitlines()[0]}", path=path) from error


def _flatten(tree: Any) -> Tensors:
    flat = flax.traverse_util.flatten_dict(tree, sep="/")
    return {name: np.asarray(leaf).astype(np.float32) for name, leaf in flat.items()}


def _unscanned(tensors: Tensors) -> Iterator[tuple[str, np.ndarray]]:
    """Splits the scanned layers of T5X's scalable T5 (`encoder/encoder/...`, layers on axis 1; umT5 came so)."""
    for name, tensor in tensors.items():
        stack, _, rest = name.partition("/")
        if rest.startswith(f"{stack}/"):
            for index in range(tensor.shape[1]):
                layer = tensor[:, index]
                # Attention kernels may keep heads and dimensions apart there: [embed, heads, dim], [heads, dim, embed].
                joined = layer if layer.ndim < 3 else _joined(rest, layer)
                yield f"{stack}/layers_{index}/{rest.removeprefix(f'{stack}/')}", np.ascontiguousarray(joined)
        else:
            yield name, tensor


def _joined(name: str, kernel: np.ndarray) -> np.ndarray:
    return kernel.reshape(-1, kernel.shape[-1]) if name.endswith("out/kernel") else kernel.reshape(len(kernel), -1)


def _write_zarr(directory: Path, name: str, tensor: np.ndarray) -> dict[str, Any]:
    """Writes one tensor and returns its spec, whose path is relative, so that the checkpoint may be moved."""
    rows = max(1, min(len(tensor), CHUNK_BYTES // (tensor.nbytes // len(tensor))))
    spec = {
        "driver": "zarr",
        "dtype": tensor.dtype.name,
        "kvstore": {"driver": "file", "path": name.replace("/", ".")},
        "metadata": {
            "compressor": {"id": "gzip"},
            "shape": list(tensor.shape),
            "chunks": [rows, *tensor.shape[1:]],
        },
    }
    located = {**spec, "kvstore": {"driver": "file", "path": str(directory / name.replace("/", "."))}}
    ts.open(located, create=True, open=True).result().write(tensor).result()
    return spec


def _adafactor_slots(name: str, tensor: np.ndarray, carried: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Accumulators as T5X's Adafactor has them: those carried, else empty; not in use, zeros of length 1."""
    unused = np.zeros(1, np.float32)
    empty = {kind: np.zeros(shape, np.float32) for kind, shape in _slot_shapes(tensor).items()}
    given = {kind: carried.get(f"{name}/{kind}", zeros) for kind, zeros in empty.items()}
    return dict.fromkeys(("m", "v", "v_row", "v_col"), unused) | given


def _slot_shapes(tensor: np.ndarray) -> dict[str, tuple[int, ...]]:
    if tensor.ndim == 2 and min(tensor.shape) >= FACTORED_FROM:
        rows, columns = sorted(tensor.shape)
        return {"v_row": (rows,), "v_col": (columns,)}
    return {"v": tensor.shape}


def _slots_in_use(states: Mapping[str, Any], tensors: Tensors, path: Path) -> Tensors:
    """The accumulators of an Adafactor that has done a step; none if they are empty, or of scanned layers."""
    found = _flatten(states)
    slots = {name: found[name] for name in _slot_names(tensors) if name in found}
    check_finite(slots, path)
    return slots if _fit(slots, tensors) and any(slot.any() for slot in slots.values()) else {}


def _slot_names(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    shapes = {name: _slot_shapes(tensor) for name, tensor in tensors.items()}
    return {f"{name}/{kind}": shape for name, kinds in shapes.items() for kind, shape in kinds.items()}


def _fit(slots: Mapping[str, np.ndarray], tensors: Tensors) -> bool:
    return all(name in slots and slots[name].shape == shape for name, shape in _slot_names(tensors).items())
