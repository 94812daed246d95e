"""What a run would be, without running it: parameters, batch geometry, memory."""

from typing import Any

import jax

from exaranker.checkpoints.folder import has_checkpoint, load_card
from exaranker.checkpoints.store import refuse_adapter
from exaranker.devices.flops import train_flops
from exaranker.devices.mesh import BATCH_AXES
from exaranker.errors import InputError
from exaranker.models import ModelConfig, family_of
from exaranker.models.family import Stack
from exaranker.tokenization import load_tokenizer
from exaranker.train.config import TrainConfig
from exaranker.train.data import register_task
from exaranker.train.resuming import check_model_dir
from exaranker.train.run import _card
from exaranker.train.setup import Setup, abstract_batch, assemble

GIB = 2**30


def check_run(config: TrainConfig) -> None:
    """Makes the checks of `train` that need no accelerator: the task and its data, vocabulary, initial checkpoint.

    Raises:
        InputError: what `train` would refuse.
    """
    template = register_task(config)
    card = _card(config, load_tokenizer(config.data.vocabulary_path), template, "")
    check_model_dir(config.directory, card)
    path = config.initial_checkpoint_path
    if path is None or has_checkpoint(config.directory):
        return
    initial = load_card(path)
    refuse_adapter(initial, path)
    if initial.tokenizer_digest != card.tokenizer_digest:
        raise InputError("its tokenizer is not the one at VOCABULARY_PATH", path=path)
    if config.last_step(initial.step) <= initial.step:
        raise InputError(
            f"TRAIN_STEPS {config.train_steps} is not more than the initial checkpoint's step {initial.step}",
            hint="TRAIN_STEPS counts its steps too; or set TRAIN_STEPS_RELATIVE",
        )


def describe(config: TrainConfig) -> str:
    """Sizes of the model, of a batch and of the memory each device needs.

    Raises:
        InputError: the mesh does not fit the devices, the batch or the model.
    """
    setup = assemble(config)
    return "\n".join([*_model_lines(setup), *_batch_lines(setup), *_memory_lines(setup)])


def memory_bytes(setup: Setup) -> dict[str, int]:
    """Bytes per device by what they hold: the state's are exact, activations an estimate.

    The compiler's own figure is within a factor 1.5 of the sum for fp32 on a CPU; its bf16 there is stored wider.
    """
    params, optimizer = _device_bytes(setup.abstract.params), _device_bytes(setup.abstract.optimizer)
    activations = activation_bytes(setup.config, _rows_per_device(setup)) // setup.mesh.shape["tensor"]
    gradients = params * min(2, setup.config.num_microbatches)  # their sum, and one microbatch's
    parts = {"parameters": params, "gradients": gradients, "optimizer": optimizer, "activations": activations}
    return parts if setup.config.lora is None else {"frozen": _device_bytes(setup.abstract.frozen), **parts}


def activation_bytes(config: TrainConfig, rows: int) -> int:
    """An estimate of what the backward pass holds for `rows` rows, by remat policy.

    "none" keeps all intermediates, attention weights among them, "full" each layer's input only, "minimal" also the
    projections' outputs. What is not kept is there again for one layer at a time, after the logits have gone; those
    are held twice, in fp32.
    """
    model = config.model
    family = family_of(model)
    lengths = family.lengths(config.data.row_lengths)
    logits = 2 * 4 * lengths.decoder * model.vocab_size
    stacks = family.stacks(model, lengths)
    kept = sum(stack.layers * _kept(model, stack, model.remat) for stack in stacks)
    again = max(_kept(model, stack, "none") - _kept(model, stack, model.remat) for stack in stacks)
    return rows * (kept + max(logits, again))


def _kept(model: ModelConfig, stack: Stack, remat: str) -> int:
    """Bytes of a layer and row."""
    widths, gates = stack.widths, len(model.mlp_activations)
    joined, width = widths.num_heads * widths.head_dim, 2 if model.dtype == "bfloat16" else 4
    total = 4 * widths.emb_dim
    if remat != "full":
        total += 4 * (4 * joined + 2 * widths.emb_dim + gates * widths.mlp_dim)
    if remat == "none":
        total += width * (4 * joined + 4 * widths.emb_dim + 2 * gates * widths.mlp_dim)
        total += 8 * widths.num_heads * stack.keys
    return stack.positions * total


def _model_lines(setup: Setup) -> list[str]:
    params, frozen = setup.abstract.params, setup.abstract.frozen
    count = f"{_count(setup.abstract.model):,}"
    if setup.config.lora:
        count += f" frozen, {_count(params):,} in the adapter are trained"
    mesh = " x ".join(f"{axis} {size}" for axis, size in setup.mesh.shape.items())
    flops = train_flops(setup.config.model, params, abstract_batch(setup.config, setup.mesh), frozen)
    return [
        f"parameters        {count}",
        f"mesh              {mesh} on {setup.mesh.size} {setup.mesh.devices.flat[0].device_kind} device(s)",
        f"model FLOPs/step  {flops:.3g}",
    ]


def _batch_lines(setup: Setup) -> list[str]:
    data = setup.config.data
    lengths = ", ".join(f"{name} {length}" for name, length in data.row_lengths.items())
    rows = _rows_per_device(setup)
    packing = "packed" if data.pack else "one pair per row"
    if data.pairs_per_row > 1:
        packing = f"{data.pairs_per_row} pairs in each, {data.batch_size} pairs"
    return [
        f"batch             {data.batch_size // data.pairs_per_row} rows ({packing}) of {lengths}",
        f"                  {setup.config.num_microbatches} microbatch(es) of {rows} row(s) per device",
    ]


def _memory_lines(setup: Setup) -> list[str]:
    parts = memory_bytes(setup)
    listed = ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts.items())
    return [f"memory/device     about {sum(parts.values()) / GIB:.2f} GiB ({listed})"]


def _rows_per_device(setup: Setup) -> int:
    shards = 1
    for axis in BATCH_AXES:
        shards *= setup.mesh.shape[axis]
    data = setup.config.data
    return data.batch_size // data.pairs_per_row // shards // setup.config.num_microbatches


def _count(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _device_bytes(tree: Any) -> int:
    def of(leaf: Any) -> int:
        size = leaf.dtype.itemsize
        for length in leaf.sharding.shard_shape(leaf.shape):
            size *= length
        return size

    return sum(map(of, jax.tree.leaves(tree)))
