"""Names of measures: ir-measures', trec_eval's, and what is said to those that are neither."""

import pytest

from exaranker.errors import InputError
from exaranker.evaluate.measure_names import parse_measures


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        ("ndcg_cut_10", "nDCG@10"),
        ("ndcg_cut.10", "nDCG@10"),
        ("ndcg@10", "nDCG@10"),
        ("NDCG@10", "nDCG@10"),
        ("ndcg", "nDCG"),
        ("map", "AP"),
        ("map_cut_100", "AP@100"),
        ("recip_rank", "RR"),
        ("mrr@10", "RR@10"),
        ("P_10", "P@10"),
        ("recall_100", "R@100"),
        ("Recall@100", "R@100"),
        ("success_5", "Success@5"),
        ("num_q", "NumQ"),
        ("num_rel_ret", "NumRet(rel=1)"),
    ],
)
def test_names_of_trec_eval_and_in_any_case(name: str, measure: str) -> None:
    assert [str(found) for found in parse_measures([name], 1)] == [measure]


def test_levels() -> None:
    names = ["MAP", "R(rel=3)@5", "nDCG@10", "num_ret", "NumRelRet"]
    assert [str(measure) for measure in parse_measures(names, 2)] == [
        "AP(rel=2)",
        "R(rel=3)@5",
        "nDCG@10",
        "NumRet",
        "NumRet(rel=2)",
    ]


def test_the_order_is_kept_and_a_measure_comes_once() -> None:
    names = ["RR@10", "map", "nDCG@10", "MAP", "P_5"]
    assert [str(measure) for measure in parse_measures(names, 1)] == ["RR@10", "AP", "nDCG@10", "P@5"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("P", r"no measure 'P' \(known: MAP, P@10, R@100"),
        ("P@5.5", r"no measure 'P@5\.5'"),
        ("nDCG@-1", r"no measure 'nDCG@-1' \(did you mean nDCG@10"),
        ("nDGC@20", r"no measure 'nDGC@20' \(did you mean nDCG@20"),
        ("ndgc_cut_10", r"no measure 'ndgc_cut_10' \(did you mean ndcg_cut_10"),
        ("recip_rnk", r"no measure 'recip_rnk' \(did you mean recip_rank"),
        ("nDCG@0", r"measure 'nDCG@0' has a cutoff of 0, expected 1 to 1,000,000 \(as in nDCG@10"),
        ("ndcg_cut_0", r"measure 'ndcg_cut_0' has a cutoff of 0"),
        ("P@99999999999", r"measure 'P@99999999999' has a cutoff of 99999999999"),
        ("AP(rel=0)", r"measure 'AP\(rel=0\)' has a relevance level of 0"),
        ("nDCG(dgc='log2')@10", "no measure"),
        ("__import__('os')", "no measure"),
        ("official", "no measure"),
        ("alpha_nDCG@20", r"'alpha_nDCG@20', here alpha_nDCG.*@20, cannot be computed \(it needs another of"),
    ],
)
@pytest.mark.parametrize("min_relevance", [1, 2])
def test_measures_that_cannot_be_had(name: str, message: str, min_relevance: int) -> None:
    with pytest.raises(InputError, match=message):
        parse_measures([name], min_relevance)


def test_grade_0_is_not_relevant() -> None:
    with pytest.raises(InputError, match=r"the least relevant grade is 0, expected at least 1"):
        parse_measures(["MAP"], 0)
