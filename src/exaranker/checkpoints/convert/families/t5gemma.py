"""T5Gemma in Hugging Face's words: config.json has a part for the encoder and one for the decoder."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from exaranker.checkpoints.convert.conversion import (
    Conversion,
    Field,
    Json,
    Name,
    check_options,
    read_fields,
    write_fields,
)
from exaranker.checkpoints.convert.families.llama import PARTS, rope_theta
from exaranker.errors import InputError
from exaranker.models.t5gemma import T5GemmaConfig, Widths
from exaranker.tokenization import Tokenizer

WIDTHS = (
    Field("emb_dim", "hidden_size"),
    Field("num_heads", "num_attention_heads"),
    Field("num_kv_heads", "num_key_value_heads"),
    Field("head_dim", "head_dim", 256),
    Field("mlp_dim", "intermediate_size"),
)
# What encoder and decoder have in common; a null cap is none.
COMMON = (
    Field("vocab_size", "vocab_size"),
    Field("query_scalar", "query_pre_attn_scalar", 256),
    Field("attention_cap", "attn_logit_softcapping", lambda given: _cap(given, "attn_logit_softcapping", 50.0)),
    Field("logit_cap", "final_logit_softcapping", lambda given: _cap(given, "final_logit_softcapping", 30.0)),
    Field("sliding_window", "sliding_window", 4096),
    Field("layer_norm_epsilon", "rms_norm_eps", 1e-6),
    Field("max_positions", "max_position_embeddings", 8192),
)
OPTIONS = {"hidden_activation": "gelu_pytorch_tanh", "attention_bias": False}
KINDS = {"sliding_attention": "sliding", "full_attention": "full"}
BLOCKS = {
    "mlp": "feedforward",
    "attention": "self_attn",
    "self_attention": "self_attn",
    "cross_attention": "cross_attn",
}


def _cap(given: Json, name: str, default: float) -> float | None:
    return None if name in given else default


def _read_more(given: Json) -> dict[str, Any]:
    sides = {side: _read_side(given, side) for side in ("encoder", "decoder")}
    encoder, decoder = sides["encoder"][0], sides["decoder"][0]
    for name, value in decoder.items():
        if encoder[name] != value and name not in ("logit_cap", "max_positions"):
            raise InputError(f"encoder and decoder differ in {name}: {encoder[name]!r} and {value!r}")
    widths = {side: widths for side, (_, widths) in sides.items()}
    return {
        **decoder,
        **asdict(widths["decoder"]),
        "encoder_widths": None if widths["encoder"] == widths["decoder"] else widths["encoder"],
        **{f"num_{side}_layers": given[side]["num_hidden_layers"] for side in sides},
        "start_id": given["decoder"].get("bos_token_id", 2),
    }


def _read_side(given: Json, side: str) -> tuple[dict[str, Any], Widths]:
    part = given.get(side)
    if not isinstance(part, dict):
        raise InputError(f"config.json has no {side}", hint="it is incomplete: fetch the model again")
    check_options(OPTIONS, part)
    common = read_fields((*COMMON, Field("_layers", "num_hidden_layers")), part)
    pattern = _pattern(part.get("layer_types"), common.pop("_layers"))
    common |= {"attention_pattern": pattern, "rope_theta": rope_theta(part)}
    return common, Widths(**read_fields(WIDTHS, part))


def _pattern(kinds: list[str] | None, layers: int) -> tuple[str, ...]:
    """The shortest pattern that, repeated, gives the kinds of all layers."""
    if kinds is None or kinds == [*_repeated(T5GemmaConfig.attention_pattern, layers)]:
        return T5GemmaConfig.attention_pattern
    if len(kinds) != layers or not set(kinds) <= KINDS.keys():
        raise InputError(f"layer_types {kinds!r} are not supported", hint=f"one of {', '.join(KINDS)} for each layer")
    patterns = (tuple(KINDS[kind] for kind in kinds[:length]) for length in range(1, layers + 1))
    return next(pattern for pattern in patterns if [*_repeated(pattern, layers)] == kinds)


def _repeated(pattern: tuple[str, ...], layers: int) -> Iterator[str]:
    names = {ours: theirs for theirs, ours in KINDS.items()}
    return (names[pattern[index % len(pattern)]] for index in range(layers))


def _write_more(config: T5GemmaConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "is_encoder_decoder": True,
        "encoder": _write_side(config, config.encoder, config.num_encoder_layers, tokenizer),
        "decoder": _write_side(config, config.decoder, config.num_decoder_layers, tokenizer),
        "vocab_size": config.vocab_size,
        "pad_token_id": tokenizer.pad_id,
        "bos_token_id": config.start_id,
        "decoder_start_token_id": config.start_id,
        "eos_token_id": tokenizer.eos_id,
    }


def _write_side(config: T5GemmaConfig, widths: Widths, layers: int, tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        **OPTIONS,
        "model_type": "t5_gemma_module",
        **write_fields(COMMON, config),
        "query_pre_attn_scalar": int(config.query_scalar),  # what transformers takes
        **write_fields(WIDTHS, widths),
        "num_hidden_layers": layers,
        "layer_types": [*_repeated(config.attention_pattern, layers)],
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.logits_via_embedding,
        "pad_token_id": tokenizer.pad_id,
        "bos_token_id": config.start_id,
        "eos_token_id": tokenizer.eos_id,
    }


def _names(config: T5GemmaConfig) -> Iterator[Name]:
    yield Name("encoder_embedder/embedding", "model.encoder.embed_tokens.weight")
    yield Name("token_embedder/embedding", "model.decoder.embed_tokens.weight")
    if not config.logits_via_embedding:
        yield Name("decoder/logits_dense/kernel", HEAD)
    stacks = {
        "encoder": (config.num_encoder_layers, ("attention", "mlp")),
        "decoder": (config.num_decoder_layers, ("self_attention", "cross_attention", "mlp")),
    }
    for stack, (layers, blocks) in stacks.items():
        yield Name(f"{stack}/{stack}_norm/scale", f"model.{stack}.norm.weight")
        for index in range(layers):
            for block in blocks:
                yield from _block_names(block, f"{stack}/layers_{index}", f"model.{stack}.layers.{index}")


def _block_names(block: str, ours: str, theirs: str) -> Iterator[Name]:
    for side in ("pre", "post"):
        yield Name(f"{ours}/{side}_{block}_layer_norm/scale", f"{theirs}.{side}_{BLOCKS[block]}_layernorm.weight")
    inside = "encoder_decoder_attention" if block == "cross_attention" else block
    for our_part, their_part in PARTS.items():
        (our_kind, our_name), (_, their_name) = our_part.split("/"), their_part.split(".")
        if (our_kind == "mlp") == (block == "mlp"):
            their_block = "mlp" if block == "mlp" else BLOCKS[block]
            yield Name(f"{ours}/{inside}/{our_name}/kernel", f"{theirs}.{their_block}.{their_name}.weight")


HEAD = "lm_head.out_proj.weight"
T5GEMMA = Conversion(
    "t5gemma",
    "T5GemmaForConditionalGeneration",
    T5GemmaConfig,
    (Field("dropout_rate", "dropout_rate", 0.0),),
    _names,
    implied={"mlp_activations": ("gelu", "linear")},
    options={"attention_dropout": 0.0},
    read_more=_read_more,
    write_more=_write_more,
    head=HEAD,
)
