"""Batches across requests: none waits for a long one, each batch has one length, and what is dropped is gone."""

import numpy as np

from exaranker.rank.length_buckets import batch_shape
from exaranker.serve.fair_queue import FairQueue


def drain(queue: FairQueue[str]) -> list[list[tuple[str, int]]]:
    batches = []
    while (batch := queue.take()) is not None:
        batches.append(batch.members)
    return batches


def test_every_input_is_handed_out_once_in_batches_of_one_static_length() -> None:
    queue: FairQueue[str] = FairQueue(max_length=512, token_budget=128, devices=1)
    lengths = [5, 500, 33, 32, 64, 7, 90, 12]
    queue.add("a", [[1] * length for length in lengths])
    batches = []
    while (batch := queue.take()) is not None:
        rows, length = batch.texts.tokens.shape
        assert rows in (1, batch_shape(length, token_budget=128).rows)
        assert batch.num_tokens == sum(lengths[index] for _, index in batch.members)
        assert batch.num_tokens <= batch.texts.shape.tokens
        for (_, index), row in zip(batch.members, batch.texts.rows, strict=True):
            assert np.count_nonzero(batch.texts.tokens[row]) == lengths[index]
        batches += batch.members
    assert sorted(batches) == [("a", index) for index in range(8)]
    assert queue.tokens == 0


def test_a_small_request_does_not_wait_for_a_large_one() -> None:
    queue: FairQueue[str] = FairQueue(max_length=512, token_budget=64, devices=1)
    queue.add("large", [[1] * 30] * 1000)
    first = queue.take()
    assert first is not None
    queue.add("small", [[1] * 30] * 2)
    second, third = queue.take(), queue.take()
    assert second is not None
    assert third is not None
    assert {("small", 0), ("small", 1)} <= {*second.members, *third.members}


def test_room_that_is_left_takes_shorter_inputs() -> None:
    queue: FairQueue[str] = FairQueue(max_length=512, token_budget=256, devices=1)
    queue.add("a", [[1] * 60, [1] * 20, [1] * 3])
    assert drain(queue) == [[("a", 0), ("a", 1), ("a", 2)]]
    queue.add("a", [[1] * 200, [1] * 90, [1] * 220, [1] * 30])
    assert drain(queue) == [[("a", 0), ("a", 3)], [("a", 1)], [("a", 2)]]


def test_few_inputs_are_no_full_batch() -> None:
    """Of 512 tokens, 32 rows of up to 32: as many as an eighth of them are scored in that many rows of each device."""
    for devices, waiting, rows in ((1, 1, 4), (1, 4, 4), (1, 5, 32), (1, 40, 32), (4, 1, 4), (4, 5, 32)):
        queue: FairQueue[str] = FairQueue(max_length=512, token_budget=512, devices=devices)
        queue.add("a", [[1] * 20] * waiting)
        batch = queue.take()
        assert batch is not None
        assert batch.texts.tokens.shape == (rows, 32), (devices, waiting)


def test_what_is_dropped_no_longer_waits() -> None:
    queue: FairQueue[str] = FairQueue(max_length=512, token_budget=64, devices=1)
    queue.add("gone", [[1] * 20] * 5)
    queue.add("here", [[1] * 40] * 2)
    queue.drop("gone")
    assert queue.tokens == 80
    assert drain(queue) == [[("here", 0)], [("here", 1)]]
