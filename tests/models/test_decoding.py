"""Cached, one-step and teacher-forced decoding are the same function."""

from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import numpy as np
import pytest

from exaranker import models
from exaranker.models import family_of
from exaranker.models.decoder import EXACT_TAIL, DecoderConfig
from exaranker.models.decoding import first_step_logits, greedy_generate
from exaranker.models.qwen3 import Qwen3Config
from exaranker.models.ragged import RaggedShape
from exaranker.models.t5 import T5Config
from exaranker.models.t5gemma import T5GemmaConfig, Widths
from exaranker.models.t5gemma2 import T5Gemma2Config

T5_TINY = T5Config(
    vocab_size=96,
    emb_dim=32,
    num_heads=4,
    num_encoder_layers=2,
    num_decoder_layers=2,
    head_dim=8,
    mlp_dim=48,
    dtype="float32",
)
DECODER_TINY = DecoderConfig(
    vocab_size=96, emb_dim=32, num_heads=4, num_kv_heads=2, num_layers=2, head_dim=8, mlp_dim=48, dtype="float32"
)
T5GEMMA_TINY = T5GemmaConfig(
    **{name: getattr(DECODER_TINY, name) for name in ("vocab_size", "emb_dim", "num_heads", "num_kv_heads", "dtype")},
    head_dim=8,
    mlp_dim=48,
    num_encoder_layers=3,
    num_decoder_layers=3,
    encoder_widths=Widths(emb_dim=16, num_heads=4, num_kv_heads=1, head_dim=8, mlp_dim=24),
    query_scalar=8.0,
    attention_cap=1.0,
    logit_cap=2.0,
    sliding_window=3,
)
T5GEMMA2_TINY = T5Gemma2Config(
    **{name: getattr(T5GEMMA_TINY, name) for name in ("vocab_size", "emb_dim", "num_heads", "num_kv_heads", "dtype")},
    head_dim=8,
    mlp_dim=48,
    num_encoder_layers=3,
    num_decoder_layers=3,
    query_scalar=8.0,
    attention_pattern=("sliding", "full"),
    sliding_window=3,
    rope_theta=100.0,
    local_rope_theta=10.0,
    end_of_image_id=41,
)
CONFIGS = {
    "t5": T5_TINY,
    "umt5": T5Config(**{**vars(T5_TINY), "relative_bias_per_layer": True}),
    "t5_scanned": T5Config(**{**vars(T5_TINY), "scan_layers": True}),
    "t5gemma": T5GEMMA_TINY,
    "t5gemma_scanned": replace(T5GEMMA_TINY, num_kv_heads=4, scan_layers=True, logits_via_embedding=False),
    "t5gemma2": T5GEMMA2_TINY,
    "t5gemma2_scanned": replace(T5GEMMA2_TINY, num_kv_heads=4, scan_layers=True, logit_cap=2.0),
    "decoder": DECODER_TINY,
    "decoder_prefix": DecoderConfig(**{**vars(DECODER_TINY), "bidirectional_prefix": True}),
    "qwen3": Qwen3Config(**{**vars(DECODER_TINY), "head_dim": 12, "qk_norm": True}),
    "decoder_scanned": DecoderConfig(**{**vars(DECODER_TINY), "scan_layers": True, "logits_via_embedding": False}),
}
INPUTS = np.array([[5, 9, 11, 4, 17, 1, 0, 0], [8, 3, 1, 0, 0, 0, 0, 0], [2, 7, 60, 61, 62, 63, 64, 65]])
PREFIX = np.array([[40, 41]] * 3)


@pytest.fixture(scope="module", params=CONFIGS)
def model(request):
    config = CONFIGS[request.param]
    module = models.build(config)
    batch = {"encoder_input_tokens": INPUTS, "decoder_input_tokens": INPUTS}
    return config, module, nn.meta.unbox(jax.jit(module.init)(jax.random.key(0), batch)["params"])


@partial(jax.jit, static_argnums=0)
def apply(module, params, batch):
    return module.apply({"params": params}, batch)


def teacher_forced(config, module, params, row, answer):
    """Logits after the prompt and after each answer token, by one full pass over a single row without padding."""
    prompt = [token for token in row if token]
    if not family_of(config).is_decoder_only:
        batch = {"encoder_input_tokens": [prompt], "decoder_input_tokens": [[0, *answer]]}
        start = 0
    else:
        prefix = [1] * len(prompt) + [0] * len(answer)
        batch = {"decoder_input_tokens": [[*prompt, *answer]], "decoder_causal_attention": [prefix]}
        start = len(prompt) - 1
    batch = {name: np.array(value) for name, value in batch.items()}
    return np.asarray(apply(module, params, batch))[0, start:]


def test_first_step_equals_the_full_pass(rounding, model):
    config, module, params = model
    ids = np.array([11, 3, 60])
    logits = first_step_logits(module, params, INPUTS, ids)
    expected = [teacher_forced(config, module, params, row, [40, 41])[0, ids] for row in INPUTS]
    rounding.assert_equal_but_for_rounding(logits, expected, terms=config.mlp_dim)


def test_generation_equals_teacher_forcing(model):
    config, module, params = model
    generated = np.asarray(greedy_generate(module, params, INPUTS, PREFIX, 5, eos_id=-1))
    for row, tokens in zip(INPUTS, generated, strict=True):
        logits = teacher_forced(config, module, params, row, [40, 41, *tokens])
        assert list(np.argmax(logits, axis=-1)[2:-1]) == list(tokens)


def test_generation_stops_at_end_of_sequence(model):
    _, module, params = model
    free = np.asarray(greedy_generate(module, params, INPUTS, PREFIX, 5, eos_id=-1))
    eos = int(free[0, 2])
    stopped = np.asarray(greedy_generate(module, params, INPUTS, PREFIX, 5, eos_id=eos))
    for row, whole in zip(stopped, free, strict=True):
        end = list(whole).index(eos) + 1 if eos in whole else 5
        assert list(row) == [*whole[:end], *[0] * (5 - end)]


def test_padding_does_not_change_a_score(rounding, model):
    config, module, params = model
    ids = np.array([11, 3])
    wide = np.pad(INPUTS, ((0, 0), (0, 5)))
    narrow, padded = (first_step_logits(module, params, tokens, ids) for tokens in (INPUTS, wide))
    rounding.assert_equal_but_for_rounding(narrow, padded, terms=config.mlp_dim)


# The rows of `INPUTS` have 6, 3 and 8 tokens, and another has none: 17, or 9 and 8 by twos.
@pytest.mark.parametrize("shape", [RaggedShape(1, 17), RaggedShape(2, 9)], ids=["one", "two"])
def test_a_score_without_its_padding_is_the_same(rounding, model, shape):
    config, module, params = model
    ids, rows = np.array([11, 3, 60]), np.pad(INPUTS, ((0, 1), (0, 5)))
    expected, found = (first_step_logits(module, params, rows, ids, given)[:3] for given in (None, shape))
    rounding.assert_equal_but_for_rounding(found, expected, terms=config.mlp_dim)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["causal", "prefix"])
def test_a_bf16_decoder_scores_the_end_of_its_prompt_in_fp32(rounding, bidirectional):
    """A prompt that fits into the exact tail scores as in fp32, whatever its row's length; a longer one nearly so."""
    exact_config = replace(DECODER_TINY, bidirectional_prefix=bidirectional)
    exact, rounded = (models.build(replace(exact_config, dtype=dtype)) for dtype in ("float32", "bfloat16"))
    params = nn.meta.unbox(jax.jit(exact.init)(jax.random.key(0), {"decoder_input_tokens": INPUTS})["params"])
    ids, lengths = np.array([11, 3, 60]), np.array([5, EXACT_TAIL, EXACT_TAIL + 1, 70])
    tokens = np.random.default_rng(0).integers(1, 96, (4, 80)) * (np.arange(80) < lengths[:, None])
    expected = first_step_logits(exact, params, tokens, ids)
    whole = {"decoder_input_tokens": tokens, "decoder_causal_attention": (tokens != 0).astype(np.int32)}
    plain = apply(rounded, params, whole)[np.arange(4), lengths - 1][:, ids]
    scored = first_step_logits(rounded, params, tokens, ids)
    error, plain_error = (np.abs(logits - expected).max(axis=1) for logits in (scored, plain))
    same = rounding.rounding(EXACT_TAIL, np.abs(expected).max())  # positions
    assert (error[:2] <= same).all()
    assert (error < plain_error).all()
    narrow = first_step_logits(rounded, params, tokens[:1, :8], ids)
    np.testing.assert_allclose(narrow, expected[:1], rtol=0, atol=same)
    ragged = first_step_logits(rounded, params, tokens, ids, RaggedShape(1, lengths.sum()))
    rounding.assert_equal_but_for_rounding(ragged, scored, terms=DECODER_TINY.mlp_dim)
