"""Batches across requests: none waits for a long one, each batch has one length, and what is dropped is gone."""

from exaranker.serve.fair_queue import FairQueue


def drain(queue: FairQueue[str]) -> list[list[tuple[str, int]]]:
    batches = []
    while (batch := queue.take()) is not None:
        batches.append(batch.members)
    return batches


def test_every_input_is_handed_out_once_in_batches_of_one_static_length() -> None:
    queue: FairQueue[str] = FairQueue(max_length=512, token_budget=128, multiple_of=1)
    lengths = [5, 500, 33, 32, 64, 7, 90, 12]
    queue.add("a", [[1] * length for length in lengths])
    batches = []
    while (batch := queue.take()) is not None:
        rows, length = batch.padded.tokens.shape
        assert rows in (1, max(1, 128 // length))
        assert batch.num_tokens == sum(lengths[index] for _, index in batch.members)
        batches += batch.members
    assert sorted(batches) == [("a", index) for index in range(8)]
    assert queue.tokens == 0


def test_a_small_request_does_not_wait_for_a_large_one() -> None:
    queue: FairQueue[str] = FairQueue(max_length=512, token_budget=64, multiple_of=1)
    queue.add("large", [[1] * 30] * 1000)
    first = queue.take()
    assert first is not None
    queue.add("small", [[1] * 30] * 2)
    second, third = queue.take(), queue.take()
    assert second is not None
    assert third is not None
    assert {("small", 0), ("small", 1)} <= {*second.members, *third.members}


def test_rows_that_are_left_take_shorter_inputs() -> None:
    queue: FairQueue[str] = FairQueue(max_length=512, token_budget=256, multiple_of=1)
    queue.add("a", [[1] * 60, [1] * 20, [1] * 3])
    assert drain(queue) == [[("a", 0), ("a", 1), ("a", 2)]]


def test_few_inputs_are_no_full_batch() -> None:
    """Of 512 tokens, 16 rows of 32: one or two inputs are scored in two rows, a multiple of the devices."""
    for devices, waiting, rows in ((1, 1, 2), (1, 2, 2), (1, 3, 16), (1, 40, 16), (4, 1, 4), (4, 5, 16)):
        queue: FairQueue[str] = FairQueue(max_length=512, token_budget=512, multiple_of=devices)
        queue.add("a", [[1] * 20] * waiting)
        batch = queue.take()
        assert batch is not None
        assert batch.padded.tokens.shape == (rows, 32), (devices, waiting)


def test_what_is_dropped_no_longer_waits() -> None:
    queue: FairQueue[str] = FairQueue(max_length=512, token_budget=64, multiple_of=1)
    queue.add("gone", [[1] * 20] * 5)
    queue.add("here", [[1] * 40] * 2)
    queue.drop("gone")
    assert queue.tokens == 80
    assert drain(queue) == [[("here", 0)], [("here", 1)]]
