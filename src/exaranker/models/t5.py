"""T5 and its relatives, one implementation: v1.0, v1.1, Flan, LM-adapted, mT5, umT5 and ByT5 differ by `T5Config` only.

Parameters are named and shaped as T5X's minimal T5, in fp32; the residual stream, norms, softmax and logits are fp32.
"""

from dataclasses import dataclass
from typing import Annotated

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from exaranker.checks import ActivationType, DropoutRate, Macro, Positive, above, check
from exaranker.models.attention import CrossAttention, SelfAttention, attention_mask
from exaranker.models.encoder_decoder import Context, EncoderDecoder
from exaranker.models.layers import Activations, Dense, Dropout, Embedding, Mlp, RMSNorm, vocabulary_logits
from exaranker.models.positions import RelativeBias
from exaranker.models.ragged import Ragged
from exaranker.models.stack import Remat, run_layers


@dataclass(frozen=True)
class T5Config:
    """The shape of a T5, in T5X's words; the defaults are T5 v1.1's conventions."""

    vocab_size: Positive = 32128
    emb_dim: Positive = 512
    num_heads: Positive = 6
    num_encoder_layers: Positive = 8
    num_decoder_layers: Positive = 8
    head_dim: Positive = 64
    mlp_dim: Positive = 1024
    mlp_activations: Activations = ("gelu", "linear")
    dropout_rate: DropoutRate = 0.1
    logits_via_embedding: bool = False  # v1.0 ties the output to the embeddings
    scale_logits: bool = False  # and divides its output by sqrt(emb_dim)
    relative_bias_per_layer: bool = False  # umT5; all others share the first layer's
    relative_buckets: Positive = 32
    relative_max_distance: Positive = 128
    layer_norm_epsilon: Annotated[float, above(0)] = 1e-6
    dtype: ActivationType = "bfloat16"  # of matrix products; "float32" for exact work
    scan_layers: Annotated[bool, Macro("SCAN_LAYERS")] = False
    remat: Annotated[Remat, Macro("REMAT")] = "none"

    def __post_init__(self) -> None:
        check(self, "T5Config.")


class EncoderLayer(nn.Module):
    """Self-attention over the whole input, then the MLP."""

    config: T5Config
    train: bool

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        mask: Bool[Array, "batch 1 length length"],
        bias: Array | None,
        ragged: Ragged | None,
    ) -> tuple[Float[Array, "batch length embed"], None]:
        config = self.config
        if config.relative_bias_per_layer:
            positions = jnp.arange(mask.shape[-1])
            bias = _relative_bias(config, bidirectional=True)(positions, positions)
        attended = _self_attention(config, self.train, "attention")(
            _norm(config, "pre_attention_layer_norm")(x), mask, bias, ragged=ragged
        )
        x = x + Dropout(config.dropout_rate, self.train)(attended)
        return x + _mlp(config, self.train, x), None


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the encoded input, then the MLP."""

    config: T5Config
    train: bool

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        encoded: Float[Array, "batch key embed"],
        mask: Bool[Array, "batch 1 length slots"],
        cross_mask: Bool[Array, "batch 1 length key"],
        bias: Array | None,
        slots: Int[Array, "batch"] | None,
    ) -> tuple[Float[Array, "batch length embed"], None]:
        config = self.config
        if config.relative_bias_per_layer:
            bias = _decoder_bias(config, x.shape[1], mask.shape[-1], slots)
        dropout = Dropout(config.dropout_rate, self.train)
        attend = _self_attention(config, self.train, "self_attention")
        x = x + dropout(attend(_norm(config, "pre_self_attention_layer_norm")(x), mask, bias, slots=slots))
        cross = CrossAttention(
            config.emb_dim,
            config.num_heads,
            config.head_dim,
            config.dtype,
            config.dropout_rate,
            self.train,
            name="encoder_decoder_attention",
        )
        queries = _norm(config, "pre_cross_attention_layer_norm")(x)
        x = x + dropout(cross(queries, encoded, cross_mask, slots is not None))
        return x + _mlp(config, self.train, x), None


class Encoder(nn.Module):
    """The encoder's layers and the norm after them."""

    config: T5Config

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        mask: Bool[Array, "batch 1 length length"],
        train: bool,
        ragged: Ragged | None = None,
    ) -> Float[Array, "batch length embed"]:
        config = self.config
        bias = None
        if not config.relative_bias_per_layer:
            positions = jnp.arange(mask.shape[-1])
            bias = _relative_bias(config, bidirectional=True)(positions, positions)
        dropout = Dropout(config.dropout_rate, train)
        x = run_layers(EncoderLayer, config, config.num_encoder_layers, train, dropout(x), mask, bias, ragged)
        return dropout(_norm(config, "encoder_norm")(x))


class Decoder(nn.Module):
    """The decoder's layers, the norm after them, and the logits."""

    config: T5Config

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        encoded: Float[Array, "batch key embed"],
        mask: Bool[Array, "batch 1 length slots"],
        cross_mask: Bool[Array, "batch 1 length key"],
        rows: Float[Array, "vocab embed"],
        train: bool,
        slots: Int[Array, "batch"] | None = None,
        token_ids: Int[Array, "k"] | None = None,
    ) -> Float[Array, "batch length vocab"]:
        config = self.config
        bias = None
        if not config.relative_bias_per_layer:
            bias = _decoder_bias(config, x.shape[1], mask.shape[-1], slots)
        dropout = Dropout(config.dropout_rate, train)
        shared = (encoded, mask, cross_mask, bias, slots)
        x = run_layers(DecoderLayer, config, config.num_decoder_layers, train, dropout(x), *shared)
        x = dropout(_norm(config, "decoder_norm")(x))
        if config.scale_logits:
            x = x * config.emb_dim**-0.5
        if not config.logits_via_embedding:
            head = Dense(config.emb_dim, config.vocab_size, ("embed", "vocab"), config.dtype, name="logits_dense")
            if token_ids is None:
                return head(x)
            rows = head.kernel.T
        return vocabulary_logits(x, rows, config.dtype, token_ids)


class T5(EncoderDecoder):
    """An encoder-decoder Transformer."""

    config: T5Config

    def setup(self) -> None:
        self.token_embedder = Embedding(self.config.vocab_size, self.config.emb_dim)
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config)

    def _embed_inputs(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length embed"]:
        return self.token_embedder(tokens)

    def _decode(
        self,
        tokens: Int[Array, "batch length"],
        context: Context,
        mask: Bool[Array, "batch 1 length slots"],
        segments: Int[Array, "batch length"],
        train: bool = False,
        slots: Int[Array, "batch"] | None = None,
        token_ids: Int[Array, "k"] | None = None,
    ) -> Float[Array, "batch length vocab"]:
        cross_mask = attention_mask(segments, context.segments)
        x, rows = self.token_embedder(tokens), self.token_embedder.embedding
        return self.decoder(x, context.encoded, mask, cross_mask, rows, train, slots, token_ids)


def _norm(config: T5Config, name: str) -> RMSNorm:
    return RMSNorm(config.dtype, config.layer_norm_epsilon, name=name)


def _self_attention(config: T5Config, train: bool, name: str) -> SelfAttention:
    heads = (config.num_heads, config.num_heads, config.head_dim)
    return SelfAttention(config.emb_dim, *heads, config.dtype, config.dropout_rate, train, name=name)


def _mlp(config: T5Config, train: bool, x: Array) -> Float[Array, "batch length embed"]:
    mlp = Mlp(
        config.emb_dim, config.mlp_dim, config.mlp_activations, config.dtype, config.dropout_rate, train, name="mlp"
    )
    return Dropout(config.dropout_rate, train)(mlp(_norm(config, "pre_mlp_layer_norm")(x)))


def _relative_bias(config: T5Config, bidirectional: bool) -> RelativeBias:
    buckets = (config.relative_buckets, config.relative_max_distance)
    return RelativeBias(config.num_heads, bidirectional, *buckets, name="relpos_bias")


def _decoder_bias(
    config: T5Config, length: int, num_slots: int, slots: Int[Array, "batch"] | None
) -> Float[Array, "1 heads length slots"]:
    """Cached rows are all at the same position: they started together and have the same forced prefix."""
    start = 0 if slots is None else slots[0]
    return _relative_bias(config, bidirectional=False)(start + jnp.arange(length), jnp.arange(num_slots))
