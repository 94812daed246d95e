"""Weak scaling without a cluster: what one device computes and sends, as devices and batch grow together.

    python benchmarks/weak_scaling.py [--json FILE]

Compiles the real train step for 1, 2, 4 and 8 virtual CPU devices with the same rows on each. Arithmetic and memory
traffic per device should not change; what a device sends should follow the number of parameters alone: 2 (n - 1) / n
of their bytes where they are replicated (an all-reduce of the gradients).
"""

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import jax

from exaranker.devices.collectives import collectives, sent_by_kind
from exaranker.devices.mesh import MeshConfig
from exaranker.files import write_json
from exaranker.models import ModelConfig
from exaranker.models.decoder import DecoderConfig
from exaranker.models.t5 import T5Config
from exaranker.train.config import DataConfig, TrainConfig
from exaranker.train.optimizers import AdamW
from exaranker.train.setup import abstract_batch, assemble, layout

ROWS = 2  # per device
SIZES: dict[str, Any] = {
    "vocab_size": 512,
    "emb_dim": 128,
    "num_heads": 4,
    "head_dim": 32,
    "mlp_dim": 256,
    "dtype": "float32",
}
MODELS: dict[str, ModelConfig] = {
    "t5": T5Config(num_encoder_layers=1, num_decoder_layers=1, **SIZES),
    "decoder": DecoderConfig(num_kv_heads=2, num_layers=1, logits_via_embedding=False, **SIZES),
}
AXES = ("data", "fsdp")
COUNTS = (1, 2, 4, 8)
# Nothing runs: machine code need not be good. What is counted is decided before.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


class Row(NamedTuple):
    """One compiled step; the figures are per device, bytes unless they say otherwise."""

    model: str
    axis: str
    devices: int
    flops: float
    memory_traffic: float
    state: int  # parameters and optimizer
    parameters: int  # of the whole model
    sent: dict[str, float]  # by kind of collective


def measure(name: str, axis: str, devices: int) -> Row:
    """Compiles the train step of `MODELS[name]` with all devices on one axis of the mesh."""
    data = DataConfig("unused", {"inputs": 32, "targets": 16}, batch_size=ROWS * devices, pack=False)
    mesh = MeshConfig(**({"data": 1, "fsdp": 1, "tensor": 1} | {axis: devices}))
    config = TrainConfig("unused", MODELS[name], data, 1, optimizer=AdamW(), mesh=mesh)
    setup = assemble(config, jax.devices()[:devices])
    with layout(setup.mesh):
        compiled = setup.step.lower(setup.abstract, abstract_batch(config, setup.mesh)).compile(compiler_options=QUICK)
    costs = compiled.cost_analysis()
    leaves = jax.tree.leaves((setup.abstract.params, setup.abstract.optimizer))
    state = sum(4 * _size(leaf.sharding.shard_shape(leaf.shape)) for leaf in leaves)
    parameters = 4 * sum(leaf.size for leaf in jax.tree.leaves(setup.abstract.params))
    sent = sent_by_kind(collectives(compiled.as_text()))
    return Row(name, axis, devices, costs["flops"], costs["bytes accessed"], state, parameters, sent)


def measure_all() -> list[Row]:
    return [measure(name, axis, devices) for name in MODELS for axis in AXES for devices in COUNTS]


def table(rows: list[Row]) -> str:
    lines = [f"{'model':8} {'axis':5} {'devices':>7} {'MFLOPs':>8} {'MB moved':>9} {'MB state':>9}  sent / parameters"]
    for row in rows:
        sent = ", ".join(f"{kind} {size / row.parameters:.3f}" for kind, size in sorted(row.sent.items()))
        lines.append(
            f"{row.model:8} {row.axis:5} {row.devices:7} {row.flops / 1e6:8.1f} {row.memory_traffic / 1e6:9.1f} "
            f"{row.state / 1e6:9.2f}  {sent or '0'}"
        )
    return "\n".join(lines)


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    rows = measure_all()
    print(table(rows))
    if args.json:
        write_json(args.json, [row._asdict() for row in rows])


if __name__ == "__main__":
    main()
