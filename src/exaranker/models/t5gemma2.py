"""T5Gemma 2 (arXiv 2512.14856), for text: T5Gemma with Gemma 3's layers, merged attention and one table of embeddings.

Queries and keys are normalised and uncapped, and layers that see a window have rotary frequencies of their own.
"""

from dataclasses import dataclass
from typing import Annotated

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from exaranker.checks import NotNegative, Positive, above
from exaranker.models.layers import Embedding, constrain, partitioned
from exaranker.models.t5gemma import Decoder, Encoder, Pattern, T5Gemma, T5GemmaConfig


@dataclass(frozen=True)
class T5Gemma2Config(T5GemmaConfig):
    """The shape of a T5Gemma 2; the defaults are 270M-270M's."""

    vocab_size: Positive = 262144
    emb_dim: Positive = 640
    num_heads: Positive = 4
    num_kv_heads: Positive = 1
    num_encoder_layers: Positive = 18
    num_decoder_layers: Positive = 18
    mlp_dim: Positive = 2048
    attention_cap: Annotated[float, above(0)] | None = None
    logit_cap: Annotated[float, above(0)] | None = None
    attention_pattern: Pattern = ("sliding", "sliding", "sliding", "sliding", "sliding", "full")
    sliding_window: Positive = 512
    rope_theta: Annotated[float, above(0)] = 1000000.0
    rope_factor: Annotated[float, above(0)] = 8.0
    local_rope_theta: Annotated[float, above(0)] | None = 10000.0
    qk_norm: bool = True
    merged_attention: bool = True
    max_positions: Positive = 131072
    end_of_image_id: NotNegative = 256000  # a token that comes with an embedding of its own

    @property
    def encoder_window(self) -> tuple[int, int]:
        """The window is as many tokens as it says, its own among them; T5Gemma's as many on either side."""
        return (self.sliding_window - 1) // 2, self.sliding_window // 2


class TextEmbedding(Embedding):
    """Token embeddings; the token that ends an image has one that is not scaled, and not multiplied with."""

    end_of_image_id: int = 0

    def setup(self) -> None:
        super().setup()
        init = partitioned(nn.initializers.zeros_init(), ("embed",))
        self.end_of_image = self.param("end_of_image", init, (self.width,), jnp.float32)

    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length embed"]:
        embedded = jnp.take(self.embedding, tokens, axis=0) * self.scale
        ends_image = (tokens == self.end_of_image_id)[..., None]
        return constrain(jnp.where(ends_image, self.end_of_image, embedded), "batch", "length", "embed")


class T5Gemma2(T5Gemma):
    """An encoder-decoder Transformer whose stacks share their embeddings."""

    config: T5Gemma2Config

    def setup(self) -> None:
        config = self.config
        self.token_embedder = TextEmbedding(
            config.vocab_size,
            config.emb_dim,
            nn.initializers.normal(0.02),
            scale=config.emb_dim**0.5,
            end_of_image_id=config.end_of_image_id,
        )
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def _embed_inputs(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length embed"]:
        return self.token_embedder(tokens)
