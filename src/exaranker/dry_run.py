"""What a run would be, without running it: parameters, batch geometry, memory."""

from typing import Any

import jax

from exaranker.flops import train_flops
from exaranker.models.t5 import T5Config
from exaranker.partitioning import BATCH_AXES
from exaranker.train_config import TrainConfig
from exaranker.train_setup import Setup, abstract_batch, assemble

GIB = 2**30


def describe(config: TrainConfig) -> str:
    """Sizes of the model, of a batch and of the memory each device needs.

    Raises:
        InputError: the mesh does not fit the devices, the batch or the model.
    """
    setup = assemble(config)
    return "\n".join([*_model_lines(setup), *_batch_lines(setup), *_memory_lines(setup)])


def activation_bytes(config: TrainConfig, rows: int) -> int:
    """An estimate of what the backward pass keeps for `rows` rows, by remat policy.

    Per position and layer, in units of the embedding width: "full" keeps the layer's input (fp32); "minimal" also the
    projections' outputs; "none" all intermediates, attention weights among them. The logits are kept twice, in fp32.
    """
    model, lengths = config.model, config.data.task_feature_lengths
    source, target = lengths["inputs"], lengths["targets"]
    width = 2 if model.dtype == "bfloat16" else 4
    if isinstance(model, T5Config):
        layers = [(model.num_encoder_layers, source, source), (model.num_decoder_layers, target, target + source)]
    else:
        target = source + target
        layers = [(model.num_layers, target, target)]
    total = 2 * 4 * target * model.vocab_size
    for count, length, keys in layers:
        joined, gates = model.num_heads * model.head_dim, len(model.mlp_activations)
        kept = 4 * model.emb_dim
        if config.model.remat != "full":
            kept += 4 * (4 * joined + 2 * model.emb_dim + gates * model.mlp_dim)
        if config.model.remat == "none":
            kept += width * (4 * joined + 4 * model.emb_dim + 2 * gates * model.mlp_dim) + 8 * model.num_heads * keys
        total += count * length * kept
    return rows * total


def _model_lines(setup: Setup) -> list[str]:
    params = setup.abstract.params
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    mesh = " x ".join(f"{axis} {size}" for axis, size in setup.mesh.shape.items())
    flops = train_flops(setup.config.model, params, abstract_batch(setup.config, setup.mesh))
    return [
        f"parameters        {count:,}",
        f"mesh              {mesh} on {setup.mesh.size} {setup.mesh.devices.flat[0].device_kind} device(s)",
        f"model FLOPs/step  {flops:.3g}",
    ]


def _batch_lines(setup: Setup) -> list[str]:
    data = setup.config.data
    lengths = ", ".join(f"{name} {length}" for name, length in data.task_feature_lengths.items())
    rows = _rows_per_device(setup)
    packing = "packed" if data.pack else "one pair per row"
    return [
        f"batch             {data.batch_size} rows ({packing}) of {lengths}",
        f"                  {setup.config.num_microbatches} microbatch(es) of {rows} row(s) per device",
    ]


def _memory_lines(setup: Setup) -> list[str]:
    """State is exact, activations are an estimate, gradients count once more for the parameters."""
    params, optimizer = _device_bytes(setup.abstract.params), _device_bytes(setup.abstract.optimizer)
    activations = activation_bytes(setup.config, _rows_per_device(setup)) // setup.mesh.shape["tensor"]
    parts = {"parameters": params, "gradients": params, "optimizer": optimizer, "activations": activations}
    listed = ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts.items())
    return [f"memory/device     about {sum(parts.values()) / GIB:.2f} GiB ({listed})"]


def _rows_per_device(setup: Setup) -> int:
    shards = 1
    for axis in BATCH_AXES:
        shards *= setup.mesh.shape[axis]
    return setup.config.data.batch_size // shards // setup.config.num_microbatches


def _device_bytes(tree: Any) -> int:
    def of(leaf: Any) -> int:
        size = leaf.dtype.itemsize
        for length in leaf.sharding.shard_shape(leaf.shape):
            size *= length
        return size

    return sum(map(of, jax.tree.leaves(tree)))
