"""config.json of Hugging Face <-> our configurations."""

from collections.abc import Callable, Mapping
from typing import Any

from exaranker.errors import InputError, nearest
from exaranker.models import ModelConfig
from exaranker.models.decoder import DecoderConfig
from exaranker.models.t5 import T5Config
from exaranker.tokenization import Tokenizer

# Hugging Face's feed_forward_proj -> the activations that are multiplied.
FEED_FORWARD: dict[str, tuple[str, ...]] = {
    "relu": ("relu",),
    "gated-gelu": ("gelu", "linear"),
    "gated-silu": ("silu", "linear"),
}


def from_hf_config(given: Mapping[str, Any], *, has_head: bool) -> ModelConfig:
    """Reads a configuration; `has_head`: the weights hold an output layer of their own (lm_head).

    Raises:
        InputError: the architecture, or an option of it, is not one of ours.
    """
    readers: dict[str, Callable[[Mapping[str, Any], bool], ModelConfig]] = {
        "t5": _from_t5,
        "mt5": _from_t5,
        "umt5": _from_t5,
        "llama": _from_llama,
        "qwen2": _from_llama,
    }
    kind = str(given.get("model_type"))
    if kind not in readers:
        raise InputError(f"model_type {kind!r} is not supported", hint=nearest(kind, readers))
    return readers[kind](given, has_head)


def to_hf_config(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """Writes a configuration that transformers reads as the same function.

    Raises:
        InputError: transformers has no architecture that computes it.
    """
    if isinstance(config, T5Config):
        return _to_t5(config, tokenizer)
    return _to_llama(config, tokenizer)


def _from_t5(given: Mapping[str, Any], has_head: bool) -> T5Config:
    activations = FEED_FORWARD.get(feed_forward := given.get("feed_forward_proj", "relu"))
    if activations is None:
        raise InputError(
            f"feed_forward_proj {feed_forward!r} is not supported", hint=nearest(feed_forward, FEED_FORWARD)
        )
    kind = given["model_type"]
    return T5Config(
        vocab_size=given["vocab_size"],
        emb_dim=given["d_model"],
        num_heads=given["num_heads"],
        num_encoder_layers=given["num_layers"],
        num_decoder_layers=given.get("num_decoder_layers") or given["num_layers"],
        head_dim=given["d_kv"],
        mlp_dim=given["d_ff"],
        mlp_activations=activations,
        dropout_rate=given.get("dropout_rate", 0.1),
        logits_via_embedding=not has_head,
        # transformers scales by these flags, whether or not the weights are tied, and mT5 never; 5.x added the first.
        scale_logits=kind != "mt5" and given.get("scale_decoder_outputs", given.get("tie_word_embeddings", True)),
        relative_bias_per_layer=kind == "umt5",
        relative_buckets=given.get("relative_attention_num_buckets", 32),
        relative_max_distance=given.get("relative_attention_max_distance", 128),
        layer_norm_epsilon=given.get("layer_norm_epsilon", 1e-6),
    )


def _to_t5(config: T5Config, tokenizer: Tokenizer) -> dict[str, Any]:
    kind, name = ("umt5", "UMT5") if config.relative_bias_per_layer else ("t5", "T5")
    feed_forward = {activations: key for key, activations in FEED_FORWARD.items()}
    if config.mlp_activations not in feed_forward:
        raise _without_equivalent("mlp_activations", config.mlp_activations)
    return {
        "architectures": [f"{name}ForConditionalGeneration"],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "d_model": config.emb_dim,
        "num_heads": config.num_heads,
        "num_layers": config.num_encoder_layers,
        "num_decoder_layers": config.num_decoder_layers,
        "d_kv": config.head_dim,
        "d_ff": config.mlp_dim,
        "feed_forward_proj": feed_forward[config.mlp_activations],
        "dropout_rate": config.dropout_rate,
        "tie_word_embeddings": config.scale_logits,
        "relative_attention_num_buckets": config.relative_buckets,
        "relative_attention_max_distance": config.relative_max_distance,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "is_encoder_decoder": True,
        "pad_token_id": tokenizer.pad_id,
        "eos_token_id": tokenizer.eos_id,
        "decoder_start_token_id": 0,
        "dtype": "float32",
    }


def _from_llama(given: Mapping[str, Any], has_head: bool) -> DecoderConfig:
    _refuse_llama_options(given)
    rope = given.get("rope_parameters") or {}
    return DecoderConfig(
        vocab_size=given["vocab_size"],
        emb_dim=given["hidden_size"],
        num_heads=given["num_attention_heads"],
        num_kv_heads=given.get("num_key_value_heads") or given["num_attention_heads"],
        num_layers=given["num_hidden_layers"],
        head_dim=given.get("head_dim") or given["hidden_size"] // given["num_attention_heads"],
        mlp_dim=given["intermediate_size"],
        rope_theta=float(rope.get("rope_theta") or given.get("rope_theta", 10000.0)),
        qkv_bias=given["model_type"] == "qwen2",
        logits_via_embedding=not has_head,
        layer_norm_epsilon=given["rms_norm_eps"],
        max_positions=given.get("max_position_embeddings", 8192),
    )


def _refuse_llama_options(given: Mapping[str, Any]) -> None:
    rope = given.get("rope_parameters") or given.get("rope_scaling") or {}
    unsupported = {
        "hidden_act": given.get("hidden_act", "silu") != "silu",
        "mlp_bias": given.get("mlp_bias", False),
        "attention_bias": given["model_type"] == "llama" and given.get("attention_bias", False),
        "use_sliding_window": given.get("use_sliding_window", False),
        "rope_scaling": rope.get("rope_type", rope.get("type", "default")) != "default",
    }
    for option, refused in unsupported.items():
        if refused:
            raise InputError(f"{option} {given.get(option, rope)!r} is not supported")


def _to_llama(config: DecoderConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    if config.bidirectional_prefix:
        raise _without_equivalent("bidirectional_prefix", True)
    if config.mlp_activations != FEED_FORWARD["gated-silu"]:
        raise _without_equivalent("mlp_activations", config.mlp_activations)
    kind, name = ("qwen2", "Qwen2") if config.qkv_bias else ("llama", "Llama")
    return {
        "architectures": [f"{name}ForCausalLM"],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "hidden_size": config.emb_dim,
        "intermediate_size": config.mlp_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.layer_norm_epsilon,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "max_position_embeddings": config.max_positions,
        "tie_word_embeddings": config.logits_via_embedding,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
        "dtype": "float32",
    }


def _without_equivalent(field: str, value: object) -> InputError:
    return InputError(f"{field} {value!r} is nothing that transformers knows for this architecture")
