"""Repeats a layer: unrolled or scanned, with or without rematerialisation."""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from exaranker.models.layers import ADAPTER, PROJECTION

Remat = Literal["none", "minimal", "full"]

# What the backward pass may keep instead of computing again; T5X's names.
REMAT_POLICIES: dict[str, Callable[..., bool]] = {
    "minimal": jax.checkpoint_policies.save_only_these_names(PROJECTION),
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
    each: np.ndarray | None = None,
) -> Float[Array, "batch length embed"]:
    """Runs `count` layers, each `layer(config, train)(x, *shared) -> (x, None)`, inside a compact method.

    Where layers differ, the element of `each` that is a layer's own comes before what they share.

    Unrolled, the parameters are `layers_0`, `layers_1`, ...; scanned they are one `layers` with a leading axis, which
    compiles in a time that does not grow with depth.
    """
    if config.remat != "none":
        layer = nn.remat(layer, policy=REMAT_POLICIES[config.remat], prevent_cse=not config.scan_layers)
    if not config.scan_layers:
        for index in range(count):
            own = () if each is None else (each[index],)
            x, _ = layer(config, train, name=f"layers_{index}")(x, *own, *shared)
        return x
    own = () if each is None else (each,)
    scanned = nn.scan(
        layer,
        variable_axes={"params": 0, ADAPTER: 0, "cache": 0, "intermediates": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=(0,) * len(own) + (nn.broadcast,) * len(shared),
        length=count,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )
    x, _ = scanned(config, train, name="layers")(x, *own, *shared)
    return x


def unstack_layers(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters of a scanned model as those of the unrolled one: `layers` becomes `layers_0`, `layers_1`, ..."""
    unrolled: dict[str, Any] = {}
    for name, value in params.items():
        if name == "layers":
            for index in range(len(jax.tree.leaves(value)[0])):
                unrolled[f"layers_{index}"] = jax.tree.map(lambda leaf, index=index: leaf[index], value)
        else:
            unrolled[name] = unstack_layers(value) if isinstance(value, dict) else value
    return unrolled


def stack_layers(params: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `unstack_layers`; arrays on the host stay there."""
    layers = [params[f"layers_{index}"] for index in range(sum(name.startswith("layers_") for name in params))]
    stacked = {
        name: stack_layers(value) if isinstance(value, dict) else value
        for name, value in params.items()
        if not name.startswith("layers_")
    }
    if layers:
        stacked["layers"] = jax.tree.map(lambda *leaves: _numpy_of(leaves[0]).stack(leaves), *layers)
    return stacked


def _numpy_of(leaf: Any) -> Any:
    return jnp if isinstance(leaf, jax.Array) else np
