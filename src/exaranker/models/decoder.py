"""Decoder-only rankers of the Llama architecture: RMSNorm, rotary positions, grouped queries, SwiGLU.

SmolLM2, Llama, Qwen2 (biases on query, key and value) and Qwen3 (its own file) differ by `DecoderConfig` only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from exaranker.checks import ActivationType, DropoutRate, Macro, Positive, above, check
from exaranker.errors import InputError
from exaranker.models.attention import SelfAttention, attention_mask, causal_mask
from exaranker.models.layers import Activations, Dense, Dropout, Embedding, Mlp, RMSNorm, vocabulary_logits
from exaranker.models.positions import Rope
from exaranker.models.ragged import Ragged, RaggedShape, ragged_rows, row_lengths
from exaranker.models.stack import Remat, run_layers

# Prompt tokens, next to the answer, that decide most of a score: in bf16, 200 passages of SmolLM2 ranked by all-bf16
# states had a Kendall tau of 0.970 to the fp32 ranking, with 12, 24 and 48 such tokens in fp32 0.983, 0.989 and 0.991.
EXACT_TAIL = 24


@dataclass(frozen=True)
class DecoderConfig:
    """The shape of a decoder-only model; the defaults are SmolLM2-135M's."""

    vocab_size: Positive = 49152
    emb_dim: Positive = 576
    num_heads: Positive = 9
    num_kv_heads: Positive = 3
    num_layers: Positive = 30
    head_dim: Positive = 64
    mlp_dim: Positive = 1536
    mlp_activations: Activations = ("silu", "linear")
    rope_theta: Annotated[float, above(0)] = 100000.0
    qkv_bias: bool = False  # Qwen2
    qk_norm: bool = False  # Qwen3
    logits_via_embedding: bool = True
    bidirectional_prefix: bool = False  # let the prompt see itself in both directions (prefix LM)
    layer_norm_epsilon: Annotated[float, above(0)] = 1e-5
    dropout_rate: DropoutRate = 0.0
    max_positions: Positive = 8192  # seen in pre-training; only exports need to know
    dtype: ActivationType = "bfloat16"  # of matrix products; "float32" for exact work
    scan_layers: Annotated[bool, Macro("SCAN_LAYERS")] = False
    remat: Annotated[Remat, Macro("REMAT")] = "none"

    def __post_init__(self) -> None:
        kind = type(self).__name__
        check(self, f"{kind}.")
        if self.num_heads % self.num_kv_heads:
            heads = f"{kind}.num_heads {self.num_heads}"
            raise InputError(f"{heads} is not a multiple of {kind}.num_kv_heads {self.num_kv_heads}")


class PromptSlots(NamedTuple):
    """Which cache slots hold the prompt."""

    is_prompt: Bool[Array, "batch slots"]


class DecoderOnlyLayer(nn.Module):
    """Self-attention and MLP, each behind its norm and added to the residual stream."""

    config: DecoderConfig
    train: bool

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        mask: Bool[Array, "batch 1 length slots"],
        positions: Int[Array, "batch length"],
        slots: Int[Array, "batch"] | None,
        ragged: Ragged | None,
    ) -> tuple[Float[Array, "batch length embed"], None]:
        config = self.config
        attention = SelfAttention(
            config.emb_dim,
            config.num_heads,
            config.num_kv_heads,
            config.head_dim,
            config.dtype,
            config.dropout_rate,
            self.train,
            logit_scale=config.head_dim**-0.5,
            qkv_bias=config.qkv_bias,
            ropes=(Rope(config.rope_theta),),
            qk_norm_epsilon=config.layer_norm_epsilon if config.qk_norm else None,
            name="self_attention",
        )
        mlp = Mlp(
            config.emb_dim,
            config.mlp_dim,
            config.mlp_activations,
            config.dtype,
            config.dropout_rate,
            self.train,
            name="mlp",
        )
        dropout = Dropout(config.dropout_rate, self.train)
        normed = _norm(config, "pre_self_attention_layer_norm")(x)
        x = x + dropout(attention(normed, mask, positions=positions, slots=slots, ragged=ragged))
        return x + dropout(mlp(_norm(config, "pre_mlp_layer_norm")(x))), None


class DecoderStack(nn.Module):
    """The layers of a decoder-only model and the norm after them."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        mask: Bool[Array, "batch 1 length slots"],
        positions: Int[Array, "batch length"],
        train: bool,
        slots: Int[Array, "batch"] | None,
        ragged: Ragged | None,
    ) -> Float[Array, "batch length embed"]:
        config = self.config
        x = Dropout(config.dropout_rate, train)(x)
        x = run_layers(DecoderOnlyLayer, config, config.num_layers, train, x, mask, positions, slots, ragged)
        return _norm(config, "decoder_norm")(x)


class DecoderOnly(nn.Module):
    """A causal language model."""

    config: DecoderConfig

    def setup(self) -> None:
        config = self.config
        init = nn.initializers.normal(0.02)
        self.token_embedder = Embedding(config.vocab_size, config.emb_dim, init)
        self.decoder = DecoderStack(config)
        if not config.logits_via_embedding:
            self.logits_dense = Dense(config.emb_dim, config.vocab_size, ("embed", "vocab"), config.dtype)

    def __call__(
        self, batch: Mapping[str, Int[Array, "batch length"]], train: bool = False
    ) -> Float[Array, "batch length vocab"]:
        """Logits for every position of a (possibly packed) SeqIO batch."""
        return self.logits(self.hidden(batch, train))

    def hidden(
        self, batch: Mapping[str, Int[Array, "batch length"]], train: bool = False
    ) -> Float[Array, "batch length embed"]:
        """What `logits` projects onto the vocabulary."""
        tokens = batch["decoder_input_tokens"]
        order = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        segments = batch.get("decoder_segment_ids", jnp.ones_like(tokens))
        mask = self._mask(order, order, batch.get("decoder_causal_attention")) & attention_mask(segments, segments)
        return self._hidden(tokens, mask, batch.get("decoder_positions", order), train)

    def first_step(
        self, tokens: Int[Array, "batch length"], token_ids: Int[Array, "k"], shape: RaggedShape | None = None
    ) -> Float[Array, "batch k"]:
        """Logits of `token_ids` as the token that follows each right-padded prompt.

        Below fp32, the last `EXACT_TAIL` tokens are computed in fp32 all the same, on top of what was read before them.
        With a `shape` only attention computes padding.
        """
        lengths = row_lengths(tokens)
        if self.config.dtype != "float32":
            return self.logits(self._exact_last(tokens, lengths, shape), token_ids)
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        mask = self._mask(positions, positions, positions < lengths[:, None])
        if shape is None:
            hidden = self._hidden(tokens, mask, positions)
        else:
            rows = ragged_rows(lengths, tokens.shape[1], shape)
            hidden = rows.padded(self._hidden(rows.flat(tokens), mask, rows.positions, ragged=rows))
        return self.logits(_take(hidden, lengths - 1), token_ids)

    def _exact_last(
        self, tokens: Int[Array, "batch length"], lengths: Int[Array, "batch"], shape: RaggedShape | None
    ) -> Float[Array, "batch embed"]:
        """The last hidden state of each prompt; those of the tokens just before it are computed in fp32 with it."""
        params = {"params": self.variables["params"]}
        prompt = PromptSlots(jnp.arange(tokens.shape[1]) < lengths[:, None])
        tail = min(EXACT_TAIL, tokens.shape[1])
        start = jnp.maximum(lengths - tail, 0)
        cache: Mapping[str, Any] = {}
        if tail < tokens.shape[1]:
            # A prompt that sees itself in both directions is read with its tail, a causal one without.
            read = tokens if self.config.bidirectional_prefix else tokens[:, :-tail]
            rows = None
            if shape is not None and self.config.bidirectional_prefix:
                rows = ragged_rows(lengths, read.shape[1], shape)
            elif shape is not None:
                # So many tails at least there are, where there are that many tokens.
                tails = shape.tokens // tokens.shape[1] * tail
                rows = ragged_rows(start, read.shape[1], shape._replace(tokens=shape.tokens - tails))
            rounded = DecoderOnly(self.config, parent=None)
            at_start = (prompt, jnp.zeros_like(start), rows)
            _, cache = rounded.apply(params, read, *at_start, method="_cached", mutable=["cache"])
            cache = jax.tree.map(lambda cached: cached.astype(jnp.float32), cache)
        exact = DecoderOnly(replace(self.config, dtype="float32"), parent=None)
        last_tokens = jnp.take_along_axis(tokens, start[:, None] + jnp.arange(tail), axis=1)
        hidden, _ = exact.apply({**params, **cache}, last_tokens, prompt, start, method="_cached", mutable=["cache"])
        return _take(hidden, lengths - 1 - start)

    def begin(
        self, tokens: Int[Array, "batch length"], prefix: Int[Array, "batch forced"], num_new: int
    ) -> tuple[Float[Array, "batch vocab"], PromptSlots, Int[Array, "batch"]]:
        """Reads prompts and forces a prefix. Returns next-token logits, the prompts, and each row's next free slot."""
        lengths = row_lengths(tokens)
        tokens = _append(tokens, lengths, prefix)
        prompt = PromptSlots(jnp.arange(tokens.shape[1] + num_new) < lengths[:, None])
        hidden = self._cached(tokens, prompt, jnp.zeros_like(lengths))
        free = lengths + prefix.shape[1]
        return self.logits(_take(hidden, free - 1)), prompt, free

    def extend(
        self, token: Int[Array, "batch"], prompt: PromptSlots, slots: Int[Array, "batch"]
    ) -> Float[Array, "batch vocab"]:
        """Appends one token to the cached sequence and returns the logits of the next."""
        return self.logits(self._cached(token[:, None], prompt, slots)[:, 0])

    def _cached(
        self, tokens: Array, prompt: PromptSlots, slots: Array, rows: Ragged | None = None
    ) -> Float[Array, "batch length embed"]:
        """A row's padding slots are never seen: they lie after its last token, until generation overwrites them."""
        positions = slots[:, None] + jnp.arange(tokens.shape[1])
        mask = self._mask(positions, jnp.arange(prompt.is_prompt.shape[1])[None], prompt.is_prompt)
        if rows is None:
            return self._hidden(tokens, mask, positions, slots=slots)
        return self._hidden(rows.flat(tokens), mask, rows.positions, slots=slots, ragged=rows)

    def _mask(
        self, queries: Int[Array, "batch query"], keys: Int[Array, "#batch key"], prefix: Array | None
    ) -> Bool[Array, "batch 1 query key"]:
        mask = causal_mask(queries, keys)
        if prefix is None or not self.config.bidirectional_prefix:
            return mask
        in_prefix = prefix.astype(jnp.int32)
        return mask | attention_mask(jnp.take_along_axis(in_prefix, queries, axis=1), in_prefix)

    def _hidden(
        self,
        tokens: Int[Array, "batch length"],
        mask: Bool[Array, "batch 1 length slots"],
        positions: Int[Array, "batch length"],
        train: bool = False,
        slots: Int[Array, "batch"] | None = None,
        ragged: Ragged | None = None,
    ) -> Float[Array, "batch length embed"]:
        return self.decoder(self.token_embedder(tokens), mask, positions, train, slots, ragged)

    @property
    def head(self) -> tuple[str, ...]:
        """The parameters that `logits` needs."""
        return ("token_embedder",) if self.config.logits_via_embedding else ("logits_dense",)

    def logits(
        self, hidden: Float[Array, "*batch embed"], token_ids: Int[Array, "k"] | None = None
    ) -> Float[Array, "*batch vocab"]:
        """Projects hidden states onto the vocabulary, or onto `token_ids` alone."""
        if self.config.logits_via_embedding:
            rows = self.token_embedder.embedding
        elif token_ids is None:
            return self.logits_dense(hidden)
        else:
            rows = self.logits_dense.kernel.T
        return vocabulary_logits(hidden, rows, self.config.dtype, token_ids)


def _norm(config: DecoderConfig, name: str) -> RMSNorm:
    return RMSNorm(config.dtype, config.layer_norm_epsilon, name=name)


def _take(hidden: Float[Array, "batch length embed"], index: Int[Array, "batch"]) -> Float[Array, "batch embed"]:
    return jnp.take_along_axis(hidden, index[:, None, None], axis=1)[:, 0]


def _append(
    tokens: Int[Array, "batch length"], lengths: Int[Array, "batch"], prefix: Int[Array, "batch forced"]
) -> Int[Array, "batch total"]:
    """Writes each row's prefix right after its prompt."""
    rows = jnp.arange(tokens.shape[0])[:, None]
    columns = lengths[:, None] + jnp.arange(prefix.shape[1])
    return jnp.pad(tokens, ((0, 0), (0, prefix.shape[1]))).at[rows, columns].set(prefix)
