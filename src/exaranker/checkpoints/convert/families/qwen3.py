"""Qwen3, its rerankers among them, in Hugging Face's words."""

from collections.abc import Iterator
from dataclasses import replace

from exaranker.checkpoints.convert.conversion import Field, Name
from exaranker.checkpoints.convert.families import llama
from exaranker.models.qwen3 import Qwen3Config


def _names(config: Qwen3Config) -> Iterator[Name]:
    yield from llama.names(config)
    for index in range(config.num_layers):
        ours, theirs = f"decoder/layers_{index}/self_attention", f"model.layers.{index}.self_attn"
        yield Name(f"{ours}/query_norm/scale", f"{theirs}.q_norm.weight")
        yield Name(f"{ours}/key_norm/scale", f"{theirs}.k_norm.weight")


QWEN3 = replace(
    llama.LLAMA,
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    config=Qwen3Config,
    fields=(*(field for field in llama.FIELDS if field.ours != "head_dim"), Field("head_dim", "head_dim", 128)),
    names=_names,
    implied={**llama.IMPLIED, "qk_norm": True, "qkv_bias": False},
    options={"hidden_act": "silu", "attention_bias": False, "use_sliding_window": False},
)
