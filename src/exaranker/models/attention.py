"""Multi-head attention: masks, softmax in fp32, grouped queries, key/value caches."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from exaranker.models.layers import FAN_IN, Dense, Dropout, RMSNorm, capped, constrain
from exaranker.models.matmul import heads_first, matmul, matmul_transposed
from exaranker.models.positions import Rope, rotate
from exaranker.models.ragged import Ragged

# Far below any logit, yet finite: a row that may attend to nothing (padding) averages instead of giving NaN.
MASKED = -1e10


def attention_mask(
    query_segments: Int[Array, "batch query"], key_segments: Int[Array, "batch key"]
) -> Bool[Array, "batch 1 query key"]:
    """A query sees the keys of its own segment; segment 0 is padding, which nobody sees."""
    same = query_segments[:, :, None] == key_segments[:, None, :]
    return (same & (key_segments[:, None, :] != 0))[:, None]


def causal_mask(
    query_positions: Int[Array, "batch query"], key_positions: Int[Array, "batch key"]
) -> Bool[Array, "batch 1 query key"]:
    """A query sees keys at its own position and before."""
    return (query_positions[:, :, None] >= key_positions[:, None, :])[:, None]


class Memory(NamedTuple):
    """The encoded input, and which of it a query sees."""

    encoded: Float[Array, "batch memory embed"]
    mask: Bool[Array, "batch 1 query memory"]


class SelfAttention(nn.Module):
    """Attention of a sequence to itself; rotary if there are `ropes`, cached if called with `slots`.

    Called with a `memory` it is merged with cross-attention (T5Gemma 2, arXiv 2512.14856): one softmax over the keys of
    both, by the same weights. Those of the memory have no positions. Called with `ragged` it is given tokens without
    padding, and the mask of their padded rows.

    T5 folds the usual 1/sqrt(head_dim) into the query's initial values; `logit_scale` puts it into the forward pass.
    """

    width: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    dtype: str
    dropout_rate: float
    train: bool
    logit_scale: float | None = None
    logit_cap: float | None = None
    qkv_bias: bool = False
    ropes: tuple[Rope, ...] = ()  # by kind of layer
    qk_norm_epsilon: float | None = None  # each head's queries and keys are normalised
    qk_norm_offset: float = 0.0

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch query embed"],
        mask: Bool[Array, "#batch 1 query key"],
        bias: Float[Array, "1 heads query key"] | None = None,
        positions: Int[Array, "batch query"] | None = None,
        slots: Int[Array, "batch"] | None = None,
        kind: Int[Array, ""] | int = 0,
        memory: Memory | None = None,
        ragged: Ragged | None = None,
    ) -> Float[Array, "batch query embed"]:
        projections, norms = self._projections(), self._norms()

        def project(name: str, x: Array) -> Float[Array, "batch length heads dim"]:
            heads = projections[name](x).reshape(*x.shape[:2], -1, self.head_dim)
            return norms[name](heads) if name in norms else heads

        query, key, value = (project(name, x) for name in projections)
        if self.ropes:
            assert positions is not None
            query, key = (rotate(x, positions, self.ropes, mask.shape[-1], kind) for x in (query, key))
        if self.logit_scale is not None:
            query = query * self.logit_scale
        query, key, value = (_by_head(x, self.dtype, ragged) for x in (query, key, value))
        if slots is not None:
            key, value = self._cache("keys", key, slots, mask), self._cache("values", value, slots, mask)
        if memory is not None:
            key, value = (
                jnp.concatenate([own, self._remember(name, partial(project, name, memory.encoded), slots)], axis=2)
                for name, own in (("key", key), ("value", value))
            )
            own_mask = jnp.broadcast_to(mask, (*memory.mask.shape[:-1], mask.shape[-1]))
            mask = jnp.concatenate([own_mask, memory.mask], axis=-1)
        dropout = Dropout(self.dropout_rate, self.train)
        context = attend(query, key, value, mask, bias, self.dtype, dropout, self.logit_cap)
        context = context if ragged is None else ragged.flat(context)
        return _output(self.num_heads * self.head_dim, self.width, self.dtype)(context)

    def _projections(self) -> dict[str, Dense]:
        heads = {"query": self.num_heads, "key": self.num_kv_heads, "value": self.num_kv_heads}
        scales = {"query": 1.0 if self.logit_scale else self.head_dim**-0.5}
        return {
            name: _heads(self.width, n, self.head_dim, self.dtype, name, scales.get(name, 1.0), self.qkv_bias)
            for name, n in heads.items()
        }

    def _norms(self) -> dict[str, RMSNorm]:
        if self.qk_norm_epsilon is None:
            return {}
        return {
            name: RMSNorm("float32", self.qk_norm_epsilon, "kv", self.qk_norm_offset, name=f"{name}_norm")
            for name in ("query", "key")
        }

    def _remember(
        self, name: str, read: Callable[[], Array], slots: Array | None
    ) -> Float[Array, "batch heads memory dim"]:
        """Keys or values of the memory; while generating, computed once only."""
        if slots is None:
            return _by_head(read(), self.dtype)
        return self.variable("cache", f"memory_{name}s", lambda: _by_head(read(), self.dtype)).value

    def _cache(
        self, name: str, new: Float[Array, "batch heads query dim"], slots: Int[Array, "batch"], mask: Array
    ) -> Float[Array, "batch heads slots dim"]:
        """Writes keys or values from each row's slot on, and returns all slots (as many as the mask has keys)."""
        shape = (*new.shape[:2], mask.shape[-1], new.shape[-1])
        cache = self.variable("cache", name, jnp.zeros, shape, new.dtype)
        write: Any = jax.vmap(lambda row, update, slot: jax.lax.dynamic_update_slice(row, update, (0, slot, 0)))
        cache.value = write(cache.value, new, slots)
        return cache.value


class CrossAttention(nn.Module):
    """Attention of the decoder to the encoded input. T5 has a key head per query head and does not scale logits."""

    width: int
    num_heads: int
    head_dim: int
    dtype: str
    dropout_rate: float
    train: bool
    num_kv_heads: int | None = None
    memory_width: int | None = None
    logit_scale: float | None = None
    logit_cap: float | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch query embed"],
        encoded: Float[Array, "batch key embed"],
        mask: Bool[Array, "batch 1 query key"],
        cached: bool = False,
    ) -> Float[Array, "batch query embed"]:
        width, kv_heads = self.memory_width or self.width, self.num_kv_heads or self.num_heads
        init_scale = 1.0 if self.logit_scale else self.head_dim**-0.5
        project = [_heads(self.width, self.num_heads, self.head_dim, self.dtype, "query", init_scale)]
        project += [_heads(width, kv_heads, self.head_dim, self.dtype, name) for name in ("key", "value")]
        query = self._split(project[0](x) * (self.logit_scale or 1.0))
        dropout = Dropout(self.dropout_rate, self.train)
        adapted = any(module.is_adapted for module in project[1:])
        if x.shape[1] == 1 and not cached and kv_heads == self.num_heads and not adapted:
            key_kernel, value_kernel = (module.kernel for module in project[1:])
            context = attend_absorbed(
                query, encoded, key_kernel, value_kernel, mask, self.dtype, dropout, self.logit_cap
            )
        else:
            key, value = (self._memory(module, encoded, cached) for module in project[1:])
            context = attend(query, key, value, mask, None, self.dtype, dropout, self.logit_cap)
        return _output(self.num_heads * self.head_dim, self.width, self.dtype)(context)

    def _split(self, projected: Float[Array, "batch length joined"]) -> Float[Array, "batch heads length dim"]:
        return _by_head(projected.reshape(*projected.shape[:2], -1, self.head_dim), self.dtype)

    def _memory(self, module: Dense, encoded: Array, cached: bool) -> Float[Array, "batch heads key dim"]:
        """Projects the encoded input; while generating, once only."""
        if not cached:
            return self._split(module(encoded))
        return self.variable("cache", f"{module.name}s", lambda: self._split(module(encoded))).value


def attend(
    query: Float[Array, "batch heads query dim"],
    key: Float[Array, "batch kv_heads key dim"],
    value: Float[Array, "batch kv_heads key dim"],
    mask: Bool[Array, "#batch 1 query key"],
    bias: Float[Array, "1 heads query key"] | None,
    dtype: str,
    dropout: nn.Module,
    cap: float | None = None,
) -> Float[Array, "batch query joined"]:
    """Softmax attention. Query heads that share a key head are folded into its query axis, so keys are not repeated."""
    batch, heads, length, dim = query.shape
    grouped = query.reshape(batch, key.shape[1], -1, dim)
    logits = matmul_transposed(grouped, key, dtype).reshape(batch, heads, length, -1)
    weights = dropout(_softmax(capped(logits, cap), mask, bias).astype(dtype))
    context = matmul(weights.reshape(batch, key.shape[1], -1, weights.shape[-1]), value, dtype)
    return context.astype(dtype).reshape(batch, heads, length, dim).swapaxes(1, 2).reshape(batch, length, -1)


def attend_absorbed(
    query: Float[Array, "batch heads 1 dim"],
    encoded: Float[Array, "batch key embed"],
    key_kernel: Float[Array, "embed joined"],
    value_kernel: Float[Array, "embed joined"],
    mask: Bool[Array, "batch 1 1 key"],
    dtype: str,
    dropout: nn.Module,
    cap: float | None = None,
) -> Float[Array, "batch 1 joined"]:
    """The same for one query per row: projects the query and the context, and never the whole encoded input.

    Each head meets all heads' kernels, with zeros for the others': on a CPU that takes less time than bringing a head's
    own part of the kernels together, a copy of them in fp32 for every batch.
    """
    batch, heads, _, dim = query.shape
    own = jnp.eye(heads, dtype=dtype)[:, :, None]
    by_head = matmul_transposed((query[:, :, 0, None] * own).reshape(batch * heads, -1), key_kernel, dtype)
    logits = matmul_transposed(by_head.reshape(batch, heads, -1), encoded, dtype)[:, :, None]
    weights = dropout(_softmax(capped(logits, cap), mask, None).astype(dtype))[:, :, 0]
    mixed = matmul(weights, encoded, dtype).reshape(batch * heads, -1)
    context = matmul(mixed, value_kernel, dtype).reshape(batch, heads, heads, dim)
    return jnp.sum(context * own, axis=1).astype(dtype).reshape(batch, 1, -1)


def _softmax(logits: Array, mask: Array, bias: Array | None) -> Float[Array, "batch heads query key"]:
    if bias is not None:
        logits = logits + bias
    return jax.nn.softmax(jnp.where(mask, logits, MASKED), axis=-1)


def _heads(
    width: int, heads: int, head_dim: int, dtype: str, name: str, scale: float = 1.0, use_bias: bool = False
) -> Dense:
    def init(*args: Any) -> Array:
        return FAN_IN(*args) * scale

    return Dense(width, heads * head_dim, ("embed", "joined_kv"), dtype, use_bias, init, name=name)


def _output(joined: int, width: int, dtype: str) -> Dense:
    return Dense(joined, width, ("joined_kv", "embed"), dtype, name="out")


def _by_head(
    x: Float[Array, "batch length heads dim"], dtype: str, ragged: Ragged | None = None
) -> Float[Array, "batch heads length dim"]:
    x = x.astype(dtype)
    padded = x if ragged is None else ragged.padded(x)
    return constrain(heads_first(padded), "batch", "heads", "length", "kv")
