"""Qwen3 (arXiv 2505.09388): the Llama architecture, but each head normalises its queries and keys; without biases."""

from dataclasses import dataclass
from typing import Annotated

from exaranker.checks import Positive, above
from exaranker.models.decoder import DecoderConfig


@dataclass(frozen=True)
class Qwen3Config(DecoderConfig):
    """The shape of a Qwen3, whose heads are as wide as it says, not `emb_dim / num_heads`; the defaults are 0.6B's."""

    vocab_size: Positive = 151936
    emb_dim: Positive = 1024
    num_heads: Positive = 16
    num_kv_heads: Positive = 8
    num_layers: Positive = 28
    head_dim: Positive = 128
    mlp_dim: Positive = 3072
    rope_theta: Annotated[float, above(0)] = 1000000.0
    qk_norm: bool = True
    layer_norm_epsilon: Annotated[float, above(0)] = 1e-6
    max_positions: Positive = 40960
