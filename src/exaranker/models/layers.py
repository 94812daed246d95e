"""The parts that encoder-decoder and decoder-only models share. Parameter names and logical axes are T5X's."""

from collections.abc import Callable
from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from exaranker.checks import Rule
from exaranker.models.matmul import matmul, matmul_transposed

Initializer = Callable[..., Array]
FAN_IN: Initializer = nn.initializers.variance_scaling(1.0, "fan_in", "normal")

# What remat policies know the products of weights by: they do not see into `matmul`, which has gradients of its own.
PROJECTION = "projection"
# The collection of low-rank matrices that `models/lora.py` adds to dense layers.
ADAPTER = "lora"

# T5's "gelu" is the tanh approximation.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=True),
    "silu": jax.nn.silu,
    "linear": lambda x: x,
}
Activations = Annotated[
    tuple[str, ...],
    Rule(
        f"one or two of {', '.join(ACTIVATIONS)}",
        lambda names: len(names) in (1, 2) and all(name in ACTIVATIONS for name in names),
    ),
]


def partitioned(init: Initializer, axes: tuple[str, ...]) -> Initializer:
    """Names the logical axes of a parameter, from which its layout on the mesh is derived."""
    return nn.with_logical_partitioning(init, axes)  # type: ignore[return-value]  # flax unboxes it in `param`


def constrain(x: Array, *axes: str) -> Array:
    """Tells the compiler how an activation is laid out on the mesh; does nothing where no axis rules are set."""
    return nn.with_logical_constraint(x, axes)


class Dense(nn.Module):
    """A linear map of the last axis: `dtype` operands, fp32 result."""

    width: int
    features: int
    axes: tuple[str, str]
    dtype: str
    use_bias: bool = False
    kernel_init: Initializer = FAN_IN

    def setup(self) -> None:
        init = partitioned(self.kernel_init, self.axes)
        self.kernel = self.param("kernel", init, (self.width, self.features), jnp.float32)
        if self.use_bias:
            bias_init = partitioned(nn.initializers.zeros_init(), self.axes[1:])
            self.bias = self.param("bias", bias_init, (self.features,), jnp.float32)

    @property
    def is_adapted(self) -> bool:
        """Whether it has low-rank matrices: then `kernel` alone is not the whole map."""
        return self.has_variable(ADAPTER, "a")

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch features"]:
        y = matmul(x.reshape(-1, self.width), self.kernel, self.dtype)
        y = checkpoint_name(y, PROJECTION).reshape(*x.shape[:-1], self.features)
        return y + self.bias if self.use_bias else y


class RMSNorm(nn.Module):
    """Root-mean-square normalisation in fp32 (no mean, no bias), returned in `dtype`."""

    dtype: str
    epsilon: float
    axis: str = "embed"
    offset: float = 0.0  # Gemma multiplies by 1 + scale

    @nn.compact
    def __call__(self, x: Float[Array, "*batch embed"]) -> Float[Array, "*batch embed"]:
        init = partitioned(nn.initializers.constant(1.0 - self.offset), (self.axis,))
        scale = self.param("scale", init, (x.shape[-1],), jnp.float32)
        x = x.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        return (x * jax.lax.rsqrt(mean_square + self.epsilon) * (self.offset + scale)).astype(self.dtype)


class Mlp(nn.Module):
    """The feed-forward block: one input projection, or two whose activations are multiplied (gated)."""

    width: int
    hidden: int
    activations: tuple[str, ...]
    dtype: str
    dropout_rate: float
    train: bool

    @nn.compact
    def __call__(self, x: Float[Array, "batch length embed"]) -> Float[Array, "batch length embed"]:
        gates = []
        for index, activation in enumerate(self.activations):
            name = "wi" if len(self.activations) == 1 else f"wi_{index}"
            projected = Dense(self.width, self.hidden, ("embed", "mlp"), self.dtype, name=name)(x)
            gates.append(ACTIVATIONS[activation](projected))
        hidden = gates[0] if len(gates) == 1 else gates[0] * gates[1]
        hidden = constrain(hidden.astype(self.dtype), "batch", "length", "mlp")
        hidden = Dropout(self.dropout_rate, self.train)(hidden)
        return Dense(self.hidden, self.width, ("mlp", "embed"), self.dtype, name="wo")(hidden)


class Embedding(nn.Module):
    """Token embeddings: looked up on the way in and, where tied, multiplied with on the way out."""

    vocab_size: int
    width: int
    embedding_init: Initializer = nn.initializers.normal(1.0)
    scale: float = 1.0  # of embeddings on the way in

    def setup(self) -> None:
        init = partitioned(self.embedding_init, ("vocab", "embed"))
        self.embedding = self.param("embedding", init, (self.vocab_size, self.width), jnp.float32)

    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length embed"]:
        return constrain(jnp.take(self.embedding, tokens, axis=0) * self.scale, "batch", "length", "embed")


def Dropout(rate: float, train: bool) -> nn.Module:  # noqa: N802 - reads as the module it returns
    """Dropout that drops a feature along the whole sequence, as T5 was trained with: next to no random bits to draw."""
    return nn.Dropout(rate, broadcast_dims=(-2,), deterministic=not train)


def capped(logits: Float[Array, "*shape"], cap: float | None) -> Float[Array, "*shape"]:
    """Squeezes logits smoothly into -cap..cap (Gemma 2, arXiv 2408.00118)."""
    return logits if cap is None else cap * jnp.tanh(logits / cap)


def vocabulary_logits(
    hidden: Float[Array, "*batch embed"],
    rows: Float[Array, "vocab embed"],
    dtype: str,
    token_ids: Int[Array, "k"] | None = None,
) -> Float[Array, "*batch vocab"]:
    """Projects hidden states onto the vocabulary, or onto `token_ids` alone (in fp32: a few rows cost nothing)."""
    if token_ids is not None:
        return jnp.einsum("...e,ke->...k", hidden.astype(jnp.float32), rows[token_ids], precision="highest")
    logits = matmul_transposed(hidden.reshape(-1, hidden.shape[-1]), rows, dtype)
    return logits.reshape(*hidden.shape[:-1], -1)
