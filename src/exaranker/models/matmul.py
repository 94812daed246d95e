"""The one matrix product of every model: low-precision operands, fp32 sums, the same in the gradients."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(a: Float[Array, "*batch m k"], b: Float[Array, "*batch k n"], dtype: str) -> Float[Array, "*batch m n"]:
    """Multiplies operands rounded to `dtype`; sums, and the result, are fp32.

    jax's own gradient of such a product multiplies an fp32 cotangent by a bf16 operand, which no hardware does fast:
    here the cotangent is rounded to `dtype` first.
    """
    batch = tuple(range(a.ndim - 2))
    dimensions = (((a.ndim - 1,), (b.ndim - 2,)), (batch, batch))
    return jax.lax.dot_general(a.astype(dtype), b.astype(dtype), dimensions, preferred_element_type=jnp.float32)


def _forward(a: Array, b: Array, dtype: str) -> tuple[Array, tuple[Array, Array]]:
    return matmul(a, b, dtype), (a, b)


def _backward(dtype: str, operands: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    a, b = operands
    gradient_a = matmul(cotangent, b.swapaxes(-1, -2), dtype)
    gradient_b = matmul(a.swapaxes(-1, -2), cotangent, dtype)
    return gradient_a.astype(a.dtype), gradient_b.astype(b.dtype)


matmul.defvjp(_forward, _backward)
