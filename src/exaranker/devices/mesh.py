"""One mesh (data, fsdp, tensor) from a laptop to a pod, and the rules that lay logical axes out on it.

`data` replicates the model; `fsdp` also splits the batch, and parameters and optimizer state with it (ZeRO-3);
`tensor` splits heads, feed-forward and vocabulary (arXiv 1909.08053).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int
from orbax.checkpoint import multihost

from exaranker.checks import Macro, Positive, check
from exaranker.devices.accelerators import CHIPS
from exaranker.errors import InputError

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")

# The first rule whose mesh axes are still free wins, so "embed" is split over fsdp in parameters but not in
# activations, where the batch already holds that axis.
RULES: tuple[tuple[str, str | tuple[str, ...] | None], ...] = (
    ("batch", BATCH_AXES),
    ("vocab", "tensor"),
    ("mlp", "tensor"),
    ("heads", "tensor"),
    ("joined_kv", "tensor"),
    ("embed", "fsdp"),
    ("kv", None),
    ("rank", None),
    ("length", None),
    ("relpos_buckets", None),
    ("layers", None),
)

# Parameters, gradients and optimizer state may take this part of a device; activations need the rest.
STATE_SHARE = 0.5
DEFAULT_DEVICE_BYTES = 16 * 2**30  # a TPU v5e, the smallest device in use, where the backend does not say
MEETING_TIMEOUT = 3600  # seconds that processes wait for one that compiles longer than the others


@dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh axes; None is chosen from the devices present and the size of the training state."""

    data: Annotated[Positive | None, Macro("MESH_DATA")] = None
    fsdp: Annotated[Positive | None, Macro("MESH_FSDP")] = None
    tensor: Annotated[Positive | None, Macro("MESH_TENSOR")] = None

    def __post_init__(self) -> None:
        check(self)


def make_mesh(config: MeshConfig, state_bytes: int = 0, devices: Sequence[Any] | None = None) -> Mesh:
    """Arranges all devices (of all processes) as data x fsdp x tensor.

    Raises:
        InputError: the sizes given do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    shape = mesh_shape(config, len(devices), state_bytes, _device_bytes(devices[0]))
    # An axis of 8 on a 4 x 4 torus has to split one of the torus's axes.
    return Mesh(mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True), AXES)


def mesh_shape(config: MeshConfig, num_devices: int, state_bytes: int, device_bytes: int) -> tuple[int, int, int]:
    """(data, fsdp, tensor). What is not given: no tensor axis, as little fsdp as the state needs, data for the rest.

    >>> mesh_shape(MeshConfig(), num_devices=8, state_bytes=30 * 2**30, device_bytes=16 * 2**30)
    (2, 4, 1)
    """
    tensor = config.tensor or 1
    per_replica = num_devices // tensor
    fsdp = config.fsdp or (per_replica // config.data if config.data else None)
    if fsdp is None:
        fitting = (n for n in range(1, per_replica + 1) if per_replica % n == 0)
        fsdp = next((n for n in fitting if state_bytes / (n * tensor) <= STATE_SHARE * device_bytes), per_replica)
    data = config.data or max(per_replica // fsdp, 1)
    if data * fsdp * tensor != num_devices:
        raise InputError(
            f"a mesh of data {data} x fsdp {fsdp} x tensor {tensor} needs {data * fsdp * tensor} devices, "
            f"{num_devices} are present",
            hint="leave some of MESH_DATA, MESH_FSDP, MESH_TENSOR unset",
        )
    return data, fsdp, tensor


def param_shardings(mesh: Mesh, boxed: Any) -> Any:
    """The sharding of every parameter, from the logical axes in flax's boxes."""
    shardings = nn.logical_to_mesh_sharding(nn.get_partition_spec(boxed), mesh, RULES)
    _check_divisible(shardings, nn.meta.unbox(boxed))
    return shardings


def optimizer_shardings(mesh: Mesh, shardings: Any, params: Any, optimizer_state: Any) -> Any:
    """Accumulators of a parameter's shape are laid out like it; the others (factored rows, counts) are replicated."""
    leaves = zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(shardings), strict=True)
    known = {jax.tree_util.keystr(path): (leaf.shape, sharding) for (path, leaf), sharding in leaves}
    replicated = NamedSharding(mesh, PartitionSpec())

    def of(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        suffixes = (jax.tree_util.keystr(path[start:]) for start in range(len(path)))
        shape, sharding = next((known[suffix] for suffix in suffixes if suffix in known), (None, replicated))
        return sharding if leaf.shape == shape else replicated

    return jax.tree_util.tree_map_with_path(of, optimizer_state)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """How a batch lies on the mesh: its rows over the data and fsdp axes."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def local_rows(mesh: Mesh, batch_size: int) -> Int[np.ndarray, " rows"]:
    """The numbers of the batch's rows that this process's devices hold, in order: those that it has to feed."""
    slices = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in slices]))


def global_batch(mesh: Mesh, local: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Joins each process's rows to one array over the mesh."""
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in local.items()}


def check_batch(mesh: Mesh, batch_size: int, num_microbatches: int = 1, pairs_per_row: int = 1) -> None:
    """Checks that the mesh can split every microbatch evenly.

    Raises:
        InputError: it cannot.
    """
    shards = int(np.prod([mesh.shape[axis] for axis in BATCH_AXES]))
    unit = shards * num_microbatches * pairs_per_row
    if batch_size % unit:
        several = f" x {pairs_per_row} pairs of a row" if pairs_per_row > 1 else ""
        parts = f"{shards} batch shards x {num_microbatches} microbatches{several}"
        raise InputError(
            f"BATCH_SIZE {batch_size} is not a multiple of {parts}",
            hint=f"the next one that is: {-(-batch_size // unit) * unit}",
        )


def connect(
    coordinator: str | None,
    process_count: int | None,
    process_index: int | None,
    heartbeat_timeout: int = 100,
    initialization_timeout: int = 300,
) -> None:
    """Joins the processes of a job; nothing to do for one process.

    All end when one was silent for `heartbeat_timeout` seconds.

    On TPU pods and under SLURM the number of processes is enough: jax finds out the rest.

    Raises:
        InputError: there jax finds nothing out, and something was not given.
    """
    if coordinator is None and process_count is None:
        return
    # Only matters for CPU devices; the default there cannot talk to other processes.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            coordinator,
            process_count,
            process_index,
            initialization_timeout=initialization_timeout,
            heartbeat_timeout_seconds=heartbeat_timeout,
        )
    except ValueError as error:
        raise InputError(
            f"the processes of the job cannot meet: {error}",
            hint="give --coordinator_address HOST:PORT, --process_count and --process_index",
        ) from error


def meet(place: str) -> None:
    """Waits for all processes of a job; before each newly compiled program, since they compile at their own speed.

    Gloo connects the processes of a mesh axis at their first collective, and gives up when one comes 30 s late.
    """
    multihost.get_barrier_sync_fn()(key=place, timeout_ms=MEETING_TIMEOUT * 1000)


def _device_bytes(device: Any) -> int:
    try:
        return device.memory_stats()["bytes_limit"]
    except (AttributeError, KeyError, TypeError, NotImplementedError, jax.errors.JaxRuntimeError):
        chip = CHIPS.get(device.device_kind)
        return chip.memory_bytes if chip else DEFAULT_DEVICE_BYTES


def _check_divisible(shardings: Any, params: Any) -> None:
    for (path, leaf), sharding in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(shardings), strict=True
    ):
        for size, axes in zip(leaf.shape, sharding.spec, strict=False):
            parts = int(np.prod([sharding.mesh.shape[axis] for axis in np.atleast_1d(axes)])) if axes else 1
            if size % parts:
                name = jax.tree_util.keystr(path, simple=True, separator="/")
                raise InputError(f"{name} {leaf.shape} cannot be split: {size} is not a multiple of {axes} {parts}")
