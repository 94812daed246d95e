"""What a ranker asks of an encoder-decoder, whatever its layers are: teacher forcing, first step, cached generation."""

from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from exaranker.models.attention import attention_mask, causal_mask
from exaranker.models.layers import constrain
from exaranker.models.ragged import RaggedShape, ragged_rows, row_lengths


class Context(NamedTuple):
    """What the decoder knows of the input."""

    encoded: Float[Array, "batch length embed"]
    segments: Int[Array, "batch length"]  # 0 is padding


class Generation(NamedTuple):
    """What stays the same from one generated token to the next."""

    context: Context
    slots: Int[Array, "1 slots"]  # the positions there is room for in the cache


class EncoderDecoder(nn.Module):
    """Two stacks; an architecture sets up `encoder`, and says how inputs are embedded and targets decoded."""

    def __call__(
        self, batch: Mapping[str, Int[Array, "batch length"]], train: bool = False
    ) -> Float[Array, "batch target vocab"]:
        """Logits for every target position of a (possibly packed) SeqIO batch."""
        context = self.encode(batch["encoder_input_tokens"], batch.get("encoder_segment_ids"), train)
        tokens = batch["decoder_input_tokens"]
        segments = batch.get("decoder_segment_ids", jnp.ones_like(tokens))
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        mask = causal_mask(positions, positions) & attention_mask(segments, segments)
        return self._decode(tokens, context, mask, segments, train)

    def encode(
        self,
        tokens: Int[Array, "batch length"],
        segments: Int[Array, "batch length"] | None = None,
        train: bool = False,
        shape: RaggedShape | None = None,
    ) -> Context:
        """Encodes right-padded (or packed) inputs; right-padded ones without their padding, if there is a `shape`."""
        segments = (tokens != 0).astype(jnp.int32) if segments is None else segments
        mask = attention_mask(segments, segments)
        if shape is None:
            encoded = self.encoder(self._embed_inputs(tokens), mask, train)
        else:
            rows = ragged_rows(row_lengths(tokens), tokens.shape[1], shape)
            encoded = rows.padded(self.encoder(self._embed_inputs(rows.flat(tokens)), mask, train, rows))
        return Context(constrain(encoded, "batch", "length", "embed"), segments)

    def first_step(
        self, tokens: Int[Array, "batch length"], token_ids: Int[Array, "k"], shape: RaggedShape | None = None
    ) -> Float[Array, "batch k"]:
        """Logits of `token_ids` as the first target token."""
        context = self.encode(tokens, shape=shape)
        start = jnp.zeros((tokens.shape[0], 1), jnp.int32)
        mask = jnp.ones((1, 1, 1, 1), bool)
        return self._decode(start, context, mask, jnp.ones_like(start), token_ids=token_ids)[:, 0]

    def begin(
        self, tokens: Int[Array, "batch length"], prefix: Int[Array, "batch forced"], num_new: int
    ) -> tuple[Float[Array, "batch vocab"], Generation, Int[Array, "batch"]]:
        """Encodes the input and forces a prefix. Returns next-token logits, what `extend` needs, and the next slots."""
        started = jnp.pad(prefix, ((0, 0), (1, 0)))
        generation = Generation(self.encode(tokens), jnp.arange(started.shape[1] + num_new)[None])
        first = jnp.zeros(tokens.shape[0], jnp.int32)
        return self._step(started, generation, first), generation, first + started.shape[1]

    def extend(
        self, token: Int[Array, "batch"], generation: Generation, slots: Int[Array, "batch"]
    ) -> Float[Array, "batch vocab"]:
        """Appends one token to the cached sequence and returns the logits of the next."""
        return self._step(token[:, None], generation, slots)

    def _step(self, tokens: Array, generation: Generation, slots: Array) -> Float[Array, "batch vocab"]:
        mask = causal_mask(slots[:, None] + jnp.arange(tokens.shape[1]), generation.slots)
        return self._decode(tokens, generation.context, mask, jnp.ones_like(tokens), slots=slots)[:, -1]

    def _embed_inputs(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length embed"]:
        raise NotImplementedError

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
        """Logits after each token; SeqIO starts a target with 0."""
        raise NotImplementedError
