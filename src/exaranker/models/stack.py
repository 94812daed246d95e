"""Repeats a layer: unrolled or scanned, with or without rematerialisation."""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import flax.linen as nn
import jax
from jaxtyping import Array, Float

Remat = Literal["none", "minimal", "full"]

# What the backward pass may keep instead of computing again; T5X's names.
REMAT_POLICIES: dict[str, Callable[..., bool]] = {
    "minimal": jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims,
    "full": jax.checkpoint_policies.nothing_saveable,
}


class StackConfig(Protocol):
    """What a configuration says about its layer stacks."""

    @property
    def scan_layers(self) -> bool: ...
    @property
    def remat(self) -> Remat: ...


def run_layers(
    layer: type[nn.Module],
    config: StackConfig,
    count: int,
    train: bool,
    x: Float[Array, "batch length embed"],
    *shared: Any,
) -> Float[Array, "batch length embed"]:
    """Runs `count` layers, each `layer(config, train)(x, *shared) -> (x, None)`, inside a compact method.

    Unrolled, the parameters are `layers_0`, `layers_1`, ...; scanned they are one `layers` with a leading axis, which
    compiles in a time that does not grow with depth.
    """
    if config.remat != "none":
        layer = nn.remat(layer, policy=REMAT_POLICIES[config.remat], prevent_cse=not config.scan_layers)
    if not config.scan_layers:
        for index in range(count):
            x, _ = layer(config, train, name=f"layers_{index}")(x, *shared)
        return x
    scanned = nn.scan(
        layer,
        variable_axes={"params": 0, "cache": 0, "intermediates": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=(nn.broadcast,) * len(shared),
        length=count,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )
    x, _ = scanned(config, train, name="layers")(x, *shared)
    return x
