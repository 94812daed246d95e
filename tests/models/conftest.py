"""Small random Hugging Face models, one per variant, and the same weights read into ours."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
import transformers

from exaranker import models
from exaranker.checkpoints.convert.huggingface import read_huggingface

T5_SHAPE = {
    "vocab_size": 160,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_heads": 6,
    "num_layers": 2,
    "decoder_start_token_id": 0,
}
LLAMA_SHAPE = {
    "vocab_size": 160,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
T5GEMMA_SIDE = {
    "vocab_size": 160,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "query_pre_attn_scalar": 7,
    "sliding_window": 4,
    # So low that they show.
    "attn_logit_softcapping": 1.5,
    "final_logit_softcapping": 2.0,
}
WIDER = {"hidden_size": 48, "num_attention_heads": 6, "head_dim": 16, "num_key_value_heads": 3, "num_hidden_layers": 2}
UNCAPPED = {
    **T5GEMMA_SIDE,
    "num_key_value_heads": 4,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
}
T5GEMMA2_SIDE = {
    **{key: value for key, value in T5GEMMA_SIDE.items() if not key.endswith("softcapping")},
    "sliding_window": 5,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e3},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e2},
    },
}
# Six layers of the usual pattern; an even window is one token longer after than before.
T5GEMMA2_SIX = {
    **{key: value for key, value in T5GEMMA2_SIDE.items() if key not in ("layer_types", "rope_parameters")},
    "sliding_window": 4,
    "num_hidden_layers": 6,
}
T5GEMMA2_OTHER = {"num_attention_heads": 8, "head_dim": 8, "num_key_value_heads": 1, "num_hidden_layers": 7}
VISION = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "patch_size": 14}
GELU = {"feed_forward_proj": "gated-gelu"}
VARIANTS = {
    "t5_1_0": (transformers.T5Config, T5_SHAPE),
    "t5_1_1": (transformers.T5Config, {**T5_SHAPE, **GELU, "tie_word_embeddings": False}),
    "mt5": (transformers.MT5Config, {**T5_SHAPE, **GELU, "tie_word_embeddings": False}),
    "umt5": (transformers.UMT5Config, {**T5_SHAPE, **GELU}),
    "byt5": (transformers.T5Config, {**T5_SHAPE, **GELU, "num_decoder_layers": 1, "tie_word_embeddings": False}),
    "t5gemma": (
        transformers.T5GemmaConfig,
        {"encoder": {**T5GEMMA_SIDE, **WIDER}, "decoder": T5GEMMA_SIDE, "vocab_size": 160},
    ),
    "t5gemma_untied": (
        transformers.T5GemmaConfig,
        {"encoder": UNCAPPED, "decoder": UNCAPPED, "vocab_size": 160, "tie_word_embeddings": False},
    ),
    "t5gemma2": (
        transformers.T5Gemma2Config,
        {
            "encoder": {"text_config": T5GEMMA2_SIDE, "vision_config": VISION, "eoi_token_index": 90},
            "decoder": T5GEMMA2_SIDE,
        },
    ),
    "t5gemma2_capped": (
        transformers.T5Gemma2Config,
        {
            "encoder": {"text_config": {**T5GEMMA2_SIX, **T5GEMMA2_OTHER}, "vision_config": VISION},
            "decoder": {**T5GEMMA2_SIX, "final_logit_softcapping": 2.0},
        },
    ),
    "llama": (transformers.LlamaConfig, {**LLAMA_SHAPE, "tie_word_embeddings": True, "head_dim": 16}),
    "qwen2": (transformers.Qwen2Config, {**LLAMA_SHAPE, "tie_word_embeddings": False}),
    "qwen3": (transformers.Qwen3Config, {**LLAMA_SHAPE, "tie_word_embeddings": True, "head_dim": 12}),
    "qwen3_untied": (transformers.Qwen3Config, {**LLAMA_SHAPE, "tie_word_embeddings": False, "head_dim": 16}),
}
# transformers 5 ties whatever was not loaded from a file with an lm_head.
UNTIED = ("t5_1_1", "mt5", "umt5", "byt5")


class Pair(NamedTuple):
    """One model twice."""

    name: str
    theirs: Any
    module: Any
    params: Any
    directory: Path

    @property
    def is_encoder_decoder(self) -> bool:
        return self.theirs.config.is_encoder_decoder


@pytest.fixture(scope="session", params=VARIANTS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    directory = tmp_path_factory.mktemp(request.param)
    theirs = random_huggingface_model(request.param)
    theirs.save_pretrained(directory)
    config, params = read_huggingface(directory)
    module = models.build(dataclasses.replace(config, dtype="float32"))
    return Pair(request.param, theirs, module, jax.tree.map(jnp.asarray, params), directory)


def random_huggingface_model(name: str) -> Any:
    """A model whose every tensor is random, norms and biases too, so that swapping any two shows."""
    torch = pytest.importorskip("torch")
    kind, shape = VARIANTS[name]
    config = kind(**shape)
    torch.manual_seed(1)
    auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    # torch's own attention leaves soft caps out.
    model = auto.from_config(config, attn_implementation="eager").eval()
    if name in UNTIED:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model
