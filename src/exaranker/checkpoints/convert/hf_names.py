"""Which tensor of ours is which of Hugging Face's."""

from collections.abc import Iterator
from typing import NamedTuple

from exaranker.models import ModelConfig
from exaranker.models.decoder import DecoderConfig
from exaranker.models.t5 import T5Config


class Name(NamedTuple):
    """One parameter's name here and in a Hugging Face checkpoint."""

    ours: str
    theirs: str

    @property
    def transposed(self) -> bool:
        """torch keeps a linear map as [out, in], and T5's position table as [buckets, heads]."""
        return self.ours.endswith(("kernel", "rel_embedding"))


def tensor_names(config: ModelConfig) -> list[Name]:
    """Every tensor by our name and by Hugging Face's."""
    return list(_t5_names(config) if isinstance(config, T5Config) else _llama_names(config))


def _t5_names(config: T5Config) -> Iterator[Name]:
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
            yield from _t5_layer_names(config, stack, ours, theirs)


def _t5_layer_names(config: T5Config, stack: str, ours: str, theirs: str) -> Iterator[Name]:
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


_LLAMA_PARTS = {
    "self_attention/query": "self_attn.q_proj",
    "self_attention/key": "self_attn.k_proj",
    "self_attention/value": "self_attn.v_proj",
    "self_attention/out": "self_attn.o_proj",
    "mlp/wi_0": "mlp.gate_proj",
    "mlp/wi_1": "mlp.up_proj",
    "mlp/wo": "mlp.down_proj",
}


def _llama_names(config: DecoderConfig) -> Iterator[Name]:
    yield Name("token_embedder/embedding", "model.embed_tokens.weight")
    yield Name("decoder/decoder_norm/scale", "model.norm.weight")
    if not config.logits_via_embedding:
        yield Name("logits_dense/kernel", "lm_head.weight")
    for index in range(config.num_layers):
        ours, theirs = f"decoder/layers_{index}", f"model.layers.{index}"
        yield Name(f"{ours}/pre_self_attention_layer_norm/scale", f"{theirs}.input_layernorm.weight")
        yield Name(f"{ours}/pre_mlp_layer_norm/scale", f"{theirs}.post_attention_layernorm.weight")
        for our_part, their_part in _LLAMA_PARTS.items():
            yield Name(f"{ours}/{our_part}/kernel", f"{theirs}.{their_part}.weight")
        for part in ("query", "key", "value") if config.qkv_bias else ():
            yield Name(f"{ours}/self_attention/{part}/bias", f"{theirs}.self_attn.{part[0]}_proj.bias")
