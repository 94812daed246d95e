"""Is a difference between two runs more than luck with the queries? Paired tests over the same judged queries."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy import stats

RESAMPLES = 10_000  # the p-value's Monte-Carlo error is then below 0.005 (one standard deviation at p = 0.5)
SEED = 0


class Comparison(NamedTuple):
    """A run against the first one. p-values are two-sided and not corrected for the number of comparisons."""

    difference: float  # mean over queries of this run's value minus the first's
    low: float  # 95 % percentile bootstrap interval of the difference, resampling queries
    high: float
    p_t_test: float
    p_randomisation: float  # signs of the differences flipped at random (Smucker et al., CIKM 2007)
    better: int  # queries
    worse: int
    equal: int


def compare(first: Mapping[str, float], other: Mapping[str, float]) -> Comparison:
    """Compares two runs' values query by query; both mappings have the same queries.

    >>> c = compare({"q1": 0.25, "q2": 0.5, "q3": 0.75}, {"q1": 0.5, "q2": 0.5, "q3": 0.5})
    >>> c.difference, c.better, c.worse, c.equal, c.p_t_test
    (0.0, 1, 1, 1, 1.0)
    """
    differences = np.array([other[query_id] - value for query_id, value in first.items()])
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    low, high = _bootstrap_interval(differences)
    return Comparison(
        difference=float(differences.mean()),
        low=low,
        high=high,
        p_t_test=_t_test(differences),
        p_randomisation=_randomisation(differences),
        better=better,
        worse=worse,
        equal=len(differences) - better - worse,
    )


def _t_test(differences: Float64[np.ndarray, " queries"]) -> float:
    if len(differences) < 2 or not differences.any():
        return 1.0
    return 0.0 if np.ptp(differences) == 0 else float(stats.ttest_1samp(differences, 0.0).pvalue)


def _randomisation(differences: Float64[np.ndarray, " queries"]) -> float:
    """Exact when 2 ** queries <= RESAMPLES, else Monte-Carlo with a fixed seed."""
    if len(differences) < 2:
        return 1.0
    test = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", vectorized=True, n_resamples=RESAMPLES, rng=SEED
    )
    return float(test.pvalue)


def _bootstrap_interval(differences: Float64[np.ndarray, " queries"]) -> tuple[float, float]:
    if np.ptp(differences) == 0:  # one query, or the same difference everywhere: nothing to resample
        return float(differences[0]), float(differences[0])
    interval = stats.bootstrap(
        (differences,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=SEED
    ).confidence_interval
    return float(interval.low), float(interval.high)
