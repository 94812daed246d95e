import gzip
import json
import tracemalloc

import pytest

from exaranker.errors import InputError
from exaranker.preprocess.pairs.judged import beir_files, trec_files
from exaranker.preprocess.pairs.sources import open_source
from exaranker.preprocess.pairs.text import InputConfig
from exaranker.schema import Pair

QUERIES = {"q1": "how tall is it", "q2": "who built it"}
PASSAGES = {"d1": "It is 330 m tall.", "d2": "Eiffel built it.", "d3": "Nobody judged this.", "d4": "It is old."}
QRELS = [("q1", "d1", 3), ("q2", "d2", 2), ("q1", "d4", 0), ("q2", "d4", 1)]
PAIRS = [Pair(q, d, QUERIES[q], PASSAGES[d], grade) for q, d, grade in QRELS]


@pytest.fixture
def trec(tmp_path):
    (tmp_path / "queries.tsv").write_text("".join(f"{key}\t{text}\n" for key, text in QUERIES.items()))
    (tmp_path / "passages.tsv").write_text("".join(f"{key}\t{text}\n" for key, text in PASSAGES.items()))
    (tmp_path / "qrels.txt").write_text("".join(f"{q} 0 {d} {grade}\n" for q, d, grade in QRELS))
    return tmp_path


@pytest.fixture
def beir(tmp_path):
    (tmp_path / "qrels").mkdir()
    rows = "".join(f"{q}\t{d}\t{grade}\n" for q, d, grade in QRELS)
    (tmp_path / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}")
    corpus = [{"_id": key, "title": "", "text": text} for key, text in PASSAGES.items()]
    corpus[0] = {"_id": "d1", "title": "It is", "text": "330 m tall."}
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
    queries = ({"_id": key, "text": text, "metadata": {}} for key, text in QUERIES.items())
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    return tmp_path


def opened(folder, form=None, split="test"):
    return list(open_source(str(folder), form, InputConfig(split=split)).reader())


def test_trec_folder(trec):
    assert opened(trec) == opened(trec, "trec") == PAIRS


def test_beir_folder(beir):
    assert opened(beir) == opened(beir, "beir") == PAIRS


def test_gzipped_files(beir):
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        (beir / f"{name}.gz").write_bytes(gzip.compress((beir / name).read_bytes()))
        (beir / name).unlink()
    assert opened(beir) == PAIRS


def test_reading_again_gives_the_same(trec):
    source = open_source(str(trec), None, InputConfig())
    assert list(source.reader()) == list(source.reader()) == PAIRS
    assert source.name == trec.name


def test_missing_split_names_those_there_are(beir):
    expected = r"qrels: no train.tsv; there are: test \(choose one with --gin.pairs.split=\"'test'\"\)"
    with pytest.raises(InputError, match=expected):
        beir_files(beir, "train")


def test_missing_file_says_what_is_there(trec):
    (trec / "passages.tsv").unlink()
    expected = r"no passages.tsv in this folder, only qrels.txt, queries.tsv \(a TREC folder has queries.tsv, passages"
    with pytest.raises(InputError, match=expected):
        trec_files(trec)
    with pytest.raises(InputError, match=r"no queries\.jsonl in this folder"):
        opened(trec, "beir")


def test_missing_passage(trec):
    (trec / "passages.tsv").write_text("d1\tIt is 330 m tall.\n")
    expected = r"passages.tsv: 2 of 3 passage ids judged in qrels.txt are not here: 'd2', 'd4' \(complete it, or take"
    with pytest.raises(InputError, match=expected):
        opened(trec)


def test_missing_query(beir):
    (beir / "queries.jsonl").write_text('{"_id": "q1", "text": "how tall is it"}\n')
    with pytest.raises(InputError, match=r"queries.jsonl: 1 of 2 query ids judged in test.tsv are not here: 'q2'"):
        opened(beir)


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("qrels.txt", "q1 0 d1", r"qrels.txt:5: expected 4 columns \(query 0 doc relevance\), got 3: 'q1 0 d1'"),
        ("qrels.txt", "q1 0 d2 high", r"qrels.txt:5: relevance 'high' is not an integer"),
        ("qrels.txt", "q1 0 d1 0", r"qrels.txt:5: doc 'd1' is judged twice for query 'q1'"),
        ("passages.tsv", "d9 no tab", r"passages.tsv:5: expected an id and a text as 2 tab-separated columns, got 1"),
        ("passages.tsv", "d1\tagain", r"passages.tsv:5: id 'd1' comes a second time"),
    ],
)
def test_bad_lines(trec, name, line, message):
    with (trec / name).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(InputError, match=message):
        opened(trec)


def test_half_a_surrogate_pair(beir):
    with (beir / "corpus.jsonl").open("a") as stream:
        stream.write('{"_id": "d5", "text": "a \\ud83d"}\n')
    with (beir / "qrels" / "test.tsv").open("a") as stream:
        stream.write("q1\td5\t1\n")
    with pytest.raises(InputError, match=r"corpus.jsonl:5: the text has half of a surrogate pair"):
        opened(beir)


def test_only_judged_passages_are_held(trec):
    with (trec / "passages.tsv").open("a") as stream:
        stream.writelines(f"x{i}\t{'unjudged ' * 20}{i}\n" for i in range(20_000))
    tracemalloc.start()
    assert opened(trec) == PAIRS
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300_000  # bytes; the corpus has 3.8 MB
