"""Llama (SmolLM2 too) and Qwen2 in Hugging Face's words."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from exaranker.checkpoints.convert.conversion import Conversion, Field, Json, Name
from exaranker.errors import InputError
from exaranker.models.decoder import DecoderConfig
from exaranker.tokenization import Tokenizer

FIELDS = (
    Field("vocab_size", "vocab_size"),
    Field("emb_dim", "hidden_size"),
    Field("num_heads", "num_attention_heads"),
    Field("num_kv_heads", "num_key_value_heads", lambda given: given["num_attention_heads"]),
    Field("num_layers", "num_hidden_layers"),
    Field("head_dim", "head_dim", lambda given: given["hidden_size"] // given["num_attention_heads"]),
    Field("mlp_dim", "intermediate_size"),
    Field("layer_norm_epsilon", "rms_norm_eps"),
    Field("max_positions", "max_position_embeddings", 8192),
)
PARTS = {
    "self_attention/query": "self_attn.q_proj",
    "self_attention/key": "self_attn.k_proj",
    "self_attention/value": "self_attn.v_proj",
    "self_attention/out": "self_attn.o_proj",
    "mlp/wi_0": "mlp.gate_proj",
    "mlp/wi_1": "mlp.up_proj",
    "mlp/wo": "mlp.down_proj",
}
IMPLIED = {"bidirectional_prefix": False, "qk_norm": False, "mlp_activations": ("silu", "linear")}


def rope_theta(given: Json) -> float:
    """The base of rotary frequencies.

    Raises:
        InputError: frequencies are scaled, or differ from layer to layer.
    """
    rope = given.get("rope_parameters") or given.get("rope_scaling") or {}
    if any(isinstance(value, Mapping) for value in rope.values()):
        raise InputError(f"rope_parameters {rope!r} by layer type are not supported")
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise InputError(f"rope_scaling {rope!r} is not supported")
    return float(rope.get("rope_theta") or given.get("rope_theta", 10000.0))


def read_rope(given: Json) -> dict[str, Any]:
    """What config.json says of positions."""
    return {"rope_theta": rope_theta(given)}


def write_more(config: DecoderConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """Rotary positions and the ids of special tokens."""
    return {
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }


def names(config: DecoderConfig) -> Iterator[Name]:
    """Every tensor."""
    yield Name("token_embedder/embedding", "model.embed_tokens.weight")
    yield Name("decoder/decoder_norm/scale", "model.norm.weight")
    if not config.logits_via_embedding:
        yield Name("logits_dense/kernel", "lm_head.weight")
    for index in range(config.num_layers):
        ours, theirs = f"decoder/layers_{index}", f"model.layers.{index}"
        yield Name(f"{ours}/pre_self_attention_layer_norm/scale", f"{theirs}.input_layernorm.weight")
        yield Name(f"{ours}/pre_mlp_layer_norm/scale", f"{theirs}.post_attention_layernorm.weight")
        for our_part, their_part in PARTS.items():
            yield Name(f"{ours}/{our_part}/kernel", f"{theirs}.{their_part}.weight")
        for part in ("query", "key", "value") if config.qkv_bias else ():
            yield Name(f"{ours}/self_attention/{part}/bias", f"{theirs}.self_attn.{part[0]}_proj.bias")


LLAMA = Conversion(
    "llama",
    "LlamaForCausalLM",
    DecoderConfig,
    FIELDS,
    names,
    implied={**IMPLIED, "qkv_bias": False},
    options={"hidden_act": "silu", "mlp_bias": False, "attention_bias": False},
    read_more=read_rope,
    write_more=write_more,
)
QWEN2 = replace(
    LLAMA,
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    implied={**IMPLIED, "qkv_bias": True},
    options={"hidden_act": "silu", "use_sliding_window": False},
)
