"""Qwen3 (arXiv 2505.09388): the Llama architecture, but each head normalises its queries and keys; without biases."""

from dataclasses import dataclass

from exaranker.models.decoder import DecoderConfig


@dataclass(frozen=True)
class Qwen3Config(DecoderConfig):
    """The shape of a Qwen3, whose heads are as wide as it says, not `emb_dim / num_heads`; the defaults are 0.6B's."""

    vocab_size: int = 151936
    emb_dim: int = 1024
    num_heads: int = 16
    num_kv_heads: int = 8
    num_layers: int = 28
    head_dim: int = 128
    mlp_dim: int = 3072
    rope_theta: float = 1000000.0
    qk_norm: bool = True
    layer_norm_epsilon: float = 1e-6
    max_positions: int = 40960
