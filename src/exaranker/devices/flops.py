"""What a training step costs in floating-point operations, and what the hardware could do in the same time."""

import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from exaranker.devices.accelerators import CHIPS
from exaranker.losses.sums import SHARE
from exaranker.models import ModelConfig, family_of
from exaranker.models.family import Lengths


def train_flops(config: ModelConfig, params: Any, batch: Mapping[str, Any], frozen: Any = None) -> float:
    """Model FLOPs of one step, without rematerialisation: forward once, backward twice (arXiv 2204.02311, app. B).

    The weights of a `frozen` model, of which `params` are an adapter, have no gradients: their backward costs once.

    Every weight costs 2 FLOPs per position it is applied to; attention costs 4 * queries * keys * heads * head_dim.
    Decoder-only models are held to what they need at least: logits of `sums.SHARE` of each row.
    """
    return 3.0 * forward_flops(config, params, batch) + 2.0 * _weight_flops(config, frozen, batch)


def forward_flops(config: ModelConfig, params: Any, batch: Mapping[str, Any]) -> float:
    """The FLOPs of one forward pass over a batch, counted from the shapes of weights and inputs."""
    rows, lengths = _geometry(batch)
    return _weight_flops(config, params, batch) + rows * _attention(config, lengths)


def peak_flops(device: Any, dtype: str) -> float:
    """The device's dense FLOP/s in `dtype`: from the data sheet, else measured with one large matrix product."""
    chip = CHIPS.get(device.device_kind)
    if chip is None:
        return _measured_peak(device, dtype)
    return chip.bf16_flops if dtype == "bfloat16" else chip.bf16_flops / 2


def _weight_flops(config: ModelConfig, params: Any, batch: Mapping[str, Any]) -> float:
    rows, (source, target) = _geometry(batch)
    head = "token_embedder/embedding" if config.logits_via_embedding else "logits_dense/kernel"
    total, answers = 0.0, -(-target // SHARE) if family_of(config).is_decoder_only else target
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        positions = answers if name.endswith(head) else _positions(name, source, target)
        total += 2.0 * leaf.size * rows * positions
    return total


def _geometry(batch: Mapping[str, Any]) -> tuple[int, Lengths]:
    rows, target = batch["decoder_input_tokens"].shape
    source = batch["encoder_input_tokens"].shape[1] if "encoder_input_tokens" in batch else 0
    return rows, Lengths(source, target)


def _positions(name: str, source: int, target: int) -> int:
    """How many positions of a row a parameter other than the head is multiplied with."""
    if not name.endswith(("kernel", "bias", "/a", "/b")):
        return 0
    if name.startswith("encoder/"):
        return source
    of_memory = {"encoder_decoder_attention": source, "merged_attention": source + target}
    for attention, positions in of_memory.items():
        if f"{attention}/key" in name or f"{attention}/value" in name:
            return positions
    return target


def _attention(config: ModelConfig, lengths: Lengths) -> float:
    stacks = family_of(config).stacks(config, lengths)
    return sum(
        4.0 * stack.layers * stack.positions * stack.keys * stack.widths.num_heads * stack.widths.head_dim
        for stack in stacks
    )


def _measured_peak(device: Any, dtype: str, size: int = 1024, repeats: int = 8) -> float:
    """The best of a few products: other work on the machine only makes them slower."""
    a = jax.device_put(jnp.ones((size, size), dtype), device)
    multiply = jax.jit(lambda a: jax.lax.dot(a, a, preferred_element_type=jnp.float32))
    multiply(a).block_until_ready()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        multiply(a).block_until_ready()
        best = min(best, time.perf_counter() - start)
    # Virtual devices share one machine's cores.
    return 2.0 * size**3 / best / (jax.local_device_count() if device.platform == "cpu" else 1)
