"""The matrix products of every model: low-precision operands, fp32 sums, the same in the gradients.

jax's own gradient of such a product multiplies an fp32 cotangent by a bf16 operand, which no hardware does fast: here
the cotangent is rounded to `dtype` first.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(a: Float[Array, "*batch m k"], b: Float[Array, "*batch k n"], dtype: str) -> Float[Array, "*batch m n"]:
    """Multiplies operands rounded to `dtype`; sums, and the result, are fp32.

    "float32" operands are multiplied exactly on every device; against a second operand stored in bf16, by halves.
    """
    return _rounded_product(a, b, dtype, b_axis=-2)


def _rounded_product(a: Array, b: Array, dtype: str, b_axis: int) -> Array:
    if dtype == "float32" and b.dtype == jnp.bfloat16:
        return _by_halves(a, b, b_axis)
    return _product(a.astype(dtype), b.astype(dtype), b_axis)


def _product(a: Array, b: Array, b_axis: int) -> Array:
    """Sums over the last axis of `a` and `b_axis` of `b`."""
    dot = partial(_dot, b_axis=b_axis)
    if a.dtype == jnp.bfloat16 and a.shape[-2] == 1:
        return jax.lax.platform_dependent(a, b, cpu=partial(_one_row, dot), default=dot)
    return dot(a, b)


def _one_row(dot: Callable[[Array, Array], Array], a: Array, b: Array) -> Array:
    """A row of zeros is added: one bf16 row alone has the whole matrix copied to fp32 for it (jax 0.10.2, on a CPU)."""
    return dot(jnp.pad(a, [(0, 0)] * (a.ndim - 2) + [(0, 1), (0, 0)]), b)[..., :1, :]


def _dot(a: Array, b: Array, b_axis: int) -> Array:
    batch = tuple(range(a.ndim - 2))
    dimensions = (((a.ndim - 1,), (b.ndim + b_axis,)), (batch, batch))
    precision = "highest" if a.dtype == jnp.float32 else None  # an accelerator's default rounds fp32 operands
    return jax.lax.dot_general(a, b, dimensions, precision, preferred_element_type=jnp.float32)


def _by_halves(a: Array, b: Array, b_axis: int) -> Array:
    """An fp32 operand is a bf16 one and what is left over, to 17 bits: one bf16 product of both, `b` is never cast."""
    high = a.astype(jnp.bfloat16)
    low = (a - high.astype(jnp.float32)).astype(jnp.bfloat16)
    rows = _product(jnp.concatenate([high, low], axis=-2), b, b_axis)
    return rows[..., : a.shape[-2], :] + rows[..., a.shape[-2] :, :]


def _forward(a: Array, b: Array, dtype: str) -> tuple[Array, tuple[Array, Array]]:
    return matmul(a, b, dtype), (a, b)


def _backward(dtype: str, operands: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    a, b = operands
    gradient_a = matmul_transposed(cotangent, b, dtype)
    gradient_b = matmul(_transposed(a, dtype), cotangent, dtype)
    return gradient_a.astype(a.dtype), gradient_b.astype(b.dtype)


matmul.defvjp(_forward, _backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul_transposed(
    a: Float[Array, "*batch m k"], b: Float[Array, "*batch n k"], dtype: str
) -> Float[Array, "*batch m n"]:
    """Product with the transpose of its second operand: queries with keys, hidden states with embeddings."""
    return _rounded_product(a, b, dtype, b_axis=-1)


def _forward_transposed(a: Array, b: Array, dtype: str) -> tuple[Array, tuple[Array, Array]]:
    return matmul_transposed(a, b, dtype), (a, b)


def _backward_transposed(dtype: str, operands: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    a, b = operands
    gradient_a = matmul(cotangent, b, dtype)
    gradient_b = matmul(_transposed(cotangent, dtype), a, dtype)
    return gradient_a.astype(a.dtype), gradient_b.astype(b.dtype)


matmul_transposed.defvjp(_forward_transposed, _backward_transposed)


def _transposed(x: Float[Array, "*batch m n"], dtype: str) -> Float[Array, "*batch n m"]:
    """The transpose, rounded to `dtype`, as the first operand of a product.

    XLA folds transposes into products. On a CPU a product whose first bf16 operand is transposed falls back to fp32, at
    half the speed (jax 0.10.2): so there the transpose is written out. Accelerators multiply either way.
    """
    x = x.astype(dtype)
    if dtype != "bfloat16" or x.shape[-1] % 2:
        return x.swapaxes(-1, -2)
    return jax.lax.platform_dependent(x, cpu=_written_out, default=lambda x: x.swapaxes(-1, -2))


def _written_out(x: Float[Array, "*batch m n"]) -> Float[Array, "*batch n m"]:
    """A transpose that XLA does not fold, by way of pairs of columns: an axis more than products have."""
    *batch, m, n = x.shape
    axes = len(batch)
    pairs = x.reshape(*batch, m, n // 2, 2)
    return pairs.transpose(*range(axes), axes + 1, axes + 2, axes).reshape(*batch, n, m)


@jax.custom_vjp
def heads_first(x: Float[Array, "batch length heads dim"]) -> Float[Array, "batch heads length dim"]:
    """Brings a head's queries, keys or values together, as operands of products: on a CPU written out, as above."""
    if x.dtype != jnp.bfloat16 or x.shape[-1] % 2:
        return x.swapaxes(1, 2)
    return jax.lax.platform_dependent(x, cpu=_heads_written_out, default=lambda x: x.swapaxes(1, 2))


def _heads_written_out(x: Float[Array, "batch length heads dim"]) -> Float[Array, "batch heads length dim"]:
    batch, length, heads, dim = x.shape
    pairs = x.reshape(batch, length, heads, dim // 2, 2)
    return pairs.transpose(0, 2, 1, 3, 4).reshape(batch, heads, length, dim)


heads_first.defvjp(lambda x: (heads_first(x), None), lambda _, cotangent: (cotangent.swapaxes(1, 2),))


def round_kernels(params: Any, dtype: str) -> Any:
    """Rounds the matrices to the compute type once, instead of in every batch (a seventh of the time on a CPU).

    The models round them anyway. Embeddings, norms and the output projection are used in fp32 and stay as they are.
    """

    def rounded(path: Any, leaf: Array) -> Array:
        names = [entry.key for entry in path]
        return leaf.astype(dtype) if names[-1] == "kernel" and "logits_dense" not in names else leaf

    return jax.tree_util.tree_map_with_path(rounded, params)
