"""Whether there may be accelerators, and what their makers say of them, per device as jax counts them."""

from importlib.util import find_spec
from typing import NamedTuple

GIB = 2**30
PLUGINS = ("libtpu", "jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm7_plugin")


def has_plugin() -> bool:
    """Whether jax has a plugin for accelerators; to ask for its devices would take them."""
    return any(find_spec(name) for name in PLUGINS)


class Chip(NamedTuple):
    """Peaks that no program reaches: they bound a step's time from below."""

    bf16_flops: float  # dense FLOP/s
    memory_bytes: int
    memory_bandwidth: float  # bytes/s
    link_bandwidth: float  # bytes/s sent over all links to other chips, in one direction


# TPUs: cloud.google.com/tpu/docs, the page of each version ("key chip specifications"); its interconnect figure counts
# both directions from v5e on. GPUs: NVIDIA's data sheets (SXM, NVLink).
V4 = Chip(275e12, 32 * GIB, 1228e9, 300e9)
V5E = Chip(197e12, 16 * GIB, 819e9, 200e9)
V5P = Chip(459e12, 95 * GIB, 2765e9, 600e9)
V6E = Chip(918e12, 32 * GIB, 1638e9, 400e9)

# By jax's `device.device_kind`.
CHIPS: dict[str, Chip] = {
    "TPU v4": V4,
    "TPU v5 lite": V5E,
    "TPU v5e": V5E,
    "TPU v5": V5P,
    "TPU v5p": V5P,
    "TPU v6 lite": V6E,
    "TPU v6e": V6E,
    "NVIDIA A100-SXM4-40GB": Chip(312e12, 40 * GIB, 1555e9, 300e9),
    "NVIDIA A100-SXM4-80GB": Chip(312e12, 80 * GIB, 2039e9, 300e9),
    "NVIDIA H100 80GB HBM3": Chip(989e12, 80 * GIB, 3350e9, 450e9),
    "NVIDIA H200": Chip(989e12, 141 * GIB, 4800e9, 450e9),
}
