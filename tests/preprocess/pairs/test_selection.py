from collections import Counter

import pytest

from exaranker.errors import InputError
from exaranker.preprocess.pairs.selection import chunks, select, unique
from exaranker.preprocess.pairs.text import with_text_ids
from exaranker.schema import Pair


def rows(labels):
    return [with_text_ids(f"q{i}", f"p{i}", label) for i, label in enumerate(labels)]


def chosen(labels, **options):
    selection = select(lambda: iter(rows(labels)), 1, **options)
    got = [int(pair.query[1:]) for pair in selection.pairs()]
    assert len(got) == selection.num_pairs
    return got


def test_limit_takes_the_first():
    assert chosen([0, 0, 1, 0, 1], limit=3) == [0, 1, 2]
    assert chosen([0, 1], limit=9) == [0, 1]


def test_balance_takes_as_many_of_each_side_spread_evenly_in_input_order():
    assert chosen([0, 0, 1, 0, 1, 2, 0], balance=True) == [1, 2, 3, 4, 5, 6]
    assert chosen([0, 0, 1, 0, 1, 2, 0], balance=True, limit=4) == [1, 4, 5, 6]
    assert chosen([1, 1] + [0] * 10, balance=True) == [0, 1, 6, 11]


def test_duplicates_are_dropped_and_counted():
    pairs = [
        Pair("q", "d1", "why", "because", 1),
        Pair("q", "d2", "why", "because", 1),
        Pair("q", "d3", "why", "because", 0),
        Pair("q", "d1", "why", "another text", 0),
        Pair("q", "d4", "why", " ", 0),
    ]
    counts = Counter()
    assert [pair.passage for pair in unique(pairs, counts)] == ["because", "another text"]
    assert counts == {"duplicate": 2, "conflicting_label": 1, "repeated_ids": 1, "blank": 1}
    selection = select(lambda: iter(pairs), 1)
    assert selection.counts["read"] == 5
    assert selection.counts["by_label"] == {"1": 1, "0": 1}


def test_the_digest_follows_content_and_order():
    first = select(lambda: iter(rows([0, 1, 0])), 1).digest
    assert first == select(lambda: iter(rows([0, 1, 0])), 1).digest
    assert first != select(lambda: iter(rows([0, 1, 1])), 1).digest
    assert first != select(lambda: iter(rows([0, 1, 0])[::-1]), 1).digest


def test_nothing_left():
    with pytest.raises(InputError, match="no pairs to explain are left after duplicates and blanks are dropped"):
        select(lambda: iter([Pair("q", "d", " ", "p", 1)]), 1)
    with pytest.raises(
        InputError, match=r"--balance finds pairs on one side of grade 1 only \(label 1: 2, label 3: 1\)"
    ):
        select(lambda: iter(rows([1, 3, 1])), 1, balance=True)
    with pytest.raises(InputError, match="--limit is 0, expected at least 1"):
        select(lambda: iter(rows([1])), 1, limit=0)


@pytest.mark.parametrize("later", [[0, 1, 1], [0, 1], [0, 1, 0, 1]])
def test_an_input_that_changes_never_gets_whole(later):
    """Another label, a row less; a row more at the end is none of those that were counted."""
    readings = iter([[0, 1, 0], [0, 1, 0], later])
    selection = select(lambda: iter(rows(next(readings))), 1)
    read = selection.pairs()
    assert [next(read).label, next(read).label] == [0, 1]
    if later[:3] == [0, 1, 0]:
        assert [pair.label for pair in read] == [0]
        return
    with pytest.raises(InputError, match=r"the input changed while it was read \(explain it into another --output_dir"):
        next(read)


def test_batches_hold_the_stream_in_order():
    assert list(chunks(iter(range(5)), 2)) == [[0, 1], [2, 3], [4]]
