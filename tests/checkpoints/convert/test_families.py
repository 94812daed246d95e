"""config.json of Hugging Face: every field and option is read, and what we do not compute is refused."""

import pytest

from exaranker.checkpoints.convert.families import CONVERSIONS, exported_as, from_hf_config, to_hf_config
from exaranker.errors import InputError
from exaranker.models import FAMILIES
from exaranker.models.decoder import DecoderConfig
from exaranker.models.qwen3 import Qwen3Config
from exaranker.models.t5 import T5Config
from exaranker.models.t5gemma import T5GemmaConfig, Widths
from exaranker.models.t5gemma2 import T5Gemma2Config
from exaranker.tokenization import load_tokenizer

LLAMA = {
    "model_type": "llama",
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "rms_norm_eps": 1e-5,
}
READ = DecoderConfig(
    vocab_size=96,
    emb_dim=32,
    num_heads=4,
    num_kv_heads=4,
    num_layers=3,
    head_dim=8,
    mlp_dim=48,
    rope_theta=10000.0,
    logits_via_embedding=True,
)


def test_what_config_json_leaves_out_is_what_transformers_takes():
    assert from_hf_config(LLAMA, ()) == READ


@pytest.mark.parametrize(
    "rope",
    [{"rope_theta": 500.0}, {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}],
    ids=["transformers 4", "transformers 5"],
)
def test_rope_theta_of_both_ages(rope):
    assert from_hf_config({**LLAMA, **rope}, ()).rope_theta == 500.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "config.json has no hidden_size"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported .only 'silu' is"),
        ({"attention_bias": True}, "attention_bias True is not supported"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, r"rope_scaling .*'linear'.* is not supported"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, "by layer type are not supported"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "use_sliding_window True is not supported"),
        ({"model_type": "qwen3", "use_sliding_window": True}, "use_sliding_window True is not supported"),
        ({"model_type": "lama"}, "model_type 'lama' is not supported .did you mean llama"),
    ],
)
def test_what_we_do_not_compute_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        from_hf_config({**LLAMA, **change}, ())


def test_the_heads_of_a_qwen3_are_128_wide_unless_it_says_otherwise():
    widths = [from_hf_config({**LLAMA, "model_type": "qwen3", "head_dim": width}, ()).head_dim for width in (None, 64)]
    assert widths == [128, 64]


SIDE = {key: value for key, value in LLAMA.items() if key not in ("model_type", "rms_norm_eps")}


def t5gemma(encoder, decoder):
    parts = {"encoder": encoder, "decoder": decoder}
    sides = {name: {**SIDE, "num_key_value_heads": 2, **part} for name, part in parts.items()}
    return from_hf_config({"model_type": "t5gemma", **sides}, ())


def test_each_side_of_a_t5gemma_has_widths_and_depth_of_its_own():
    config = t5gemma({"hidden_size": 48, "num_hidden_layers": 5}, {"final_logit_softcapping": None})
    assert config == T5GemmaConfig(
        vocab_size=96,
        emb_dim=32,
        num_heads=4,
        num_kv_heads=2,
        num_encoder_layers=5,
        num_decoder_layers=3,
        mlp_dim=48,
        encoder_widths=Widths(emb_dim=48, num_heads=4, num_kv_heads=2, head_dim=256, mlp_dim=48),
        logit_cap=None,
    )


@pytest.mark.parametrize(
    ("kinds", "pattern"),
    [
        ("ss", ("sliding",)),
        ("fff", ("full",)),
        ("sfs", ("sliding", "full")),
        ("ssfssf", ("sliding", "sliding", "full")),
        ("sff", ("sliding", "full", "full")),
    ],
)
def test_the_pattern_of_layer_types(kinds, pattern):
    names = {"s": "sliding_attention", "f": "full_attention"}
    side = {"num_hidden_layers": len(kinds), "layer_types": [names[kind] for kind in kinds]}
    config = t5gemma(side, side)
    assert config.attention_pattern == pattern
    written = to_hf_config(config, load_tokenizer("byt5"))
    assert [written[name]["layer_types"] for name in ("encoder", "decoder")] == [side["layer_types"]] * 2


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        ({"sliding_window": 128}, {}, "encoder and decoder differ in sliding_window: 128 and 4096"),
        ({}, {"hidden_activation": "silu"}, "hidden_activation 'silu' is not supported"),
        ({}, {"layer_types": ["full_attention"]}, "layer_types .* are not supported"),
        ({}, {"hidden_size": None}, "config.json has no hidden_size"),
    ],
)
def test_what_no_t5gemma_of_ours_computes_is_refused(encoder, decoder, message):
    with pytest.raises(InputError, match=message):
        t5gemma(encoder, decoder)


def t5gemma2(text, **given):
    """A T5Gemma 2 whose decoder says what its encoder's text says."""
    side = {**SIDE, "num_key_value_heads": 2, **text}
    parts = {"encoder": {"text_config": side, "eoi_token_index": 90}, "decoder": side}
    return from_hf_config({"model_type": "t5gemma2", **parts, **given}, ())


def test_what_a_t5gemma_2_leaves_out_is_what_transformers_takes():
    assert t5gemma2({}) == T5Gemma2Config(
        vocab_size=96,
        emb_dim=32,
        num_heads=4,
        num_kv_heads=2,
        num_encoder_layers=3,
        num_decoder_layers=3,
        mlp_dim=48,
        sliding_window=4096,
        rope_factor=1.0,
        end_of_image_id=90,
    )
    assert t5gemma2({"sliding_window_pattern": 2}).attention_pattern == ("sliding", "full")


LINEAR = {"rope_type": "linear", "rope_theta": 5e5, "factor": 4.0}
LOCAL = {"rope_type": "default", "rope_theta": 500.0}


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_parameters": {"full_attention": LINEAR, "sliding_attention": LOCAL}},
        {"rope_theta": 5e5, "rope_local_base_freq": 500.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    ],
    ids=["transformers 5", "transformers 4"],
)
def test_rotary_positions_by_kind_of_layer_come_back(rope):
    config = t5gemma2(rope)
    assert (config.rope_theta, config.rope_factor, config.local_rope_theta) == (5e5, 4.0, 500.0)
    written = to_hf_config(config, load_tokenizer("byt5"))
    for part in (written["encoder"]["text_config"], written["decoder"]):
        assert part["rope_parameters"] == {"full_attention": LINEAR, "sliding_attention": LOCAL}
    assert from_hf_config(written, ()) == config


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn", "factor": 2.0}}}, {}, "'yarn'.* not supported"),
        ({"rope_parameters": {"sliding_attention": LINEAR}}, {}, "'linear'.* is not supported"),
        ({"rope_parameters": LOCAL}, {}, "rope_parameters .*'default'.* are not supported .by sliding_attention"),
        ({"attn_logit_softcapping": 50.0}, {}, "attn_logit_softcapping 50.0 is not supported .only None is"),
        ({}, {"tie_word_embeddings": False}, "tie_word_embeddings False is not supported"),
        ({}, {"decoder": None}, "config.json has no decoder"),
        ({}, {"encoder": {}}, "config.json has no encoder"),
        ({}, {"model_type": "t5gemma2_encoder"}, "model_type 't5gemma2_encoder' is not supported"),
    ],
)
def test_what_no_t5gemma_2_of_ours_computes_is_refused(text, given, message):
    with pytest.raises(InputError, match=message):
        t5gemma2(text, **given)


def test_a_t5gemma_2_has_one_width():
    with pytest.raises(
        InputError, match=r"T5Gemma2Config\.merged_attention needs .* as wide as the decoder: 32, not 64"
    ):
        t5gemma2({"hidden_size": 64}, decoder={**SIDE, "num_key_value_heads": 2})


def test_mt5_never_scales_its_logits():
    shape = dict.fromkeys(("vocab_size", "d_model", "num_heads", "num_layers", "d_kv", "d_ff"), 8)
    kinds = {kind: from_hf_config({"model_type": kind, **shape}, ()).scale_logits for kind in ("t5", "mt5", "umt5")}
    assert kinds == {"t5": True, "mt5": False, "umt5": True}


@pytest.mark.parametrize(
    ("config", "model_type"),
    [
        (T5Config(), "t5"),
        (T5Config(relative_bias_per_layer=True), "umt5"),
        (DecoderConfig(), "llama"),
        (DecoderConfig(qkv_bias=True), "qwen2"),
        (Qwen3Config(), "qwen3"),
        (T5GemmaConfig(), "t5gemma"),
        (T5Gemma2Config(), "t5gemma2"),
    ],
)
def test_the_model_type_of_an_export(config, model_type):
    assert exported_as(config).model_type == model_type


def test_every_family_can_be_converted():
    assert {conversion.config for conversion in CONVERSIONS.values()} == {family.config for family in FAMILIES.values()}
