import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exaranker.errors import InputError
from exaranker.preprocess.readers import InputConfig, read_jsonl, read_triples, read_tsv, text_id
from exaranker.preprocess.sources import open_source
from exaranker.schema import Pair

READERS = {"jsonl": read_jsonl, "tsv": read_tsv}


def written(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_jsonl_rows(tmp_path):
    row = {"query_id": "q1", "doc_id": "d1", "query": "why", "passage": "because", "label": 3, "more": "ignored"}
    bare = {"query": "why", "passage": "because", "label": 0}
    path = written(tmp_path, "pairs.jsonl", f"{json.dumps(row)}\n{json.dumps(bare)}\n")
    ids = (text_id("why"), text_id("because"))
    assert list(read_jsonl(path)) == [
        Pair("q1", "d1", "why", "because", 3),
        Pair(*ids, "why", "because", 0),
    ]


def test_tsv_rows_have_ids_that_follow_the_texts(tmp_path):
    path = written(tmp_path, "pairs.tsv", "1\twhy\tbecause\n0\twhy\tno reason\n")
    first, second = read_tsv(path)
    assert (first.query, first.passage, first.label) == ("why", "because", 1)
    assert first.query_id == second.query_id == "2be23c585f15"
    assert first.doc_id != second.doc_id


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.tsv"])
def test_missing_file(tmp_path, name):
    with pytest.raises(InputError, match=rf"{name}: no such file"):
        open_source(str(tmp_path / name), None, InputConfig())


@pytest.mark.parametrize("form", READERS)
def test_empty_file(tmp_path, form):
    with pytest.raises(InputError, match="the file is empty"):
        list(READERS[form](written(tmp_path, "empty", "")))


def test_wrong_column_count(tmp_path):
    path = written(tmp_path, "pairs.tsv", "1\tq\tp\n1\tq and p\n")
    expected = r"pairs.tsv:2: expected 3 tab-separated columns \(label, query, passage\), got 2: '1\\tq and p'"
    with pytest.raises(InputError, match=expected):
        list(read_tsv(path))


def test_label_that_is_no_integer(tmp_path):
    with pytest.raises(InputError, match=r"pairs.tsv:2: label 'yes' is not an integer \(the label is the grade"):
        list(read_tsv(written(tmp_path, "pairs.tsv", "1\tq\tp\nyes\tq\tp\n")))
    with pytest.raises(InputError, match=r"pairs.jsonl:1: label 1.5 is not an integer"):
        list(read_jsonl(written(tmp_path, "pairs.jsonl", '{"query": "q", "passage": "p", "label": 1.5}\n')))


@pytest.mark.parametrize("form", READERS)
def test_invalid_utf8(tmp_path, form):
    good = b"1\tq\tp\n" if form == "tsv" else b'{"query": "q", "passage": "p", "label": 1}\n'
    with pytest.raises(InputError, match=r"pairs:2: invalid UTF-8 at byte 2 of the line: 0xe9 \(convert the file"):
        list(READERS[form](written(tmp_path, "pairs", good + b"1\t\xe9\tp\n")))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "pairs.jsonl:1: not a JSON object: 'not json'"),
        ("[1]", r"pairs.jsonl:1: expected a JSON object, got '\[1\]'"),
        ('{"query": "q", "label": 1}', "pairs.jsonl:1: 'passage' is missing"),
        ('{"query": 3, "passage": "p", "label": 1}', "'query' is 3, expected a string"),
        ('{"query": "q", "passage": "p", "label": true}', "label True is not an integer"),
    ],
)
def test_bad_json_rows(tmp_path, line, message):
    with pytest.raises(InputError, match=message):
        list(read_jsonl(written(tmp_path, "pairs.jsonl", line + "\n")))


def triples_file(tmp_path, count, name="triples.tsv"):
    data = "".join(f"q{i}\tpositive {i}\tnegative {i}\n" for i in range(count)).encode()
    return written(tmp_path, name, gzip.compress(data) if name.endswith(".gz") else data)


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


def test_unknown_format_and_rule(tmp_path):
    with pytest.raises(InputError, match=r"pairs.txt: the name does not tell the format \(--format jsonl"):
        open_source(str(written(tmp_path, "pairs.txt", "1\tq\tp\n")), None, InputConfig())
    with pytest.raises(InputError, match=r"pairs.triples is 'ful' \(did you mean full\?\)"):
        InputConfig(triples="ful")


# Any text that a tab-separated line can hold.
field = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r"), max_size=12)
row = st.tuples(st.integers(-3, 9), field, field)


def spread(rows, count):
    """Some generated rows, repeated with a number each, up to `count`."""
    return [
        (label, f"{query} {i}", passage) for i, (label, query, passage) in zip(range(count), rows * count, strict=False)
    ]


@settings(max_examples=5, deadline=None)
@given(st.lists(row, min_size=1, max_size=40))
def test_10_000_rows_come_back_from_either_format(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rows")
    wanted = spread(rows, 10_000)
    tsv = written(folder, "pairs.tsv", "".join(f"{label}\t{query}\t{passage}\n" for label, query, passage in wanted))
    names = ("label", "query", "passage")
    jsonl = written(folder, "pairs.jsonl", "".join(json.dumps(dict(zip(names, w, strict=True))) + "\n" for w in wanted))
    from_tsv, from_jsonl = list(read_tsv(tsv)), list(read_jsonl(jsonl))
    assert [(pair.label, pair.query, pair.passage) for pair in from_tsv] == wanted
    assert from_jsonl == from_tsv
