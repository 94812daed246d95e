"""T5 (v1.0, v1.1, Flan, LM-adapted, ByT5), mT5 and umT5 in Hugging Face's words."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from exaranker.checkpoints.convert.conversion import Conversion, Field, Json, Name
from exaranker.errors import InputError, nearest
from exaranker.models.t5 import T5Config
from exaranker.tokenization import Tokenizer

# feed_forward_proj -> the activations that are multiplied.
FEED_FORWARD: dict[str, tuple[str, ...]] = {
    "relu": ("relu",),
    "gated-gelu": ("gelu", "linear"),
    "gated-silu": ("silu", "linear"),
}
FIELDS = (
    Field("vocab_size", "vocab_size"),
    Field("emb_dim", "d_model"),
    Field("num_heads", "num_heads"),
    Field("num_encoder_layers", "num_layers"),
    Field("num_decoder_layers", "num_decoder_layers", lambda given: given["num_layers"]),
    Field("head_dim", "d_kv"),
    Field("mlp_dim", "d_ff"),
    Field("dropout_rate", "dropout_rate", 0.1),
    Field("relative_buckets", "relative_attention_num_buckets", 32),
    Field("relative_max_distance", "relative_attention_max_distance", 128),
    Field("layer_norm_epsilon", "layer_norm_epsilon", 1e-6),
)


def _read_more(given: Json) -> dict[str, Any]:
    activations = FEED_FORWARD.get(feed_forward := given.get("feed_forward_proj", "relu"))
    if activations is None:
        raise InputError(
            f"feed_forward_proj {feed_forward!r} is not supported", hint=nearest(feed_forward, FEED_FORWARD)
        )
    # transformers scales by these flags, whether or not the weights are tied; 5.x added the first.
    scaled = given.get("scale_decoder_outputs", given.get("tie_word_embeddings", True))
    return {"mlp_activations": activations, "scale_logits": scaled}


def _write_more(config: T5Config, tokenizer: Tokenizer) -> dict[str, Any]:
    feed_forward = {activations: key for key, activations in FEED_FORWARD.items()}
    if config.mlp_activations not in feed_forward:
        raise InputError(f"mlp_activations {config.mlp_activations!r} is nothing that transformers knows for T5")
    return {
        "feed_forward_proj": feed_forward[config.mlp_activations],
        "tie_word_embeddings": config.scale_logits,
        "is_encoder_decoder": True,
        "pad_token_id": tokenizer.pad_id,
        "eos_token_id": tokenizer.eos_id,
        "decoder_start_token_id": 0,
    }


def _names(config: T5Config) -> Iterator[Name]:
    yield Name("token_embedder/embedding", "shared.weight")
    if not config.logits_via_embedding:
        yield Name("decoder/logits_dense/kernel", "lm_head.weight")
    stacks = (("encoder", config.num_encoder_layers), ("decoder", config.num_decoder_layers))
    for stack, num_layers in stacks:
        yield Name(f"{stack}/{stack}_norm/scale", f"{stack}.final_layer_norm.weight")
        for index in range(num_layers):
            ours, theirs = f"{stack}/layers_{index}", f"{stack}.block.{index}.layer"
            table = f"{theirs}.0.SelfAttention.relative_attention_bias.weight"
            if config.relative_bias_per_layer:
                yield Name(f"{ours}/relpos_bias/rel_embedding", table)
            elif index == 0:
                yield Name(f"{stack}/relpos_bias/rel_embedding", table)
            yield from _layer_names(config, stack, ours, theirs)


def _layer_names(config: T5Config, stack: str, ours: str, theirs: str) -> Iterator[Name]:
    blocks = {
        "encoder": (("attention", "SelfAttention", "attention"),),
        "decoder": (
            ("self_attention", "SelfAttention", "self_attention"),
            ("encoder_decoder_attention", "EncDecAttention", "cross_attention"),
        ),
    }[stack]
    for position, (block, their_block, norm) in enumerate(blocks):
        yield Name(f"{ours}/pre_{norm}_layer_norm/scale", f"{theirs}.{position}.layer_norm.weight")
        for part, letter in (("query", "q"), ("key", "k"), ("value", "v"), ("out", "o")):
            yield Name(f"{ours}/{block}/{part}/kernel", f"{theirs}.{position}.{their_block}.{letter}.weight")
    last = len(blocks)
    yield Name(f"{ours}/pre_mlp_layer_norm/scale", f"{theirs}.{last}.layer_norm.weight")
    gates = ("wi",) if len(config.mlp_activations) == 1 else ("wi_0", "wi_1")
    for part in (*gates, "wo"):
        yield Name(f"{ours}/mlp/{part}/kernel", f"{theirs}.{last}.DenseReluDense.{part}.weight")


T5 = Conversion(
    "t5",
    "T5ForConditionalGeneration",
    T5Config,
    FIELDS,
    _names,
    implied={"relative_bias_per_layer": False},
    read_more=_read_more,
    write_more=_write_more,
    tied=True,
    embedding="shared.weight",
    aliases=("T5WithLMHeadModel",),
    copies=dict.fromkeys(("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"), "shared.weight"),
    unused=re.compile(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight"),
)
MT5 = replace(
    T5,
    model_type="mt5",
    architecture="MT5ForConditionalGeneration",
    implied={"relative_bias_per_layer": False, "scale_logits": False},
)
UMT5 = replace(
    T5, model_type="umt5", architecture="UMT5ForConditionalGeneration", implied={"relative_bias_per_layer": True}
)
