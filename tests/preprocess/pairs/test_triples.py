import gzip

import pytest

from exaranker.errors import InputError
from exaranker.preprocess.pairs.selection import select
from exaranker.preprocess.pairs.sources import open_source
from exaranker.preprocess.pairs.text import InputConfig
from exaranker.preprocess.pairs.triples import read_triples


def triples_file(tmp_path, count, name="triples.tsv"):
    data = "".join(f"q{i}\tpositive {i}\tnegative {i}\n" for i in range(count)).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["triples.tsv", "triples.train.small.tsv.gz"])
def test_sampled_triples_alternate_over_different_lines(tmp_path, name):
    config = InputConfig(positives=20, seed=2)
    rows = list(open_source(str(triples_file(tmp_path, 500, name)), None, config).reader())
    assert [row.label for row in rows] == [1, 0] * 20
    assert all(row.passage.split()[0] == ("positive" if row.label else "negative") for row in rows)
    lines = [int(row.query[1:]) for row in rows]
    gaps = [after - before for before, after in zip([-1, *lines], lines, strict=False)]
    assert set(gaps) <= set(range(1, 12))  # 0 to 10 lines are skipped before each
    assert rows == list(read_triples(triples_file(tmp_path, 500), config))
    assert rows != list(read_triples(triples_file(tmp_path, 500), InputConfig(positives=20, seed=3)))


def test_too_few_triples(tmp_path):
    with pytest.raises(InputError, match=r"triples.tsv: ends after 3 positives, pairs.positives asks for 20"):
        list(read_triples(triples_file(tmp_path, 15), InputConfig(positives=20)))


def test_full_triples(tmp_path):
    rows = list(read_triples(triples_file(tmp_path, 2), InputConfig(triples="full", positive_grade=2)))
    assert [(row.query, row.passage, row.label) for row in rows] == [
        ("q0", "positive 0", 2),
        ("q0", "negative 0", 0),
        ("q1", "positive 1", 2),
        ("q1", "negative 1", 0),
    ]


def test_the_reference_rule_by_hand(tmp_path):
    """Python's generator with seed 2 draws 0, 1, 1, 5 of 0..10, so lines 0, 2, 4 and 10 are taken."""
    rows = list(read_triples(triples_file(tmp_path, 20), InputConfig(positives=2, seed=2)))
    assert [(row.query, row.passage, row.label) for row in rows] == [
        ("q0", "positive 0", 1),
        ("q2", "negative 2", 0),
        ("q4", "positive 4", 1),
        ("q10", "negative 10", 0),
    ]


def test_a_positive_that_comes_again_does_not_count(tmp_path):
    """Of three queries in turn, seed 2 takes lines 0, 2, 4, 10, 13, 24, 29 and 34: line 13 has line 4's positive."""
    path = tmp_path / "triples.tsv"
    path.write_text("".join(f"q{i % 3}\tpositive {i % 3}\tnegative {i}\n" for i in range(100)))
    reader = open_source(str(path), None, InputConfig(positives=3, seed=2)).reader
    assert [(row.query, row.passage) for row in reader()] == [
        ("q0", "positive 0"),
        ("q2", "negative 2"),
        ("q1", "positive 1"),
        ("q1", "negative 10"),
        ("q1", "positive 1"),
        ("q0", "negative 24"),
        ("q2", "positive 2"),
        ("q1", "negative 34"),
    ]
    counts = select(reader, 1).counts
    assert (counts["read"], counts["duplicate"], counts["by_label"]) == (8, 1, {"1": 3, "0": 4})


def test_bad_triples(tmp_path):
    path = tmp_path / "triples.tsv"
    path.write_text("q\tp\tn\nq\tp\n")
    expected = r"triples.tsv:2: expected 3 tab-separated columns \(query, positive, negative\), got 2: 'q\\tp'"
    with pytest.raises(InputError, match=expected):
        list(read_triples(path, InputConfig(triples="full")))
