"""Static shapes: few of them, every text in exactly one batch, and next to nothing of it padding."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from exaranker.rank.length_buckets import LENGTHS, batch_shape, length_batches, pad_batch, static_length

TEXTS = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=120), max_size=40)


@settings(deadline=None, max_examples=50)
@given(TEXTS, st.integers(64, 600), st.sampled_from([1, 2, 8]))
def test_every_text_is_in_one_batch_and_whole(texts: list[list[int]], token_budget: int, devices: int) -> None:
    found = {}
    for batch in length_batches(texts, max_length=120, token_budget=token_budget, devices=devices):
        groups = batch.tokens.reshape(devices, batch.shape.rows, batch.shape.length)
        assert np.count_nonzero(groups, axis=(1, 2)).max() <= batch.shape.tokens
        assert np.count_nonzero(batch.tokens) == np.count_nonzero(batch.tokens[batch.rows])
        for row, index in zip(batch.rows, batch.indices, strict=True):
            assert index not in found
            found[index] = [int(token) for token in batch.tokens[row] if token]
    assert [found[index] for index in range(len(texts))] == texts


def test_shapes_are_static_and_fill_the_budget() -> None:
    texts = [[1] * length for length in (5, 200, 90, 100, 33, 31)]
    batches = list(length_batches(texts, max_length=512, token_budget=256))
    assert [batch.shape[1:] for batch in batches] == [(2, 224, 256), (3, 128, 256), (16, 32, 256)]
    assert [batch.indices for batch in batches] == [[1, 4], [3, 2, 5], [0]]  # 200, 33 | 100, 90, 31 | 5


def test_what_room_is_left_shorter_texts_take() -> None:
    texts = [[1] * length for length in (100, 50, 90, 26, 30)]
    batches = list(length_batches(texts, max_length=512, token_budget=128))
    assert [batch.indices for batch in batches] == [[0], [2, 4], [1, 3]]
    batches = list(length_batches(texts, max_length=512, token_budget=256))
    assert [batch.indices for batch in batches] == [[0, 2, 1], [4, 3]]


def test_few_of_the_tokens_that_are_computed_are_padding() -> None:
    lengths = np.random.default_rng(0).normal(115, 35, 2000).clip(20, 400).astype(int)
    batches = list(length_batches([[1] * length for length in lengths], max_length=512, token_budget=1024))
    room = sum(batch.shape.tokens for batch in batches)
    assert lengths.sum() / room > 0.98
    assert sum(batch.tokens.size for batch in batches) / room < 1.35  # of attention


def test_each_device_has_rows_of_its_own() -> None:
    (batch,) = length_batches([[7, 8], [9], [4] * 31], max_length=512, token_budget=70, devices=2)
    assert batch.shape == (2, 2, 32, 35)
    assert batch.indices == [2, 0, 1]
    assert batch.rows == [0, 1, 2]
    np.testing.assert_array_equal(batch.tokens[1:, :3], [[7, 8, 0], [9, 0, 0], [0, 0, 0]])


def test_padding_rows_repeat_the_first_text() -> None:
    padded = pad_batch([[7, 8], [9]], [0, 1], (4, 3))
    np.testing.assert_array_equal(padded, [[7, 8, 0], [9, 0, 0], [7, 8, 0], [7, 8, 0]])


def test_lengths_beyond_the_table_are_powers_of_two_up_to_the_maximum() -> None:
    assert static_length(max(LENGTHS) + 1, max_length=4096) == 1024
    assert static_length(1025, max_length=1500) == 1500
    assert static_length(100, max_length=100) == 100


def test_a_batch_has_at_least_one_row_per_device() -> None:
    assert batch_shape(512, token_budget=10) == (1, 1, 512, 512)
    assert batch_shape(512, token_budget=10, devices=4) == (4, 1, 512, 512)
    assert batch_shape(64, token_budget=1024, devices=4) == (4, 7, 64, 256)
