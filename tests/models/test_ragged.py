"""Rows without their padding: every token once, in its order, and back where it was."""

import jax.numpy as jnp
import numpy as np
import pytest

from exaranker.models.ragged import RaggedShape, ragged_rows, row_lengths

LENGTHS = np.array([3, 1, 0, 5])
ROWS = np.arange(1, 25).reshape(4, 6) * (np.arange(6) < LENGTHS[:, None])


@pytest.mark.parametrize("groups", [1, 2])
def test_tokens_lie_one_after_the_other_and_return_to_their_rows(groups):
    by_group = ROWS.reshape(groups, -1)
    rows = ragged_rows(jnp.array(LENGTHS), 6, RaggedShape(groups, 9))
    flat = np.asarray(rows.flat(jnp.array(ROWS)))
    assert flat.shape == (groups, 9)
    for tokens, positions, group in zip(flat, np.asarray(rows.positions), by_group, strict=True):
        there = group[group > 0]
        assert tokens[: len(there)].tolist() == there.tolist()
        assert positions[: len(there)].tolist() == ((there - 1) % 6).tolist()
    back = np.asarray(rows.padded(jnp.array(flat)))
    np.testing.assert_array_equal(back[ROWS > 0], ROWS[ROWS > 0])


def test_further_axes_go_along():
    rows = ragged_rows(jnp.array(LENGTHS), 6, RaggedShape(1, 9))
    states = np.stack([ROWS, -ROWS], axis=-1)
    back = np.asarray(rows.padded(rows.flat(jnp.array(states))))
    assert back.shape == (4, 6, 2)
    np.testing.assert_array_equal(back[ROWS > 0], states[ROWS > 0])


def test_an_id_0_inside_a_row_is_a_token_and_an_empty_row_counts_as_one():
    assert row_lengths(jnp.array([[5, 0, 7, 0], [0, 0, 0, 0], [1, 2, 3, 4]])).tolist() == [3, 1, 4]
