"""Every reader on files of 10,000 rows of arbitrary text: what was written comes back; damage never goes unsaid."""

import csv
import gzip
import io
import json
import re
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exaranker.errors import InputError
from exaranker.preprocess.pairs.sources import open_source
from exaranker.preprocess.pairs.text import InputConfig

NUM_ROWS = 10_000
NUM_QUERIES = 100  # of the judged collections

# Any text that a tab-separated line can hold; JSON lines hold more, but must give the same.
field = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r"), max_size=12)
json_field = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
grade = st.integers(-3, 9)
few = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def rows_of(texts, grades=grade):
    """Some generated (grade, query, passage) rows, repeated with a number each, up to NUM_ROWS."""
    some = st.lists(st.tuples(grades, texts, texts), min_size=1, max_size=40)
    return some.map(lambda rows: [(*rows[i % len(rows)][:2], f"{rows[i % len(rows)][2]} {i}") for i in range(NUM_ROWS)])


def read(path, form=None, **config):
    return list(open_source(str(path), form, InputConfig(**config)).reader())


def triples_of(pairs):
    return [(pair.label, pair.query, pair.passage) for pair in pairs]


# Quotation marks here are text, and may happen to look like CSV's.
read_plain = partial(read, quotes="none")


def tsv(rows):
    return "".join("\t".join(map(str, row)) + "\n" for row in rows).encode()


def jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


@few
@given(rows_of(field))
def test_tsv_and_jsonl_give_the_same_rows(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rows")
    names = ("label", "query", "passage")
    (folder / "pairs.tsv.gz").write_bytes(gzip.compress(tsv(rows), 1))
    (folder / "pairs.jsonl").write_bytes(jsonl(dict(zip(names, row, strict=True)) for row in rows))
    pairs = read_plain(folder / "pairs.tsv.gz")
    assert triples_of(pairs) == rows
    assert read(folder / "pairs.jsonl") == pairs


@few
@given(rows_of(json_field))
def test_jsonl_holds_any_text(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "pairs.jsonl"
    named = [
        {"query_id": f"q{i}", "doc_id": i, "label": label, "query": query, "passage": passage}
        for i, (label, query, passage) in enumerate(rows)
    ]
    path.write_bytes(jsonl(named))
    pairs = read(path)
    assert triples_of(pairs) == rows
    assert [(pair.query_id, pair.doc_id) for pair in pairs] == [(f"q{i}", str(i)) for i in range(NUM_ROWS)]


@few
@given(rows_of(field, grades=field), st.integers(0, 2**32 - 1))
def test_triples_by_both_rules(tmp_path_factory, rows, seed):
    path = tmp_path_factory.mktemp("rows") / "triples.tsv"
    rows = [(query, f"{positive} {i}", negative) for i, (query, positive, negative) in enumerate(rows)]
    path.write_bytes(tsv(rows))
    full = triples_of(read_plain(path, triples="full"))
    assert full[::2] == [(1, query, positive) for query, positive, _ in rows]
    assert full[1::2] == [(0, query, negative) for query, _, negative in rows]
    sampled = triples_of(read_plain(path, positives=400, seed=seed))
    assert [label for label, _, _ in sampled] == [1, 0] * 400
    assert set(sampled) <= set(full)
    places = [full.index(row) // 2 for row in sampled[1::2]]  # negatives end in their row's number
    assert places == sorted(set(places))


@few
@given(rows_of(field), st.booleans())
def test_judged_collections(tmp_path_factory, rows, as_beir):
    folder = tmp_path_factory.mktemp("collection")
    queries = [(f"q{i}", row[1]) for i, row in enumerate(rows[:NUM_QUERIES])]
    passages = [(f"d{i}", row[2]) for i, row in enumerate(rows)]
    qrels = [(f"q{i % NUM_QUERIES}", f"d{i}", row[0]) for i, row in enumerate(rows)]
    if as_beir:
        (folder / "qrels").mkdir()
        (folder / "qrels" / "train.tsv").write_bytes(tsv([("query-id", "corpus-id", "score"), *qrels]))
        for name, texts in (("queries", queries), ("corpus", passages)):
            (folder / f"{name}.jsonl").write_bytes(jsonl({"_id": key, "text": text} for key, text in texts))
    else:
        (folder / "qrels.txt").write_text("".join(f"{q} 0 {d} {grade}\n" for q, d, grade in qrels))
        for name, texts in (("queries", queries), ("passages", passages)):
            (folder / f"{name}.tsv").write_bytes(tsv(texts))
    pairs = read(folder)
    assert triples_of(pairs) == [(row[0], queries[i % NUM_QUERIES][1], row[2]) for i, row in enumerate(rows)]
    assert [(pair.query_id, pair.doc_id) for pair in pairs] == [(q, d) for q, d, _ in qrels]


@pytest.mark.parametrize("form", ["tsv", "jsonl"])
@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 10**9), byte=st.integers(0, 255))
def test_a_damaged_byte_is_read_as_text_or_reported_at_its_line(tmp_path_factory, form, place, byte):
    rows = [(i % 4, f"question {i}", f"passage {i}") for i in range(200)]
    names = ("label", "query", "passage")
    data = bytearray(tsv(rows) if form == "tsv" else jsonl(dict(zip(names, row, strict=True)) for row in rows))
    place %= len(data)
    data[place] = byte
    path = tmp_path_factory.mktemp("damaged") / f"pairs.{form}"
    path.write_bytes(data)
    line = data[:place].count(b"\n") + 1
    try:
        pairs = triples_of(read(path))
    except InputError as error:
        reported = int(re.search(rf"pairs\.{form}:(\d+): ", str(error)).group(1))
        assert reported in (line, line + 1)  # a changed line end may show on the next line
    else:
        assert len(pairs) >= 199
        assert len(set(pairs) - set(rows)) <= 2


@few
@given(rows_of(json_field), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_what_a_csv_writer_writes_comes_back(tmp_path_factory, rows, quoting):
    rows = [(label, query.replace("\r", ""), passage.replace("\r", "")) for label, query, passage in rows]
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter="\t", quoting=quoting, lineterminator="\n").writerows(rows)
    path = tmp_path_factory.mktemp("rows") / "pairs.tsv"
    path.write_text(stream.getvalue(), encoding="utf-8", newline="")
    assert triples_of(read(path)) == rows
