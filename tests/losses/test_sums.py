"""Logits of the answers alone give the losses and gradients of all logits."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exaranker import models
from exaranker.losses.sums import _is_argmax, _sums, loss_sums
from exaranker.losses.token import LossConfig, loss_weights
from exaranker.models.decoder import DecoderConfig

LENGTH = 12
LOSS = LossConfig(label_weight=2.0, label_smoothing=0.1)
SHAPE: dict[str, Any] = {"vocab_size": 64, "emb_dim": 16, "num_heads": 2, "num_kv_heads": 1, "head_dim": 8}


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def model(request: pytest.FixtureRequest) -> tuple[nn.Module, Any]:
    config = DecoderConfig(**SHAPE, num_layers=1, mlp_dim=24, dtype="float32", logits_via_embedding=request.param)
    module = models.build(config)
    return module, nn.meta.unbox(module.init(jax.random.key(0), batch_of([[0]]))["params"])


def batch_of(answers: list[list[int]]) -> dict[str, jax.Array]:
    """A row for each list of the positions that have a loss; every other one is a label. Soft labels too."""
    random = np.random.default_rng(0)
    tokens = random.integers(2, 64, (len(answers), LENGTH))
    weights, labels = np.zeros((2, len(answers), LENGTH), np.int32)
    for row, positions in enumerate(answers):
        weights[row, positions] = 1
        labels[row, positions[::2]] = 1
    batch = {
        "decoder_input_tokens": np.pad(tokens, ((0, 0), (1, 0)))[:, :-1],
        "decoder_target_tokens": tokens,
        "decoder_loss_weights": weights,
        "decoder_label_weights": labels.astype(np.float32),
        "decoder_other_labels": random.integers(2, 64, tokens.shape),
        "decoder_other_label_shares": random.random(tokens.shape).astype(np.float32),
    }
    arrays = {name: jnp.asarray(array) for name, array in batch.items()}
    return {**arrays, "weights": loss_weights(arrays, LOSS)}


# A third of a row is 4 positions: the first batch fits, the second does not.
@pytest.mark.parametrize("answers", [[[8, 9, 10, 11], [2, 3, 9]], [[8, 9, 10, 11], [0, 1, 2, 5, 6, 7, 11]]])
def test_sums_and_gradients_are_those_of_all_logits(model, answers, rounding):
    module, params = model
    batch = batch_of(answers)

    def of_answers(params: Any) -> Any:
        sums = loss_sums(module, {"params": params}, batch, LOSS, None)
        return sums["loss"], sums

    def of_all(params: Any) -> Any:
        sums = _sums(module.apply({"params": params}, batch), batch, LOSS)
        return sums["loss"], sums

    ours, theirs = (jax.jit(jax.grad(f, has_aux=True))(params) for f in (of_answers, of_all))
    # The longest sum on the way to a gradient is over the vocabulary's 64 logits; over positions it is one of 24.
    jax.tree.map(lambda one, other: rounding.assert_equal_but_for_rounding(one, other, terms=64), ours, theirs)
    assert theirs[1]["label_tokens"] + theirs[1]["explanation_tokens"] == sum(map(len, answers))


def test_short_answers_skip_the_logits_of_the_prompt(model):
    """The branch for short answers multiplies a third of the row with the vocabulary, the other one all of it."""
    module, params = model
    step = jax.jit(lambda params: loss_sums(module, {"params": params}, batch_of([[9, 10]]), LOSS, None))
    text = step.lower(params).as_text()
    assert "tensor<4x64xf32>" in text
    assert "tensor<12x64xf32>" in text
    assert text.count("stablehlo.case") == 1


def test_a_token_is_right_where_argmax_gives_it_also_among_equals_and_without_a_number():
    logits = np.random.default_rng(0).integers(0, 3, (2, 50, 6)).astype(np.float32)  # many equal ones
    logits[1, :5] = 0.0
    logits[1, 5, 3] = np.nan
    tokens = np.random.default_rng(1).integers(0, 6, logits.shape[:2])
    expected = (logits.argmax(-1) == tokens) & ~np.isnan(logits).any(-1)
    assert 10 < expected.sum() < 60
    np.testing.assert_array_equal(_is_argmax(jnp.asarray(logits), jnp.asarray(tokens)), expected)
