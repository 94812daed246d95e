"""How attention knows about distance: T5's learned relative biases, and Llama's rotary embeddings."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from exaranker.models.layers import partitioned


def bucket_starts(num_buckets: int, max_distance: int) -> tuple[int, ...]:
    """The distance at which each bucket after the first begins: one by one, then logarithmically to `max_distance`.

    >>> bucket_starts(8, 32)
    (1, 2, 3, 4, 7, 12, 20)
    """
    exact = num_buckets // 2
    ratio = max_distance / exact
    wide = (math.ceil(round(exact * ratio ** (step / (num_buckets - exact)), 6)) for step in range(num_buckets - exact))
    return (*range(1, exact), *wide)


def relative_buckets(
    distance: Int[Array, "*shape"], bidirectional: bool, num_buckets: int, max_distance: int
) -> Int[Array, "*shape"]:
    """Buckets key-minus-query distances (T5, arXiv 1910.10683, section 2.1), half of them for the future."""
    side = num_buckets // 2 if bidirectional else num_buckets
    starts = jnp.asarray(bucket_starts(side, max_distance))
    magnitude = jnp.abs(distance) if bidirectional else jnp.maximum(-distance, 0)
    bucket = jnp.searchsorted(starts, magnitude, side="right")
    return jnp.where(distance > 0, bucket + side, bucket) if bidirectional else bucket


class RelativeBias(nn.Module):
    """A learned bias per head and distance bucket, added to attention logits."""

    num_heads: int
    bidirectional: bool
    num_buckets: int
    max_distance: int

    @nn.compact
    def __call__(
        self, query_positions: Int[Array, "query"], key_positions: Int[Array, "key"]
    ) -> Float[Array, "1 heads query key"]:
        init = partitioned(nn.initializers.variance_scaling(1.0, "fan_avg", "uniform"), ("heads", "relpos_buckets"))
        table = self.param("rel_embedding", init, (self.num_heads, self.num_buckets), jnp.float32)
        distance = key_positions[None, :] - query_positions[:, None]
        buckets = relative_buckets(distance, self.bidirectional, self.num_buckets, self.max_distance)
        return jnp.take(table, buckets, axis=1)[None]


class Rope(NamedTuple):
    """The base of rotary frequencies, and what positions are divided by (linear scaling)."""

    theta: float
    factor: float = 1.0


def rotate(
    x: Float[Array, "batch length heads dim"],
    positions: Int[Array, "batch length"],
    ropes: Sequence[Rope],
    num_positions: int,
    kind: Int[Array, ""] | int = 0,
) -> Float[Array, "batch length heads dim"]:
    """Rotates each pair (i, i + dim/2) by position * theta^(-2i/dim) (RoPE, arXiv 2104.09864), in fp32.

    Which of `ropes` is the layer's, its `kind` says, which may be known only when the layer runs. Positions are below
    `num_positions`: their angles are tables, or a CPU would compute cosines per layer and head.
    """
    half = x.shape[-1] // 2
    exponents = -(np.arange(half, dtype=np.float32) / half)
    frequencies = np.stack([np.float32(theta) ** exponents / np.float32(factor) for theta, factor in ropes])
    angles = np.arange(num_positions, dtype=np.float32)[:, None] * frequencies[:, None]
    cos, sin = (jnp.asarray(table)[kind, positions][:, :, None] for table in (np.cos(angles), np.sin(angles)))
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
