"""T5Gemma (arXiv 2504.06225): encoder-decoders made of Gemma 2's layers. T5Gemma 2 (its own file) is made of the same.

Rotary positions, grouped queries, a norm before and after every block, soft caps on attention and output logits, and
attention that is local (a sliding window) in one layer and full in the next. Encoder and decoder may be of unlike size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from exaranker.checks import ActivationType, DropoutRate, Macro, NotNegative, Positive, above, check
from exaranker.errors import InputError
from exaranker.models.attention import CrossAttention, Memory, SelfAttention, attention_mask
from exaranker.models.encoder_decoder import Context, EncoderDecoder
from exaranker.models.layers import Activations, Dense, Dropout, Embedding, Mlp, RMSNorm, capped, vocabulary_logits
from exaranker.models.positions import Rope
from exaranker.models.ragged import Ragged
from exaranker.models.stack import Remat, run_layers

Pattern = tuple[Literal["sliding", "full"], ...]  # of layers, repeated


@dataclass(frozen=True)
class Widths:
    """How wide the layers of a stack are."""

    emb_dim: Positive
    num_heads: Positive
    num_kv_heads: Positive
    head_dim: Positive
    mlp_dim: Positive


@dataclass(frozen=True)
class T5GemmaConfig:
    """The shape of a T5Gemma; widths are the decoder's, and the encoder's where it has none of its own.

    The defaults are 2B-2B's.
    """

    vocab_size: Positive = 256000
    emb_dim: Positive = 2304
    num_heads: Positive = 8
    num_kv_heads: Positive = 4
    num_encoder_layers: Positive = 26
    num_decoder_layers: Positive = 26
    head_dim: Positive = 256
    mlp_dim: Positive = 9216
    mlp_activations: Activations = ("gelu", "linear")
    encoder_widths: Widths | None = None  # 9B-2B
    query_scalar: Annotated[float, above(0)] = 256.0  # attention logits are divided by its square root
    attention_cap: Annotated[float, above(0)] | None = 50.0
    logit_cap: Annotated[float, above(0)] | None = 30.0
    attention_pattern: Pattern = ("sliding", "full")
    sliding_window: Positive = 4096
    rope_theta: Annotated[float, above(0)] = 10000.0
    rope_factor: Annotated[float, above(0)] = 1.0  # T5Gemma 2: layers that see everything divide positions by it
    local_rope_theta: Annotated[float, above(0)] | None = None  # T5Gemma 2: of layers that see a window
    qk_norm: bool = False  # T5Gemma 2
    merged_attention: bool = False  # T5Gemma 2: one attention to the target so far and to the encoded input
    start_id: NotNegative = 2  # <bos>, which T5Gemma reads where SeqIO starts a target with 0
    dropout_rate: DropoutRate = 0.0
    logits_via_embedding: bool = True
    layer_norm_epsilon: Annotated[float, above(0)] = 1e-6
    max_positions: Positive = 8192  # seen in pre-training; only exports need to know
    dtype: ActivationType = "bfloat16"  # of matrix products; "float32" for exact work
    scan_layers: Annotated[bool, Macro("SCAN_LAYERS")] = False
    remat: Annotated[Remat, Macro("REMAT")] = "none"

    def __post_init__(self) -> None:
        kind = type(self).__name__
        check(self, f"{kind}.")
        for widths in (self.encoder, self.decoder):
            if widths.num_heads % widths.num_kv_heads:
                heads = f"{kind}.num_heads {widths.num_heads}"
                raise InputError(f"{heads} is not a multiple of {kind}.num_kv_heads {widths.num_kv_heads}")
        if self.merged_attention and self.encoder.emb_dim != self.emb_dim:
            problem = f"{kind}.merged_attention needs an encoder as wide as the decoder: {self.emb_dim}"
            raise InputError(f"{problem}, not {self.encoder.emb_dim}")

    @property
    def decoder(self) -> Widths:
        """Widths of the decoder."""
        return Widths(self.emb_dim, self.num_heads, self.num_kv_heads, self.head_dim, self.mlp_dim)

    @property
    def encoder(self) -> Widths:
        """Widths of the encoder."""
        return self.encoder_widths or self.decoder

    @property
    def ropes(self) -> tuple[Rope, Rope]:
        """Rotary positions of layers that see everything, and of those that see a window."""
        return Rope(self.rope_theta, self.rope_factor), Rope(self.local_rope_theta or self.rope_theta)

    @property
    def encoder_window(self) -> tuple[int, int]:
        """How many tokens before and after its own the window of an encoder's layer shows."""
        return self.sliding_window, self.sliding_window

    def slides(self, layers: int) -> Bool[np.ndarray, " layers"]:
        """Whether each layer sees a window only.

        >>> T5GemmaConfig().slides(3).tolist()
        [True, False, True]
        """
        return np.array([self.attention_pattern[i % len(self.attention_pattern)] == "sliding" for i in range(layers)])


class EncoderLayer(nn.Module):
    """Attention to the whole input or a window of it, and the feed-forward block."""

    config: T5GemmaConfig
    train: bool

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        slides: Bool[Array, ""],
        mask: Bool[Array, "batch 1 length length"],
        window: Bool[Array, "1 1 length length"],
        positions: Int[Array, "batch length"],
        ragged: Ragged | None,
    ) -> tuple[Float[Array, "batch length embed"], None]:
        block = _Block(self.config, self.config.encoder, self.train)
        attend = block.self_attention("attention")
        seen, kind = mask & (window | ~slides), slides.astype(int)
        x = block.add(x, "attention", lambda x: attend(x, seen, positions=positions, kind=kind, ragged=ragged))
        return block.add(x, "mlp", block.mlp()), None


class DecoderLayer(nn.Module):
    """Attention to the target so far and to the encoded input, one after the other or merged, and the feed-forward."""

    config: T5GemmaConfig
    train: bool

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        slides: Bool[Array, ""],
        encoded: Float[Array, "batch key memory"],
        mask: Bool[Array, "batch 1 length slots"],
        window: Bool[Array, "batch 1 length slots"],
        cross_mask: Bool[Array, "batch 1 length key"],
        positions: Int[Array, "batch length"],
        slots: Int[Array, "batch"] | None,
    ) -> tuple[Float[Array, "batch length embed"], None]:
        block = _Block(self.config, self.config.decoder, self.train)
        merged, kind, seen = self.config.merged_attention, slides.astype(int), mask & (window | ~slides)
        attend = block.self_attention("merged_attention" if merged else "self_attention")
        memory = Memory(encoded, cross_mask) if merged else None
        x = block.add(x, "self_attention", lambda x: attend(x, seen, None, positions, slots, kind, memory))
        if not merged:
            cross = block.cross_attention()
            x = block.add(x, "cross_attention", lambda x: cross(x, encoded, cross_mask, slots is not None))
        return block.add(x, "mlp", block.mlp()), None


@dataclass(frozen=True)
class _Block:
    """What the layers of both stacks are made of."""

    config: T5GemmaConfig
    widths: Widths
    train: bool

    def add(self, x: Array, name: str, run: Callable[[Array], Array]) -> Float[Array, "batch length embed"]:
        """The residual stream with a block's output added, both its ends normalised."""
        before = _norm(self.config, f"pre_{name}_layer_norm", self.config.dtype)
        after = _norm(self.config, f"post_{name}_layer_norm", "float32")
        return x + Dropout(self.config.dropout_rate, self.train)(after(run(before(x))))

    def self_attention(self, name: str) -> SelfAttention:
        config, widths = self.config, self.widths
        return SelfAttention(
            widths.emb_dim,
            widths.num_heads,
            widths.num_kv_heads,
            widths.head_dim,
            config.dtype,
            config.dropout_rate,
            self.train,
            logit_scale=config.query_scalar**-0.5,
            logit_cap=config.attention_cap,
            ropes=config.ropes,
            qk_norm_epsilon=config.layer_norm_epsilon if config.qk_norm else None,
            qk_norm_offset=1.0,
            name=name,
        )

    def cross_attention(self) -> CrossAttention:
        config, widths = self.config, self.widths
        return CrossAttention(
            widths.emb_dim,
            widths.num_heads,
            widths.head_dim,
            config.dtype,
            config.dropout_rate,
            self.train,
            num_kv_heads=widths.num_kv_heads,
            memory_width=config.encoder.emb_dim,
            logit_scale=config.query_scalar**-0.5,
            logit_cap=config.attention_cap,
            name="encoder_decoder_attention",
        )

    def mlp(self) -> Mlp:
        config, widths = self.config, self.widths
        return Mlp(
            widths.emb_dim,
            widths.mlp_dim,
            config.mlp_activations,
            config.dtype,
            config.dropout_rate,
            self.train,
            name="mlp",
        )


class Encoder(nn.Module):
    """The stack that reads inputs."""

    config: T5GemmaConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        mask: Bool[Array, "batch 1 length length"],
        train: bool,
        ragged: Ragged | None = None,
    ) -> Float[Array, "batch length embed"]:
        config, dropout = self.config, Dropout(self.config.dropout_rate, train)
        columns = jnp.arange(mask.shape[-1])
        distance = columns[:, None] - columns
        before, after = config.encoder_window
        window = ((distance <= before) & (distance >= -after))[None, None]
        positions = jnp.broadcast_to(columns, x.shape[:2]) if ragged is None else ragged.positions
        layers, shared = config.num_encoder_layers, (mask, window, positions, ragged)
        x = run_layers(EncoderLayer, config, layers, train, dropout(x), *shared, each=config.slides(layers))
        return dropout(_norm(config, "encoder_norm", config.dtype)(x))


class Decoder(nn.Module):
    """The stack that writes targets, and the projection onto the vocabulary."""

    config: T5GemmaConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        encoded: Float[Array, "batch key memory"],
        mask: Bool[Array, "batch 1 length slots"],
        cross_mask: Bool[Array, "batch 1 length key"],
        rows: Float[Array, "vocab embed"],
        train: bool,
        slots: Int[Array, "batch"] | None = None,
        token_ids: Int[Array, "k"] | None = None,
    ) -> Float[Array, "batch length vocab"]:
        config, dropout = self.config, Dropout(self.config.dropout_rate, train)
        start = jnp.zeros(x.shape[0], jnp.int32) if slots is None else slots
        positions = start[:, None] + jnp.arange(x.shape[1])
        window = (positions[:, :, None] - jnp.arange(mask.shape[-1]) < config.sliding_window)[:, None]
        layers, shared = config.num_decoder_layers, (encoded, mask, window, cross_mask, positions, slots)
        x = run_layers(DecoderLayer, config, layers, train, dropout(x), *shared, each=config.slides(layers))
        x = dropout(_norm(config, "decoder_norm", config.dtype)(x))
        if not config.logits_via_embedding:
            head = Dense(config.emb_dim, config.vocab_size, ("embed", "vocab"), config.dtype, name="logits_dense")
            if token_ids is None:
                return capped(head(x), config.logit_cap)
            rows = head.kernel.T
        return capped(vocabulary_logits(x, rows, config.dtype, token_ids), config.logit_cap)


class T5Gemma(EncoderDecoder):
    """An encoder-decoder Transformer whose stacks have embeddings of their own."""

    config: T5GemmaConfig

    def setup(self) -> None:
        config, init = self.config, nn.initializers.normal(0.02)
        encoder, decoder = config.encoder.emb_dim, config.decoder.emb_dim
        self.encoder_embedder = Embedding(config.vocab_size, encoder, init, scale=encoder**0.5)
        self.token_embedder = Embedding(config.vocab_size, decoder, init, scale=decoder**0.5)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def _embed_inputs(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length embed"]:
        return self.encoder_embedder(tokens)

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
        x = self.token_embedder(jnp.where(tokens == 0, self.config.start_id, tokens))
        cross_mask, rows = attention_mask(segments, context.segments), self.token_embedder.embedding
        return self.decoder(x, context.encoded, mask, cross_mask, rows, train, slots, token_ids)


def _norm(config: T5GemmaConfig, name: str, dtype: str) -> RMSNorm:
    return RMSNorm(dtype, config.layer_norm_epsilon, offset=1.0, name=name)
