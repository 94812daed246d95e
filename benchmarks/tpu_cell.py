"""Compiles one step for one TPU topology ahead of time, on a machine without a TPU; `tpu_aot.py` runs it.

Nothing is allocated: the step is lowered from shapes, laid out on the topology's devices, and compiled by libtpu. The
cell's figures are printed as one line of JSON.
"""

import os

# Before jax is imported: libtpu must neither look for the cloud's metadata server nor become jax's own backend.
os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "JAX_PLATFORMS": "cpu", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}

import argparse
import dataclasses
import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from exaranker import models
from exaranker.devices.accelerators import CHIPS
from exaranker.devices.collectives import collectives, sent_by_kind
from exaranker.devices.flops import forward_flops, train_flops
from exaranker.devices.mesh import MeshConfig
from exaranker.gin_config import build, parse_gin
from exaranker.models import ModelConfig, abstract_params, family_of
from exaranker.models.decoding import first_step_logits
from exaranker.models.matmul import round_kernels
from exaranker.rank.reranker import ACCELERATOR_TOKEN_BUDGET
from exaranker.train import TrainConfig
from exaranker.train.setup import abstract_batch, assemble, layout

RERANK_LENGTH = 128  # the bucket of MS MARCO's mean input
# The recipe as it is, then with less and less memory, until it fits.
LAYOUTS: tuple[dict[str, Any], ...] = (
    {},
    {"REMAT": "'full'"},
    {"REMAT": "'full'", "MESH_FSDP": "{devices}"},
    {"REMAT": "'full'", "MESH_FSDP": "{devices}", "NUM_MICROBATCHES": 2},
    {"REMAT": "'full'", "MESH_FSDP": "{devices}", "NUM_MICROBATCHES": 8},
)
# Effort -1 compiles 3-4 times faster. libtpu 0.0.42 overflows its own stack where it fuses products of products in a
# scanned backward pass (seen for v5e), so it does not.
COMPILER_OPTIONS = {"exec_time_optimization_effort": -1.0, "xla_tpu_dot_dot_fusion": False}
# For counting: a large product that is overlapped with its gather becomes a loop, of which XLA would count one pass.
WITHOUT_LOOPS = {
    "xla_tpu_enable_windowed_einsum_for_all_gather": False,
    "xla_tpu_enable_windowed_einsum_for_reduce_scatter": False,
}
# libtpu's two ways of putting it: "Used 20.1G of 15.75G hbm", "HLO temporaries (25.09G) exceeds available HBM".
OUT_OF_MEMORY = re.compile(r"(?:Used |HLO temporaries \()([\d.]+)([KMGT])\b.*?(?:hbm|HBM)")
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Program(NamedTuple):
    """A step that can be lowered, at its full depth or at another one, all else equal."""

    lower: Callable[[ModelConfig], Any]
    model: ModelConfig
    mesh: dict[str, int]
    model_flops: float  # of one step over all devices, without rematerialisation
    microbatches: int = 1


def train_program(config: TrainConfig, devices: list[Any]) -> Program:
    """The training step of `exaranker train`, with the mesh that it would choose."""
    setup = assemble(config, devices)
    pinned = MeshConfig(**setup.mesh.shape)

    def lower(model: ModelConfig) -> Any:
        again = assemble(dataclasses.replace(config, model=model, mesh=pinned), devices)
        with layout(again.mesh):
            return again.step.lower(again.abstract, abstract_batch(again.config, again.mesh))

    batch = abstract_batch(config, setup.mesh)
    flops = train_flops(config.model, setup.abstract.params, batch, setup.abstract.frozen)
    return Program(lower, config.model, dict(setup.mesh.shape), flops, config.num_microbatches)


def rerank_program(model: ModelConfig, devices: list[Any]) -> Program:
    """The scoring step of `exaranker rerank`: weights on every device, each batch split over the devices."""
    mesh = Mesh(np.array(devices), ("data",))
    everywhere, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    rows = ACCELERATOR_TOKEN_BUDGET // RERANK_LENGTH * len(devices)
    tokens = jax.ShapeDtypeStruct((rows, RERANK_LENGTH), jnp.int32, sharding=split)

    def params(model: ModelConfig) -> Any:
        unboxed = nn.meta.unbox(abstract_params(model))
        rounded = jax.eval_shape(lambda params: round_kernels(params, model.dtype), unboxed)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), rounded)

    def lower(model: ModelConfig) -> Any:
        labels = jax.ShapeDtypeStruct((2,), jnp.int32, sharding=everywhere)
        return first_step_logits.lower(models.build(model), params(model), tokens, labels)

    one_step = jax.ShapeDtypeStruct((rows, 1), jnp.int32)
    batch = {"encoder_input_tokens": tokens, "decoder_input_tokens": one_step}
    if family_of(model).is_decoder_only:
        batch = {"decoder_input_tokens": tokens}
    flops = forward_flops(model, params(model), batch)
    return Program(lower, model, dict(mesh.shape), flops)


def figures(program: Program) -> dict[str, Any]:
    """Memory and collectives of the whole program; FLOPs and memory traffic extrapolated from two shallow ones."""
    began = time.process_time()
    try:
        compiled = program.lower(program.model).compile(compiler_options=COMPILER_OPTIONS)
    except jax.errors.JaxRuntimeError as error:
        needed = OUT_OF_MEMORY.search(str(error))
        if needed is None:
            raise
        return {"fits": False, "bytes_per_device": float(needed[1]) * UNITS[needed[2]]}
    flops, traffic = costs(program)
    return {
        "fits": True,
        "bytes_per_device": compiled.memory_analysis().peak_memory_in_bytes,
        "flops_per_device": flops,
        "memory_traffic_per_device": traffic,
        "sent_per_device": sent_by_kind(collectives(compiled.as_text())),
        "compile_cpu_seconds": time.process_time() - began,
    }


def costs(program: Program) -> tuple[float, float]:
    """(FLOPs, bytes read and written) per device, as XLA counts them.

    It counts a scanned layer once; so models of one and of two unrolled layers are compiled, and the rest is linear.
    It counts the loop over microbatches once, too; the optimizer's small part, outside of it, is repeated with it here.
    """
    family = family_of(program.model)
    shallow = (dataclasses.replace(family.at_depth(program.model, depth), scan_layers=False) for depth in (1, 2))
    once, twice = (_counted(program.lower(model)) for model in shallow)
    (depth,) = {getattr(program.model, field) for field in family.depths}  # of every stack the same
    more = depth - 1
    flops, moved = (program.microbatches * (a + more * (b - a)) for a, b in zip(once, twice, strict=True))
    return flops, moved


def _counted(lowered: Any) -> tuple[float, float]:
    counted = lowered.compile(compiler_options=COMPILER_OPTIONS | WITHOUT_LOOPS).cost_analysis()
    return counted["flops"], counted["bytes accessed"]


def roofline(cell: dict[str, Any], device: Any) -> dict[str, Any]:
    """Seconds that arithmetic, memory and links each need at the chip's peaks; the longest bounds the step."""
    chip = CHIPS[device.device_kind]
    seconds = {
        "arithmetic": cell["flops_per_device"] / chip.bf16_flops,
        "memory": cell["memory_traffic_per_device"] / chip.memory_bandwidth,
        "links": sum(cell["sent_per_device"].values()) / chip.link_bandwidth,
    }
    bound = max(seconds, key=lambda name: seconds[name])
    return {"seconds": seconds, "bound": bound, "step_seconds": seconds[bound], "peak_flops": chip.bf16_flops}


def first_that_fits(step: str, model: str, recipe: list[str], devices: list[Any]) -> dict[str, Any]:
    """The figures of the first layout that fits, or of the last one tried."""
    tried: list[TrainConfig] = []
    for chosen in LAYOUTS if step == "train" else LAYOUTS[:1]:
        bindings = {name: str(value).format(devices=len(devices)) for name, value in chosen.items()}
        config = configuration(model, recipe, bindings)
        if config in tried:
            continue
        tried.append(config)
        program = train_program(config, devices) if step == "train" else rerank_program(config.model, devices)
        cell = {"mesh": program.mesh, "model_flops": program.model_flops} | figures(program)
        if step == "train":
            cell |= {"microbatches": config.num_microbatches, "remat": config.model.remat}
        if cell["fits"]:
            return cell | roofline(cell, devices[0])
    return cell


def configuration(model: str, recipe: list[str], chosen: Mapping[str, str]) -> TrainConfig:
    """The recipe with this model; scanned, so that it compiles in a time that does not grow with depth."""
    required = ("MODEL_DIR", "VOCABULARY_PATH", "DATASET_DIR", "INITIAL_CHECKPOINT_PATH")
    bindings = [f"include 'models/{model}.gin'", "SCAN_LAYERS = True", *(f"{name} = 'unused'" for name in required)]
    bindings += [f"{name} = {value}" for name, value in chosen.items()]
    return build(TrainConfig, parse_gin(recipe, bindings)).config


def topology_devices(name: str) -> list[Any]:
    # A v4 chip is one device only in "megacore" mode, which is how Cloud TPU runs it.
    options: dict[str, Any] = {"chip_config_name": "megacore"} if name.startswith("v4") else {}
    if name == "v5e:1x1":  # a host of its own, with one chip instead of four
        options["chips_per_host_bounds"] = (1, 1, 1)
    return topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", choices=("train", "rerank"), required=True)
    parser.add_argument("--model", required=True, help="file of gin/models, without .gin")
    parser.add_argument("--recipe", nargs="+", required=True, help="gin files that say all but the model")
    parser.add_argument("--topology", required=True, help="such as v5e:2x4")
    parser.add_argument("--libtpu", required=True, help="folder that libtpu was installed into")
    args = parser.parse_args()
    sys.path.append(args.libtpu)
    print(json.dumps(first_that_fits(args.step, args.model, args.recipe, topology_devices(args.topology))))


if __name__ == "__main__":
    main()
