"""Static shapes: few of them, every text in exactly one batch, nothing lost to padding."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from exaranker.rank.length_buckets import LENGTHS, length_batches, rows_in, static_length

TEXTS = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=120), max_size=40)


@settings(deadline=None, max_examples=50)
@given(TEXTS, st.integers(64, 600), st.sampled_from([1, 2, 8]))
def test_every_text_is_in_one_batch_and_whole(texts: list[list[int]], token_budget: int, devices: int) -> None:
    found = {}
    for batch in length_batches(texts, max_length=120, token_budget=token_budget, multiple_of=devices):
        assert batch.tokens.shape[0] % devices == 0
        for row, index in enumerate(batch.indices):
            assert index not in found
            found[index] = [int(token) for token in batch.tokens[row] if token]
    assert [found[index] for index in range(len(texts))] == texts


def test_shapes_are_static_and_fill_the_budget() -> None:
    texts = [[1] * length for length in (5, 200, 90, 100, 33, 31)]
    shapes = [batch.tokens.shape for batch in length_batches(texts, max_length=512, token_budget=256)]
    assert shapes == [(1, 224), (2, 128), (4, 64)]  # 200 | 100, 90 | 33, 31, 5 and one repeated row


def test_padding_rows_repeat_the_first_text() -> None:
    (batch,) = length_batches([[7, 8], [9]], max_length=512, token_budget=128)
    assert batch.indices == [0, 1]
    np.testing.assert_array_equal(batch.tokens[:, :3], [[7, 8, 0], [9, 0, 0], [7, 8, 0], [7, 8, 0]])


def test_lengths_beyond_the_table_are_powers_of_two_up_to_the_maximum() -> None:
    assert static_length(max(LENGTHS) + 1, max_length=4096) == 1024
    assert static_length(1025, max_length=1500) == 1500
    assert static_length(100, max_length=100) == 100


def test_a_batch_has_at_least_one_row_per_device() -> None:
    assert rows_in(512, token_budget=10) == 1
    assert rows_in(512, token_budget=10, multiple_of=4) == 4
    assert rows_in(64, token_budget=1024, multiple_of=4) == 16
