"""The embedded collection keeps its promises: sizes, lengths, grades, near misses, and hard enough for BM25."""

from collections import Counter

import pytest

from exaranker.evaluate.measure_names import parse_measures
from exaranker.evaluate.measures import evaluate_run, load_qrels
from exaranker.files.shipped import shipped
from exaranker.preprocess.pairs.text import read_tsv
from exaranker.rank.bm25 import Bm25Index, Bm25Params, analyze, retrieve
from exaranker.texts.rows import read_texts
from exaranker.trec import Qrel, write_run

SAMPLE = shipped("examples/sample")


@pytest.fixture(scope="module")
def queries():
    return read_texts(SAMPLE / "queries.tsv")


@pytest.fixture(scope="module")
def passages():
    return read_texts(SAMPLE / "passages.tsv")


@pytest.fixture(scope="module")
def qrels():
    return load_qrels(SAMPLE / "qrels.txt")


@pytest.fixture(scope="module")
def pairs():
    return list(read_tsv(SAMPLE / "pairs.tsv"))


def of_query(qrels: list[Qrel]) -> dict[str, dict[str, int]]:
    grades: dict[str, dict[str, int]] = {}
    for query_id, doc_id, grade in qrels:
        grades.setdefault(query_id, {})[doc_id] = grade
    return grades


def test_sizes_and_lengths(queries, passages):
    assert (len(queries), len(passages)) == (63, 630)
    assert len(set(queries.values())) == 63
    assert len(set(passages.values())) == 630
    lengths = [len(text.split()) for text in passages.values()]
    assert (min(lengths) >= 40, max(lengths) <= 110) == (True, True), (min(lengths), max(lengths))


def test_every_query_has_ten_graded_passages_of_its_own(queries, passages, qrels):
    grades = of_query(qrels)
    assert grades.keys() == queries.keys()
    assert {len(docs) for docs in grades.values()} == {10}
    assert sorted(doc for docs in grades.values() for doc in docs) == sorted(passages)
    assert {grade for docs in grades.values() for grade in docs.values()} == {0, 1, 2, 3}
    assert all(3 in docs.values() for docs in grades.values())


def test_near_misses_share_words_with_the_query_and_do_not_answer_it(queries, passages, qrels):
    for query_id, docs in of_query(qrels).items():
        words = set(analyze(queries[query_id]))
        misses = [grade for doc, grade in docs.items() if grade < 2 and words & set(analyze(passages[doc]))]
        assert len(misses) >= 4, query_id
        assert misses.count(0) >= 2, query_id


def test_training_pairs_are_labelled_and_on_other_queries(queries, passages, pairs):
    assert Counter(pair.label for pair in pairs) == {0: 216, 1: 216}
    assert {pair.query for pair in pairs}.isdisjoint(queries.values())
    assert {pair.passage for pair in pairs}.isdisjoint(passages.values())
    assert len({(pair.query_id, pair.doc_id) for pair in pairs}) == 432


def test_bm25_is_far_from_perfect(queries, passages, qrels, tmp_path):
    run = retrieve(Bm25Index.build(passages.items(), Bm25Params()), queries, k=50)
    write_run(tmp_path / "bm25.trec", run, "bm25")
    found = evaluate_run(qrels, tmp_path / "bm25.trec", "bm25", parse_measures(["nDCG@10"], 1))
    assert found.means["nDCG@10"] == pytest.approx(0.6670, abs=5e-5)
    assert "nDCG@10 of 0.67." in (SAMPLE / "README.md").read_text()
