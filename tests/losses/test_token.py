"""Losses against values worked out by hand and by optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from exaranker.errors import InputError
from exaranker.losses.token import LossConfig, loss_weights, token_losses, total_weight

LOGITS = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 5)), jnp.float32)
TARGETS = jnp.array([[1, 4, 0], [2, 2, 3]])
PACKED = {  # row 0: a label and two explanation tokens; row 1: two sequences packed, then padding
    "decoder_loss_weights": jnp.array([[1.0, 1, 1, 0], [1, 1, 1, 0]]),
    "decoder_label_weights": jnp.array([[1.0, 0, 0, 0], [1, 1, 0, 0]]),
    "decoder_segment_ids": jnp.array([[1, 1, 1, 0], [1, 2, 2, 0]]),
}


def test_cross_entropy_is_optax_s(rounding):
    losses = token_losses(LOGITS, TARGETS, LossConfig())
    expected = optax.softmax_cross_entropy_with_integer_labels(LOGITS, TARGETS)
    rounding.assert_equal_but_for_rounding(losses.cross_entropy, expected, terms=5)  # pieces


def test_z_loss_is_the_squared_log_partition(rounding):
    logits = jnp.log(jnp.array([[[1.0, 2.0, 5.0]]]))  # Z = 8
    losses = token_losses(logits, jnp.array([[2]]), LossConfig(z_loss=0.1))
    rounding.assert_equal_but_for_rounding(losses.z_loss, [[0.1 * np.log(8) ** 2]], terms=3)  # pieces


def test_label_smoothing_spreads_over_the_other_pieces_and_takes_off_the_entropy(rounding):
    smoothing = 0.2
    targets = np.full((2, 3, 5), smoothing / 4)
    np.put_along_axis(targets, np.asarray(TARGETS)[..., None], 1 - smoothing, axis=-1)
    entropy = -(0.8 * np.log(0.8) + 4 * 0.05 * np.log(0.05))
    expected = optax.softmax_cross_entropy(LOGITS, jnp.asarray(targets)) - entropy
    losses = token_losses(LOGITS, TARGETS, LossConfig(label_smoothing=smoothing))
    # Two sums over 5 pieces, whose parts reach the entropy beside them.
    rounding.assert_equal_but_for_rounding(losses.cross_entropy, expected, terms=2 * 5)


def test_label_and_explanation_tokens_weigh_apart():
    weights = loss_weights(PACKED, LossConfig(label_weight=3.0, explanation_weight=0.5))
    np.testing.assert_array_equal(weights, [[3.0, 0.5, 0.5, 0], [3.0, 3.0, 0.5, 0]])


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (None, [[1.0, 1, 1, 0], [1, 1, 1, 0]]),
        (4.0, [[0.25, 0.25, 0.25, 0], [0.25, 0.25, 0.25, 0]]),
        ("NUM_REAL_TARGET_TOKENS", [[1 / 6, 1 / 6, 1 / 6, 0], [1 / 6, 1 / 6, 1 / 6, 0]]),
        ("NUM_TOTAL_TARGET_TOKENS", [[1 / 8, 1 / 8, 1 / 8, 0], [1 / 8, 1 / 8, 1 / 8, 0]]),
        ("AVERAGE_PER_SEQUENCE", [[1 / 9, 1 / 9, 1 / 9, 0], [1 / 3, 1 / 6, 1 / 6, 0]]),
    ],
)
def test_normalisation_is_t5x_s(rounding, factor, expected):
    weights = loss_weights(PACKED, LossConfig(loss_normalizing_factor=factor))
    rounding.assert_equal_but_for_rounding(weights, expected, terms=8)  # tokens


@pytest.mark.parametrize(("factor", "expected"), [(None, 700.0), (7.0, 100.0), ("NUM_REAL_TARGET_TOKENS", 1.0)])
def test_the_total_weight_is_exact(factor, expected):
    ones = jnp.ones((7, 100))
    batch = {"decoder_loss_weights": ones, "decoder_label_weights": 0 * ones}
    assert total_weight(batch, LossConfig(loss_normalizing_factor=factor)) == expected


@pytest.mark.parametrize("factor", ["NUM_TOTAL_TARGET_TOKENS", "AVERAGE_PER_SEQUENCE"])
def test_the_total_weight_is_the_sum_of_the_weights(rounding, factor):
    config = LossConfig(label_weight=3.0, loss_normalizing_factor=factor)
    total, expected = total_weight(PACKED, config), loss_weights(PACKED, config).sum()
    rounding.assert_equal_but_for_rounding(total, expected, terms=8)  # tokens


def test_an_unknown_normalisation_names_the_nearest():
    with pytest.raises(InputError, match=r"'NUM_REAL_TARGETS'.* \(did you mean NUM_REAL_TARGET_TOKENS"):
        LossConfig(loss_normalizing_factor="NUM_REAL_TARGETS")


def test_weights_of_a_whole_batch_add_up_over_its_microbatches(rounding):
    weights = loss_weights(PACKED, LossConfig(loss_normalizing_factor="NUM_REAL_TARGET_TOKENS"))
    assert jax.tree.all(jax.tree.map(lambda part: part.sum() < 1, [weights[:1], weights[1:]]))
    rounding.assert_equal_but_for_rounding(weights[:1].sum() + weights[1:].sum(), 1.0, terms=8)  # tokens
