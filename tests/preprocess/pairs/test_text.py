import gzip
import json
import tracemalloc
from collections import deque

import pytest

from exaranker.errors import InputError
from exaranker.preprocess.pairs.json_rows import read_jsonl
from exaranker.preprocess.pairs.sources import open_source
from exaranker.preprocess.pairs.text import InputConfig, read_tsv, text_id
from exaranker.schema import Pair

READERS = {"jsonl": read_jsonl, "tsv": read_tsv}


def written(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_jsonl_rows(tmp_path):
    row = {"query_id": "q1", "doc_id": "d1", "query": "why", "passage": "because", "label": 3, "more": "ignored"}
    bare = {"query": "why", "passage": "because", "label": 0}
    numbered = {"query_id": 0, "doc_id": 7, **bare}
    path = written(tmp_path, "pairs.jsonl", "".join(json.dumps(value) + "\n" for value in (row, bare, numbered)))
    ids = (text_id("why"), text_id("because"))
    assert list(read_jsonl(path)) == [
        Pair("q1", "d1", "why", "because", 3),
        Pair(*ids, "why", "because", 0),
        Pair("0", "7", "why", "because", 0),
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
    for label in ("1_0", "1.5", "", " 1", "٣", "99999999999", "nan", "1e999"):
        with pytest.raises(InputError, match=r"pairs.tsv:1: label '.*' is not an integer"):
            list(read_tsv(written(tmp_path, "pairs.tsv", f"{label}\tq\tp\n")))
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
        ('{"query": "a", "query": "b"}', "pairs.jsonl:1: the field 'query' comes twice in one object"),
        ("1", r"pairs.jsonl:1: expected a JSON object, got '1'"),
        ("[1]", r"pairs.jsonl\[0\]: expected a JSON object, got 1"),
        ('[{"query": "q", "passage": "p", "label": 1}, {"query": "q"}]', r"pairs.jsonl\[1\]: label None is not an int"),
        ("", r"pairs.jsonl:1: not a JSON object: '' \(remove this blank line\)"),
        ('{"query": "q", "label": 1}', "pairs.jsonl:1: 'passage' is missing"),
        ('{"query": 3, "passage": "p", "label": 1}', "'query' is 3, expected a string"),
        ('{"query": "q", "passage": "p", "label": "1"}', "label '1' is not an integer"),
        ('{"query": "q", "passage": "p", "label": NaN}', "label nan is not an integer"),
        ('{"query": "q", "passage": "p", "label": 1e400}', "label inf is not an integer"),
        (
            '{"query_id": 1.0, "query": "q", "passage": "p", "label": 1}',
            r"'query_id' is 1.0, a number with a point \(an",
        ),
        ('{"query_id": true, "query": "q", "passage": "p", "label": 1}', "'query_id' is True, expected a string"),
        ('{"query_id": 1, "doc_id": 2, "label": 1}', r"'query' is missing \(rows of ids find their texts with --texts"),
        ('{"query": "q", "passage": "p", "rank": 1}', r"'label' is missing \(say which ranks count: --relevant_ranks"),
        ('{"query": "q", "pos": [1]}', "'pos' is 1, expected a string"),
        ('{"query": "q", "positive_passages": [{"docid": "1"}]}', "'text' is missing"),
        ('{"query": "q", "passage": "p", "label": 3000000000}', "label 3000000000 is not an integer"),
        ("[" * 100_000, r"pairs.jsonl:1: not a JSON object: '\[\[\["),
        (r'{"query": "\ud83d", "passage": "p", "label": 1}', "'query' has half of a surrogate pair"),
        ('{"query_id": [1], "query": "q", "passage": "p", "label": 1}', r"'query_id' is \[1\], expected a string"),
    ],
)
def test_bad_json_rows(tmp_path, line, message):
    with pytest.raises(InputError, match=message):
        list(read_jsonl(written(tmp_path, "pairs.jsonl", line + "\n")))


def test_unknown_format_and_rule(tmp_path):
    with pytest.raises(InputError, match=r"pairs.txt: the name does not tell the format \(--format jsonl"):
        open_source(str(written(tmp_path, "pairs.txt", "1\tq\tp\n")), None, InputConfig())
    with pytest.raises(
        InputError, match=r"pairs.triples is 'ful', expected one of sampled, full \(did you mean full\?\)"
    ):
        InputConfig(triples="ful")


@pytest.mark.parametrize("data", [b"1\tq\tp\n", b"1\tq\tp\r\n", b"1\tq\tp"])
def test_line_ends(tmp_path, data):
    assert [tuple(pair)[2:] for pair in read_tsv(written(tmp_path, "pairs.tsv", data))] == [("q", "p", 1)]


def test_truncated_and_damaged_gzip(tmp_path):
    lines = "".join(f"1\tquestion {i}\tpassage {i * i}\n" for i in range(5000)).encode()
    whole = gzip.compress(lines)
    path = written(tmp_path, "pairs.tsv.gz", whole[: len(whole) // 2])
    seen = []
    with pytest.raises(InputError, match=r"pairs.tsv.gz:(\d+): the gzip file is truncated or damaged after") as caught:
        seen.extend(read_tsv(path))
    assert f"pairs.tsv.gz:{len(seen)}:" in str(caught.value)
    assert len(seen) > 1000
    damaged = bytearray(whole)
    damaged[-8] ^= 0xFF  # of the checksum
    for broken in (bytes(damaged), b"1\tq\tp\n"):
        with pytest.raises(InputError, match="truncated or damaged"):
            list(read_tsv(written(tmp_path, "pairs.tsv.gz", broken)))


@pytest.mark.parametrize("form", READERS)
def test_memory_does_not_grow_with_the_file(tmp_path, form):
    rows = {"tsv": "1\twhy {}\tbecause {}\n", "jsonl": '{{"query": "why {}", "passage": "because {}", "label": 1}}\n'}
    peaks = []
    for count in (1_000, 30_000):
        path = written(tmp_path, f"pairs.{form}", "".join(rows[form].format(i, i) for i in range(count)))
        tracemalloc.start()
        deque(READERS[form](path), maxlen=0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 50_000  # bytes; the larger file has 0.6 MB or more


def test_format_and_kind_of_source_must_agree(tmp_path):
    path = str(written(tmp_path, "pairs.tsv", "1\tq\tp\n"))
    with pytest.raises(InputError, match=r"--format beir does not go with a file \(one of jsonl, tsv, triples\)"):
        open_source(path, "beir", InputConfig())
    with pytest.raises(InputError, match=r"--format tsv does not go with a folder \(one of beir, trec\)"):
        open_source(str(tmp_path), "tsv", InputConfig())


def labelled(path, form=None, **config):
    return [tuple(pair)[2:] for pair in open_source(str(path), form, InputConfig(**config)).reader()]


def test_labels_that_are_whole_numbers_otherwise_spelt(tmp_path):
    rows = [{"query": "q", "passage": f"p{i}", "label": label} for i, label in enumerate((1.0, True, False, -2.0))]
    path = written(tmp_path, "pairs.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert [label for _, _, label in labelled(path)] == [1, 1, 0, -2]
    assert [label for _, _, label in labelled(written(tmp_path, "pairs.tsv", "1.0\tq\tp\n-1\tq\tp2\n"))] == [1, -1]


def test_ids_that_are_null_are_left_out(tmp_path):
    row = {"query_id": None, "doc_id": 7, "query": "why", "passage": "because", "label": 1}
    [pair] = read_jsonl(written(tmp_path, "pairs.jsonl", json.dumps(row)))
    assert (pair.query_id, pair.doc_id) == (text_id("why"), "7")


def test_a_query_with_its_passages(tmp_path):
    """As Tevatron and sentence-transformers write them."""
    passages = [{"docid": "3", "title": "Tibia", "text": "A bone."}, {"docid": "4", "title": "", "text": "Iron."}]
    rows = [
        {"query_id": "1", "query": "q", "positive_passages": passages[:1], "negative_passages": passages[1:]},
        {"query": "r", "pos": ["p1", "p2"], "neg": ["n1"]},
        {"anchor": "s", "positive": "p3", "negative": "n2"},
    ]
    path = written(tmp_path, "pairs.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    pairs = list(open_source(str(path), None, InputConfig(positive_grade=2)).reader())
    assert pairs[:2] == [Pair("1", "3", "q", "Tibia A bone.", 2), Pair("1", "4", "q", "Iron.", 0)]
    assert [tuple(pair)[2:] for pair in pairs[2:]] == [
        ("r", "p1", 2),
        ("r", "p2", 2),
        ("r", "n1", 0),
        ("s", "p3", 2),
        ("s", "n2", 0),
    ]


def test_one_json_array(tmp_path):
    rows = [{"query": "q", "passage": f"p {i}", "label": i} for i in range(3)]
    for text in (json.dumps(rows), json.dumps(rows, indent=2)):
        assert labelled(written(tmp_path, "pairs.json", text)) == [("q", f"p {i}", i) for i in range(3)]


def test_ranks_in_the_place_of_labels(tmp_path):
    rows = [{"query": "q", "passage": f"p {i}", "rank": i, "label": 9} for i in range(1, 6)]
    path = written(tmp_path, "pairs.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    source = open_source(str(path), None, InputConfig(relevant_ranks=(1,), irrelevant_ranks=(4, 5)))
    for _ in range(2):  # a second reading does not count twice
        assert [tuple(pair)[3:] for pair in source.reader()] == [("p 1", 1), ("p 4", 0), ("p 5", 0)]
        assert source.left_out == {"other_rank": 2}
    with pytest.raises(InputError, match=r"ranks \[1\] are in pairs.relevant_ranks and in pairs.irrelevant_ranks"):
        InputConfig(relevant_ranks=(1,), irrelevant_ranks=(1, 2))
    with pytest.raises(InputError, match=r"relevant_ranks and pairs.irrelevant_ranks go together"):
        InputConfig(relevant_ranks=(1,))
    with pytest.raises(InputError, match=r"pairs.tsv: rows of this form have no ranks"):
        labelled(written(tmp_path, "pairs.tsv", "1\tq\tp\n"), relevant_ranks=(1,), irrelevant_ranks=(2,))


def test_rows_of_ids_are_joined(tmp_path):
    folder = tmp_path / "collection"
    folder.mkdir()
    (folder / "queries.tsv").write_text("q1\thow tall\n")
    (folder / "passages.tsv").write_text("d1\t330 m\nd2\told\n")
    row = {"query_id": "q1", "doc_id": "d2", "label": 0}
    path = written(tmp_path, "ids.jsonl", json.dumps(row))
    [pair] = open_source(str(path), None, InputConfig(), str(folder)).reader()
    assert pair == Pair("q1", "d2", "how tall", "old", 0)
    path = written(tmp_path, "ids.jsonl", json.dumps({**row, "doc_id": "d3"}))
    with pytest.raises(InputError, match=r"collection: has no passage 'd3', which a row names"):
        list(open_source(str(path), None, InputConfig(), str(folder)).reader())
    with pytest.raises(InputError, match=r"--texts goes with JSON Lines of ids only"):
        open_source(str(written(tmp_path, "pairs.tsv", "1\tq\tp\n")), None, InputConfig(), str(folder))
