"""Paired tests by hand and beside scipy's, in bounded memory; the correction holds its error rate."""

import tracemalloc
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from exaranker.evaluate.significance import (
    bootstrap_intervals,
    compare,
    compare_all,
    holm,
    randomisation_tests,
    t_tests,
)


def test_comparison_by_hand() -> None:
    first = {"q1": 0.1, "q2": 0.1, "q3": 0.1, "q4": 0.1}
    found = compare(first, {"q1": 0.2, "q2": 0.3, "q3": 0.4, "q4": 0.5})
    assert found.difference == pytest.approx(0.25)
    assert found.effect_size == pytest.approx(0.25 / 0.1290994)
    assert found.p_t_test == pytest.approx(0.030466, abs=5e-7)  # t = 3.873, 3 degrees of freedom
    assert found.p_randomisation == pytest.approx(2 / 2**4)  # all signs positive, or all negative
    assert 0.1 <= found.low < 0.25 < found.high <= 0.4
    assert (found.better, found.worse, found.equal) == (4, 0, 0)


@pytest.mark.parametrize("other", [{"q1": 0.5}, {"q1": 0.7}])
def test_one_query_proves_nothing(other: dict[str, float]) -> None:
    found = compare({"q1": 0.5}, other)
    assert found.p_t_test == found.p_randomisation == 1.0
    assert found.effect_size is None


def test_two_queries_with_the_same_gain_prove_little() -> None:
    found = compare({"q1": 0.0, "q2": 0.0}, {"q1": 0.5, "q2": 0.5})
    assert found.p_t_test == found.p_randomisation == 0.5
    assert found.effect_size is None


def test_the_same_run_does_not_differ() -> None:
    found = compare({"q1": 0.5, "q2": 0.1}, {"q1": 0.5, "q2": 0.1})
    assert (found.difference, found.low, found.high, found.p_t_test, found.p_randomisation) == (0, 0, 0, 1, 1)


def differences(kind: str, queries: int) -> np.ndarray:
    rng = np.random.default_rng(queries + 1)
    if kind == "smooth":
        return rng.normal(0.03, 0.2, queries)
    return rng.choice([0, 0, 0, 0, 0.5, -0.5, 1 / 3, 1], queries)  # of reciprocal ranks: many sums are equal


@pytest.mark.parametrize("queries", [2, 13, 14, 43, 500])
@pytest.mark.parametrize("kind", ["smooth", "ties"])
def test_figures_are_scipys(rounding: ModuleType, kind: str, queries: int) -> None:
    """One at a time as beside 30 others: the p-value to the bit, intervals to rounding."""
    row = differences(kind, queries)
    many = np.vstack([row, *(np.roll(row, 1) * scale for scale in range(30))])
    options = {"n_resamples": 10_000, "batch": 500, "rng": 0}
    test = stats.permutation_test((row,), np.mean, permutation_type="samples", vectorized=True, **options)
    assert randomisation_tests(row[None])[0] == randomisation_tests(many)[0] == test.pvalue
    interval = stats.bootstrap((row,), np.mean, method="percentile", **options).confidence_interval
    rounded = rounding.rounding(queries, 1.0, "float64")  # of their mean
    assert np.ravel(bootstrap_intervals(row[None])) == pytest.approx([interval.low, interval.high], abs=rounded)
    assert t_tests(many)[0] == pytest.approx(
        stats.ttest_1samp(row, 0).pvalue, rel=100 * rounded
    )  # moves t^2 times as fast as t


def test_gains_and_losses_that_cancel_out_are_no_difference() -> None:
    """Sums that equal the observed 0 count on both sides, whatever their rounding: scipy leaves some out."""
    row = np.tile([1 / 3, -1 / 3, 0.1, -0.1], 10)
    assert randomisation_tests(row[None])[0] == 1.0


def test_55578_queries_take_little_memory() -> None:
    """All of MS MARCO's judged queries: 10,000 signs for each would be 4 GiB."""
    row = differences("ties", 55_578)
    tracemalloc.start()
    assert 0 < randomisation_tests(np.vstack([row, -row, row / 2]))[0] <= 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**28


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_null_runs_are_rarely_told_apart() -> None:
    """1,000 evaluations of four runs that differ by luck alone: at most 5 % of them may claim any difference.

    The bounds leave three standard deviations of a share of 1,000: 0.05 + 3 * sqrt(0.05 * 0.95 / 1000) = 0.0707.
    """
    rng = np.random.default_rng(1)
    values = np.round(rng.beta(0.6, 0.6, (1000, 4, 50)), 1)  # of 50 queries; many are 0 or 1, as nDCG@10's are
    pairs = [values[:, j] - values[:, i] for i in range(4) for j in range(i + 1, 4)]
    p_values = np.stack([t_tests(pair) for pair in pairs], axis=1)
    assert np.mean([min(holm(list(family))) < 0.05 for family in p_values]) < 0.0707
    assert np.mean(p_values.min(axis=1) < 0.05) > 0.15  # without the correction


def test_null_pairs_are_told_apart_as_often_as_the_level_says() -> None:
    """1,000 pairs of runs that differ by luck alone; the shares lie within three standard deviations of 5 %."""
    rng = np.random.default_rng(2)
    null = rng.beta(0.6, 0.6, (1000, 50)) - rng.beta(0.6, 0.6, (1000, 50))
    for p_values in (t_tests(null), randomisation_tests(null)):
        assert 0.0293 < np.mean(p_values < 0.05) < 0.0707


def test_comparisons_do_not_depend_on_each_other() -> None:
    rows = np.vstack([differences(kind, 43) for kind in ("smooth", "ties")])
    assert compare_all(rows) == [*compare_all(rows[:1]), *compare_all(rows[1:])]
