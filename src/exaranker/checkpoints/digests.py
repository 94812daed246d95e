"""Digests of what a checkpoint holds: taken when it is saved, compared when it is read.

An array's digest is two sums over hashes of its elements and their positions. The devices that hold the array compute
it, so it is the same for every mesh and number of processes, no array is gathered, and nothing is read twice. Whatever
happens to one element changes it; other damage goes unseen once in 2^64.
"""

import functools
import json
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, UInt32

from exaranker.files import sha256_json


def named_leaves(tree: Any) -> dict[str, Any]:
    """Flattens optax's nested tuples to {"0/mu/encoder/…": array}: names that outlive optax's classes."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def array_digests(tree: Any) -> dict[str, str]:
    """A digest of each array by name; every process of a job must ask for it.

    >>> array_digests({"scale": np.ones(2, np.float32)})
    {'scale': '063da2f0116c1910'}
    """
    sums = {name: _summing(_replicated(leaf))(leaf) for name, leaf in named_leaves(tree).items()}
    return {name: "".join(f"{part:08x}" for part in np.asarray(value)) for name, value in sums.items()}


def json_digest(value: Any) -> str:
    """The sha256 of a value as it will be once it has been written as JSON and read back."""
    return sha256_json(json.loads(json.dumps(value)))


def first_difference(stored: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """The first name whose digests differ or that only one side has.

    >>> first_difference({"scale": "1f", "table": "2e"}, {"scale": "1f", "table": "2f"})
    'table'
    """
    return next((name for name in sorted(stored.keys() | found.keys()) if stored.get(name) != found.get(name)), None)


@functools.cache
def _summing(replicated: Any) -> Any:
    return jax.jit(_sums, out_shardings=replicated)


def _replicated(leaf: Any) -> Any:
    sharding = getattr(leaf, "sharding", None)
    return NamedSharding(sharding.mesh, PartitionSpec()) if isinstance(sharding, NamedSharding) else sharding


def _sums(array: Array) -> UInt32[Array, "2"]:
    kind = jnp.dtype(f"uint{8 * array.dtype.itemsize}")
    bits = jax.lax.bitcast_convert_type(array, kind).astype(jnp.uint32)
    position = jnp.zeros(array.shape, jnp.uint32)
    for axis in range(array.ndim):  # never flattened: that would move sharded arrays between devices
        stride = jnp.uint32(math.prod(array.shape[axis + 1 :]) % 2**32)
        position += jax.lax.broadcasted_iota(jnp.uint32, array.shape, axis) * stride
    place = _mixed(position + 1)
    hashed = _mixed(bits ^ place)  # one to one: a changed element always changes its hash
    return jnp.stack([jnp.sum(hashed, dtype=jnp.uint32), jnp.sum(hashed * (place | 1), dtype=jnp.uint32)])


def _mixed(number: Array) -> Array:
    """MurmurHash3's finaliser: neighbours become unlike."""
    number = (number ^ (number >> 16)) * jnp.uint32(0x85EBCA6B)
    number = (number ^ (number >> 13)) * jnp.uint32(0xC2B2AE35)
    return number ^ (number >> 16)
