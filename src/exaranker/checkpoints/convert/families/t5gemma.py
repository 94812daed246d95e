"""T5Gemma in Hugging Face's words: config.json has a part for the encoder and one for the decoder."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
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
from exaranker.checkpoints.convert.families.llama import PARTS, read_rope
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
FIELDS = (
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
    "merged_attention": "self_attn",
    "cross_attention": "cross_attn",
}


def _cap(given: Json, name: str, default: float) -> float | None:
    return None if name in given else default


@dataclass(frozen=True)
class Side:
    """How config.json describes the encoder, and in the same words the decoder."""

    fields: tuple[Field, ...]  # what both have in common
    options: Mapping[str, Any]  # what it may say, and the only value that we compute
    pattern: Callable[[Json], tuple[str, ...]]  # of layers, where their kinds are not listed
    read_rope: Callable[[Json], dict[str, Any]]
    write_rope: Callable[[Any], dict[str, Any]]


def read_sides(form: Side, parts: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that the parts of an encoder and a decoder give.

    Raises:
        InputError: a part is not there, says what we do not compute, or differs from the other in more than its widths.
    """
    sides = {side: _read_side(form, side, part) for side, part in parts.items()}
    encoder, decoder = sides["encoder"][0], sides["decoder"][0]
    for name, value in decoder.items():
        if encoder[name] != value and name not in ("logit_cap", "max_positions"):
            raise InputError(f"encoder and decoder differ in {name}: {encoder[name]!r} and {value!r}")
    widths = {side: widths for side, (_, widths) in sides.items()}
    return {
        **decoder,
        **asdict(widths["decoder"]),
        "encoder_widths": None if widths["encoder"] == widths["decoder"] else widths["encoder"],
        **{f"num_{side}_layers": parts[side]["num_hidden_layers"] for side in sides},
        "start_id": parts["decoder"].get("bos_token_id", 2),
    }


def _read_side(form: Side, side: str, part: Any) -> tuple[dict[str, Any], Widths]:
    if not isinstance(part, dict):
        raise InputError(f"config.json has no {side}", hint="it is incomplete: fetch the model again")
    check_options(form.options, part)
    common = read_fields((*form.fields, Field("_layers", "num_hidden_layers")), part)
    pattern = _pattern(part.get("layer_types"), common.pop("_layers"), form.pattern(part))
    common |= {"attention_pattern": pattern, **form.read_rope(part)}
    return common, Widths(**read_fields(WIDTHS, part))


def _pattern(kinds: list[str] | None, layers: int, usual: tuple[str, ...]) -> tuple[str, ...]:
    """The shortest pattern that, repeated, gives the kinds of all layers."""
    if kinds is None or kinds == [*_repeated(usual, layers)]:
        return usual
    if len(kinds) != layers or not set(kinds) <= KINDS.keys():
        raise InputError(f"layer_types {kinds!r} are not supported", hint=f"one of {', '.join(KINDS)} for each layer")
    patterns = (tuple(KINDS[kind] for kind in kinds[:length]) for length in range(1, layers + 1))
    return next(pattern for pattern in patterns if [*_repeated(pattern, layers)] == kinds)


def _repeated(pattern: tuple[str, ...], layers: int) -> Iterator[str]:
    names = {ours: theirs for theirs, ours in KINDS.items()}
    return (names[pattern[index % len(pattern)]] for index in range(layers))


def write_whole(config: T5GemmaConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """What config.json says of the model as a whole."""
    return {
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "decoder_start_token_id": config.start_id,
        **_special_ids(config, tokenizer),
    }


def write_sides(form: Side, config: T5GemmaConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """The inverse of `read_sides`."""
    widths = {"encoder": config.encoder, "decoder": config.decoder}
    layers = {"encoder": config.num_encoder_layers, "decoder": config.num_decoder_layers}
    return {side: _write_side(form, config, widths[side], layers[side], tokenizer) for side in widths}


def _write_side(form: Side, config: T5GemmaConfig, widths: Widths, layers: int, tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        **form.options,
        **write_fields(form.fields, config),
        "query_pre_attn_scalar": int(config.query_scalar),  # what transformers takes
        **write_fields(WIDTHS, widths),
        "num_hidden_layers": layers,
        "layer_types": [*_repeated(config.attention_pattern, layers)],
        "rope_parameters": form.write_rope(config),
        "tie_word_embeddings": config.logits_via_embedding,
        **_special_ids(config, tokenizer),
    }


def _special_ids(config: T5GemmaConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    return {"pad_token_id": tokenizer.pad_id, "bos_token_id": config.start_id, "eos_token_id": tokenizer.eos_id}


def names_of_layers(config: T5GemmaConfig) -> Iterator[Name]:
    """Every tensor but embeddings and head."""
    of_decoder = ("merged_attention",) if config.merged_attention else ("self_attention", "cross_attention")
    stacks = {
        "encoder": (config.num_encoder_layers, ("attention", "mlp")),
        "decoder": (config.num_decoder_layers, (*of_decoder, "mlp")),
    }
    for stack, (layers, blocks) in stacks.items():
        yield Name(f"{stack}/{stack}_norm/scale", f"model.{stack}.norm.weight")
        for index in range(layers):
            for block in blocks:
                qk_norm = config.qk_norm and block != "mlp"
                yield from _block_names(block, f"{stack}/layers_{index}", f"model.{stack}.layers.{index}", qk_norm)


def _block_names(block: str, ours: str, theirs: str, qk_norm: bool) -> Iterator[Name]:
    norm = "self_attention" if block == "merged_attention" else block
    for side in ("pre", "post"):
        yield Name(f"{ours}/{side}_{norm}_layer_norm/scale", f"{theirs}.{side}_{BLOCKS[block]}_layernorm.weight")
    inside = "encoder_decoder_attention" if block == "cross_attention" else block
    for part in ("query", "key") if qk_norm else ():
        yield Name(f"{ours}/{inside}/{part}_norm/scale", f"{theirs}.{BLOCKS[block]}.{part[0]}_norm.weight")
    for our_part, their_part in PARTS.items():
        (our_kind, our_name), (_, their_name) = our_part.split("/"), their_part.split(".")
        if (our_kind == "mlp") == (block == "mlp"):
            their_block = "mlp" if block == "mlp" else BLOCKS[block]
            yield Name(f"{ours}/{inside}/{our_name}/kernel", f"{theirs}.{their_block}.{their_name}.weight")


HEAD = "lm_head.out_proj.weight"
SIDE = Side(
    FIELDS,
    options=OPTIONS,
    pattern=lambda _: T5GemmaConfig.attention_pattern,
    read_rope=read_rope,
    write_rope=lambda config: {"rope_type": "default", "rope_theta": config.rope_theta},
)


def _read_more(given: Json) -> dict[str, Any]:
    return read_sides(SIDE, {side: given.get(side) for side in ("encoder", "decoder")})


def _write_more(config: T5GemmaConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    kind = {"model_type": "t5_gemma_module"}
    sides = {name: kind | side for name, side in write_sides(SIDE, config, tokenizer).items()}
    return write_whole(config, tokenizer) | sides


def _names(config: T5GemmaConfig) -> Iterator[Name]:
    yield Name("encoder_embedder/embedding", "model.encoder.embed_tokens.weight")
    yield Name("token_embedder/embedding", "model.decoder.embed_tokens.weight")
    if not config.logits_via_embedding:
        yield Name("decoder/logits_dense/kernel", HEAD)
    yield from names_of_layers(config)


IMPLIED = {"mlp_activations": ("gelu", "linear")}
T5GEMMA = Conversion(
    "t5gemma",
    "T5GemmaForConditionalGeneration",
    T5GemmaConfig,
    (Field("dropout_rate", "dropout_rate", 0.0),),
    _names,
    implied={**IMPLIED, "rope_factor": 1.0, "local_rope_theta": None, "qk_norm": False, "merged_attention": False},
    options={"attention_dropout": 0.0},
    read_more=_read_more,
    write_more=_write_more,
    head=HEAD,
)
