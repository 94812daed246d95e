"""Rows of unlike length without their padding: only attention sees it, all else is computed for tokens that are there.

Products, norms and activations treat each token by itself, so a group of rows may lie one after the other in one row of
tokens. As many as that row holds are computed, however they are spread: a static shape like any other.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Shaped


class RaggedShape(NamedTuple):
    """Static: how many groups a batch's rows are (one per device), and room for how many tokens each of them has."""

    groups: int
    tokens: int


class Ragged(NamedTuple):
    """Where the tokens of each group are, one after the other, and where in padded rows.

    Places that are no token's repeat one that is near; what is computed of them is not read.
    """

    tokens_of_rows: Int[Array, "groups rows length"]
    rows_of_tokens: Int[Array, "groups tokens"]  # row * length + column

    def flat(self, padded: Shaped[Array, "batch length *rest"]) -> Shaped[Array, "groups tokens *rest"]:
        """Takes the padding out."""
        by_group = padded.reshape(len(self.rows_of_tokens), -1, *padded.shape[2:])
        return _take(by_group, self.rows_of_tokens)

    def padded(self, flat: Shaped[Array, "groups tokens *rest"]) -> Shaped[Array, "batch length *rest"]:
        """Puts each token where it is in its row."""
        groups, rows, length = self.tokens_of_rows.shape
        taken = _take(flat, self.tokens_of_rows.reshape(groups, -1))
        return taken.reshape(groups * rows, length, *flat.shape[2:])

    @property
    def positions(self) -> Int[Array, "groups tokens"]:
        """Of each token in its row."""
        return self.rows_of_tokens % self.tokens_of_rows.shape[-1]


def ragged_rows(lengths: Int[Array, "batch"], length: int, shape: RaggedShape) -> Ragged:
    """Of right-padded rows of `length` with so many tokens each; those of a group fit into `shape.tokens` together.

    >>> rows = ragged_rows(jnp.array([2, 1]), 3, RaggedShape(1, 4))
    >>> rows.flat(jnp.array([[7, 8, 0], [9, 0, 0]])).tolist()
    [[7, 8, 9, 0]]
    """
    by_group = lengths.reshape(shape.groups, -1)
    ends = jnp.cumsum(by_group, axis=1)
    starts = ends - by_group
    places = jnp.arange(shape.tokens)
    row = jax.vmap(lambda ends: jnp.searchsorted(ends, places, side="right"))(ends)
    row = jnp.minimum(row, by_group.shape[1] - 1)
    column = jnp.minimum(places - jnp.take_along_axis(starts, row, axis=1), length - 1)
    tokens_of_rows = jnp.minimum(starts[:, :, None] + jnp.arange(length), shape.tokens - 1)
    return Ragged(tokens_of_rows, row * length + column)


def row_lengths(tokens: Int[Array, "batch length"]) -> Int[Array, "batch"]:
    """Tokens up to the last that is not padding (0), at least one: an id 0 inside the text is a token of SmolLM2.

    >>> row_lengths(jnp.array([[5, 0, 7, 0, 0]]))
    Array([3], dtype=int32)
    """
    return jnp.max(jnp.where(tokens != 0, jnp.arange(1, tokens.shape[1] + 1), 1), axis=1)


_take = jax.vmap(partial(jnp.take, axis=0, mode="clip"))
