"""T5Gemma 2 in Hugging Face's words: the encoder's text is a part of its own, beside images.

Rankers read texts: the vision tower is left out on the way in, and on the way out is as small as transformers takes it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from exaranker.checkpoints.convert.conversion import Conversion, Field, Json, Name
from exaranker.checkpoints.convert.families import t5gemma
from exaranker.checkpoints.convert.families.llama import rope_theta
from exaranker.errors import InputError
from exaranker.models.t5gemma2 import T5Gemma2Config
from exaranker.tokenization import Tokenizer

FIELDS = (
    Field("vocab_size", "vocab_size"),
    Field("query_scalar", "query_pre_attn_scalar", 256),
    Field("logit_cap", "final_logit_softcapping", None),
    Field("sliding_window", "sliding_window", 4096),
    Field("layer_norm_epsilon", "rms_norm_eps", 1e-6),
    Field("max_positions", "max_position_embeddings", 131072),
)
OPTIONS = {**t5gemma.OPTIONS, "attn_logit_softcapping": None, "use_bidirectional_attention": False}
EMBEDDING = "model.encoder.embed_tokens.weight"
END_OF_IMAGE = "model.encoder.embed_tokens.eoi_embedding"
IMAGES = re.compile(r"^model\.encoder\.(vision_tower|multi_modal_projector)\.")
NO_IMAGES = {
    "mm_tokens_per_image": 1,
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 1,
        "intermediate_size": 1,
        "num_hidden_layers": 0,
        "num_attention_heads": 1,
        "image_size": 1,
        "patch_size": 1,
        "vision_use_head": False,
    },
}


def _pattern(part: Json) -> tuple[str, ...]:
    every = part.get("sliding_window_pattern", 6)
    return (*["sliding"] * (every - 1), "full")


def _read_rope(part: Json) -> dict[str, Any]:
    """Rotary positions by kind of layer; transformers 4 has fields of their own for those that see a window.

    Raises:
        InputError: frequencies are scaled in another way than by a factor, or of layers that see a window.
    """
    kinds = part.get("rope_parameters") or {}
    if kinds and not kinds.keys() <= t5gemma.KINDS.keys():
        raise InputError(f"rope_parameters {kinds!r} are not supported", hint=f"by {', '.join(t5gemma.KINDS)}")
    whole = {"rope_theta": part.get("rope_theta", 1e6), **(part.get("rope_scaling") or {})}
    whole |= kinds.get("full_attention") or {}
    window = {"rope_theta": part.get("rope_local_base_freq", 1e4), **(kinds.get("sliding_attention") or {})}
    factor = 1.0
    if whole.get("rope_type", whole.get("type")) == "linear":
        factor = float(whole["factor"])
        whole = {"rope_theta": whole["rope_theta"]}
    thetas = (rope_theta({"rope_parameters": rope}) for rope in (whole, window))
    return {**dict(zip(("rope_theta", "local_rope_theta"), thetas, strict=True)), "rope_factor": factor}


def _write_rope(config: T5Gemma2Config) -> dict[str, Any]:
    whole, window = config.ropes
    return {
        "full_attention": {"rope_type": "linear", "rope_theta": whole.theta, "factor": whole.factor},
        "sliding_attention": {"rope_type": "default", "rope_theta": window.theta},
    }


SIDE = t5gemma.Side(FIELDS, OPTIONS, _pattern, _read_rope, _write_rope)


def _read_more(given: Json) -> dict[str, Any]:
    encoder = given.get("encoder") or {}
    parts = {"encoder": encoder.get("text_config"), "decoder": given.get("decoder")}
    return {**t5gemma.read_sides(SIDE, parts), "end_of_image_id": encoder.get("eoi_token_index", 256000)}


def _write_more(config: T5Gemma2Config, tokenizer: Tokenizer) -> dict[str, Any]:
    sides = t5gemma.write_sides(SIDE, config, tokenizer)
    encoder = {
        "model_type": "t5gemma2_encoder",
        "text_config": {"model_type": "t5gemma2_text", **sides["encoder"]},
        "eoi_token_index": config.end_of_image_id,
        **NO_IMAGES,
    }
    decoder = {"model_type": "t5gemma2_decoder", **sides["decoder"]}
    whole = t5gemma.write_whole(config, tokenizer)
    return {**whole, "eoi_token_index": config.end_of_image_id, "encoder": encoder, "decoder": decoder}


def _names(config: T5Gemma2Config) -> Iterator[Name]:
    yield Name("token_embedder/embedding", EMBEDDING)
    yield Name("token_embedder/end_of_image", END_OF_IMAGE)
    yield from t5gemma.names_of_layers(config)


def _fillers(config: T5Gemma2Config) -> Mapping[str, np.ndarray]:
    shapes: dict[str, tuple[int, ...]] = {
        "vision_tower.embeddings.patch_embedding.weight": (1, 3, 1, 1),
        "vision_tower.embeddings.patch_embedding.bias": (1,),
        "vision_tower.embeddings.position_embedding.weight": (1, 1),
        "vision_tower.post_layernorm.weight": (1,),
        "vision_tower.post_layernorm.bias": (1,),
        "multi_modal_projector.mm_input_projection_weight": (1, config.emb_dim),
        "multi_modal_projector.mm_soft_emb_norm.weight": (1,),
    }
    return {f"model.encoder.{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}


T5GEMMA2 = Conversion(
    "t5gemma2",
    "T5Gemma2ForConditionalGeneration",
    T5Gemma2Config,
    (Field("dropout_rate", "dropout_rate", 0.0),),
    _names,
    implied={
        **t5gemma.IMPLIED,
        "attention_cap": None,
        "qk_norm": True,
        "merged_attention": True,
        "logits_via_embedding": True,
    },
    options={"attention_dropout": 0.0, "tie_word_embeddings": True},
    read_more=_read_more,
    write_more=_write_more,
    head=t5gemma.HEAD,
    tied=True,
    embedding=EMBEDDING,
    copies={
        "model.decoder.embed_tokens.weight": EMBEDDING,
        "model.decoder.embed_tokens.eoi_embedding": END_OF_IMAGE,
    },
    modules=("model.encoder.layers.", "model.encoder.text_model.layers."),
    of_images=IMAGES,
    fillers=_fillers,
)
