"""Cached, one-step and teacher-forced decoding are the same function."""

from functools import partial

import flax.linen as nn
import jax
import numpy as np
import pytest

from exaranker import models
from exaranker.models.decoder import DecoderConfig
from exaranker.models.decoding import first_step_logits, greedy_generate
from exaranker.models.t5 import T5Config

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
CONFIGS = {
    "t5": T5_TINY,
    "umt5": T5Config(**{**vars(T5_TINY), "relative_bias_per_layer": True}),
    "t5_scanned": T5Config(**{**vars(T5_TINY), "scan_layers": True}),
    "decoder": DECODER_TINY,
    "decoder_prefix": DecoderConfig(**{**vars(DECODER_TINY), "bidirectional_prefix": True}),
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
    if isinstance(config, T5Config):
        batch = {"encoder_input_tokens": [prompt], "decoder_input_tokens": [[0, *answer]]}
        start = 0
    else:
        prefix = [1] * len(prompt) + [0] * len(answer)
        batch = {"decoder_input_tokens": [[*prompt, *answer]], "decoder_causal_attention": [prefix]}
        start = len(prompt) - 1
    batch = {name: np.array(value) for name, value in batch.items()}
    return np.asarray(apply(module, params, batch))[0, start:]


def test_first_step_equals_the_full_pass(model):
    config, module, params = model
    ids = np.array([11, 3, 60])
    logits = first_step_logits(module, params, INPUTS, ids)
    expected = [teacher_forced(config, module, params, row, [40, 41])[0, ids] for row in INPUTS]
    np.testing.assert_allclose(logits, expected, atol=2e-6, rtol=1e-5)


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


def test_padding_does_not_change_a_score(model):
    _, module, params = model
    ids = np.array([11, 3])
    wide = np.pad(INPUTS, ((0, 0), (0, 5)))
    narrow, padded = (first_step_logits(module, params, tokens, ids) for tokens in (INPUTS, wide))
    np.testing.assert_allclose(narrow, padded, atol=2e-6, rtol=1e-5)
