"""Pairs that share rows: equal numbers in each, each whole, and told apart by their segments."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from exaranker.train.shared_rows import in_rows, share_rows, used_lengths

LENGTHS = st.lists(st.integers(0, 12), min_size=4, max_size=4).map(np.array)


@given(st.lists(st.integers(0, 99), min_size=12, max_size=12).map(np.array))
def test_every_pair_is_in_one_row_and_rows_have_as_many(lengths):
    rows = share_rows(lengths, pairs_per_row=3)
    assert sorted(pair for row in rows for pair in row) == list(range(12))
    assert {len(row) for row in rows} == {3}


def test_a_long_pair_shares_its_row_with_short_ones():
    rows = share_rows(np.array([10, 90, 20, 80, 30, 70]), pairs_per_row=3)
    assert rows == [[1, 4, 2], [3, 5, 0]]  # 140, 160


@given(LENGTHS, LENGTHS)
def test_each_side_of_a_pair_is_whole_and_has_a_segment(encoder, decoder):
    arrays = {
        f"{side}_input_tokens": np.arange(1, 49).reshape(4, 12) * (np.arange(12) < lengths[:, None])
        for side, lengths in (("encoder", encoder), ("decoder", decoder))
    }
    rows = [[2, 0], [1, 3]]
    packed = in_rows(arrays, rows, {"encoder": encoder, "decoder": decoder})
    for name, array in arrays.items():
        side = name.partition("_")[0]
        assert packed[name].shape == (2, 24)
        for line, row in enumerate(rows):
            for segment, pair in enumerate(row, start=1):
                mask = packed[f"{side}_segment_ids"][line] == segment
                assert packed[name][line][mask].tolist() == array[pair][array[pair] > 0].tolist()
                assert packed[f"{side}_positions"][line][mask].tolist() == list(range(mask.sum()))
            assert not packed[name][line][packed[f"{side}_segment_ids"][line] == 0].any()


def test_lengths_end_with_the_last_that_is_not_0():
    assert used_lengths(np.array([[5, 0, 7, 0], [0, 0, 0, 0]])).tolist() == [3, 0]
