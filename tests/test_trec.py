"""TREC and MS MARCO files: read strictly, written exactly."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exaranker.errors import InputError
from exaranker.trec import (
    Qrel,
    ScoredDoc,
    by_query,
    ranked,
    read_qrels,
    read_run,
    write_run,
)


def test_a_run_is_written_by_rank_in_the_order_of_its_queries(tmp_path: Path) -> None:
    rows = [
        ScoredDoc("q2", "a", -1.5),
        ScoredDoc("q1", "a", 2.0),
        ScoredDoc("q2", "b", 0.1),
        ScoredDoc("q2", "c", -1.5),
    ]
    write_run(tmp_path / "run.trec", rows, "tag")
    assert (tmp_path / "run.trec").read_text() == (
        "q2 Q0 b 1 0.1 tag\nq2 Q0 c 2 -1.5 tag\nq2 Q0 a 3 -1.5 tag\nq1 Q0 a 1 2.0 tag\n"
    )
    assert not (tmp_path / "run.trec.tmp").exists()


def test_a_run_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    write_run(tmp_path / "run.trec", [ScoredDoc("q", "d", 1.0)], "tag")

    def broken():
        yield ScoredDoc("q", "e", 2.0)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        write_run(tmp_path / "run.trec", broken(), "tag")
    assert list(read_run(tmp_path / "run.trec")) == [ScoredDoc("q", "d", 1.0)]


@given(scores=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_scores_are_read_back_to_the_last_bit(tmp_path_factory: pytest.TempPathFactory, scores: list[float]) -> None:
    path = tmp_path_factory.mktemp("run") / "run.trec"
    rows = [ScoredDoc("q", f"d{number}", score) for number, score in enumerate(scores)]
    write_run(path, rows, "tag")
    assert sorted(read_run(path)) == sorted(rows)


@pytest.mark.parametrize(
    ("scores", "order"),
    [
        ({"a": 1.0, "b": 1.0, "c": 2.0}, "cba"),
        ({"a": 1.0 + 1e-9, "b": 1.0}, "ba"),  # equal in single precision
        ({"a": 1.0 + 1e-6, "b": 1.0}, "ab"),
        ({"a": 16777217.0, "b": 16777216.0}, "ba"),
        ({"a": 0.0, "b": -0.0}, "ba"),
        ({"a": 1e300, "b": 1e301}, "ba"),  # both infinite in single precision
        ({"10": 1.0, "9": 1.0}, ["9", "10"]),  # as text
    ],
)
def test_ties_are_those_of_trec_eval(scores: dict[str, float], order: str | list[str]) -> None:
    docs = [ScoredDoc("q", doc, score) for doc, score in scores.items()]
    assert [doc.doc_id for doc in ranked(docs)] == list(order)
    assert [doc.doc_id for doc in ranked(reversed(docs))] == list(order)


def test_queries_keep_their_first_seen_order() -> None:
    rows = [ScoredDoc("q9", "a", 1.0), ScoredDoc("q1", "b", 2.0), ScoredDoc("q9", "c", 3.0)]
    assert by_query(rows) == {"q9": [rows[0], rows[2]], "q1": [rows[1]]}


def test_a_run_may_be_gzipped_separated_by_tabs_and_out_of_order(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "run.trec.gz", "wb") as stream:
        stream.write(b"q1\tQ0\tb\t7\t1e-3\tt\r\nq1 Q0  a 1 -2 t\n")
    assert list(read_run(tmp_path / "run.trec.gz")) == [ScoredDoc("q1", "b", 0.001), ScoredDoc("q1", "a", -2.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q Q0 d 1 2.0 t\n\n", r"run:2: expected 6 columns \(query Q0 doc rank score tag\), got 0: ''"),
        ("q Q0 d 1 2.0 t\nq Q0 e 1 -inf t\n", "run:2: score '-inf' is not a finite number"),
        ("q Q0 d 1 2,0 t\n", "run:1: score '2,0' is not a number"),
    ],
)
def test_bad_lines_of_a_run(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run").write_text(text)
    with pytest.raises(InputError, match=message):
        list(read_run(tmp_path / "run"))


def test_qrels_of_trec_and_beir(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("q1 0 d1 3\nq1\t0\td2\t0\nq2 Q0 d1 -1\n")
    assert list(read_qrels(tmp_path / "qrels")) == [Qrel("q1", "d1", 3), Qrel("q1", "d2", 0), Qrel("q2", "d1", -1)]
    (tmp_path / "beir").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\n")
    assert list(read_qrels(tmp_path / "beir")) == [Qrel("q1", "d1", 1), Qrel("q1", "d2", 0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q 0 d 1\nq 0 d\n", r"qrels:2: expected 4 columns \(query 0 doc relevance\), got 3: 'q 0 d'"),
        ("query-id\tcorpus-id\tscore\nq 0 d 1\n", r"qrels:2: expected 3 columns \(query-id corpus-id score\), got 4"),
        ("q 0 d 1.5\n", "qrels:1: relevance '1.5' is not an integer"),
        ("query-id\tcorpus-id\tscore\nq\td\t1\nq\td\t1\n", "qrels:3: doc 'd' is judged twice for query 'q'"),
        ("query-id\tcorpus-id\tscore\n", "qrels: no judgement below the header"),
    ],
)
def test_bad_lines_of_qrels(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "qrels").write_text(text)
    with pytest.raises(InputError, match=message):
        list(read_qrels(tmp_path / "qrels"))


@pytest.mark.parametrize(
    "content",
    ["301\tD11\t1\n301\tD10\t2\n", "301\tD11\twhy do cats\tCats purr.\n301\tD10\twhy do cats\tBricks.\n"],
    ids=["query doc rank", "top1000"],
)
def test_ms_marcos_runs_are_read_best_first(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.tsv").write_text(content)
    assert list(read_run(tmp_path / "run.tsv")) == [ScoredDoc("301", "D11", -1.0), ScoredDoc("301", "D10", -2.0)]


@pytest.mark.parametrize("score", ["٢", "1_0.5", "２", "0x10", "1e999"])
def test_scores_are_ascii_numbers(tmp_path: Path, score: str) -> None:
    (tmp_path / "run").write_text(f"q Q0 d 1 {score} t\n")
    with pytest.raises(InputError, match=f"run:1: score '{score}' is not a number"):
        list(read_run(tmp_path / "run"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q 0 d 1_0\n", "qrels:1: relevance '1_0' is not an integer"),
        ("q 0 d ١\n", "qrels:1: relevance '١' is not an integer"),
        ("q 0 d 3000000000\n", "qrels:1: relevance 3000000000 is no grade, expected -1000 to 1000"),
        ("q 0 d 1\r\nq 0 e 0\r\n\r\n", r"qrels:3: expected 4 columns .*, got 0: '' \(remove this blank line\)"),
    ],
)
def test_grades_are_small_ascii_integers(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "qrels").write_bytes(text.encode())
    with pytest.raises(InputError, match=message):
        list(read_qrels(tmp_path / "qrels"))


def test_a_run_is_gzipped_by_its_name(tmp_path: Path) -> None:
    rows = [ScoredDoc("q", "d", 1.5)]
    write_run(tmp_path / "run.trec.gz", rows, tag="t")
    assert gzip.decompress((tmp_path / "run.trec.gz").read_bytes()) == b"q Q0 d 1 1.5 t\n"
    assert list(read_run(tmp_path / "run.trec.gz")) == rows
