"""Is a difference between two runs more than luck with the queries? Paired tests over the same judged queries.

All comparisons of one call share their resamples, which are drawn in batches: neither 40 runs nor 55,578 queries need
much memory, and a comparison's figures do not depend on the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int8
from scipy import stats

RESAMPLES = 10_000  # the p-value's Monte-Carlo error is then below 0.005 (one standard deviation at p = 0.5)
SEED = 0
TAILS = (2.5, 97.5)  # percentiles: the ends of a 95 % interval
NUMBERS_AT_ONCE = 4_000_000  # of one array; a handful of them are alive at a time
COMPARISONS_AT_ONCE = 256  # whose resampled means are kept: 10,000 each
TIE = 100 * np.finfo(np.float64).eps  # sums of the same numbers with other signs may differ by their rounding


class Comparison(NamedTuple):
    """A run against another one. p-values are two-sided and not corrected for the number of comparisons: see `holm`."""

    difference: float  # mean over queries of this run's value minus the other's
    low: float  # 95 % percentile bootstrap interval of the difference, resampling queries
    high: float
    effect_size: float | None  # Cohen's d_z: mean over standard deviation of the differences; None if they are alike
    p_t_test: float
    p_randomisation: float  # signs of the differences flipped at random (Smucker et al., CIKM 2007)
    better: int  # queries
    worse: int
    equal: int


def compare(first: Mapping[str, float], other: Mapping[str, float]) -> Comparison:
    """Compares two runs' values query by query; both mappings have the same queries.

    >>> c = compare({"q1": 0.25, "q2": 0.5, "q3": 0.75}, {"q1": 0.5, "q2": 0.5, "q3": 0.5})
    >>> c.difference, c.effect_size, c.better, c.worse, c.equal, c.p_t_test
    (0.0, 0.0, 1, 1, 1, 1.0)
    """
    return compare_all(np.array([[other[query_id] - value for query_id, value in first.items()]]))[0]


def compare_all(differences: Float64[np.ndarray, "comparisons queries"]) -> list[Comparison]:
    """Tests each row of differences, query by query, against zero."""
    lows, highs = bootstrap_intervals(differences)
    effects, p_t_tests = _effect_sizes(differences), t_tests(differences)
    p_randomisations = randomisation_tests(differences)
    return [
        Comparison(
            difference=float(row.mean()),
            low=float(lows[i]),
            high=float(highs[i]),
            effect_size=effects[i],
            p_t_test=float(p_t_tests[i]),
            p_randomisation=float(p_randomisations[i]),
            better=int((row > 0).sum()),
            worse=int((row < 0).sum()),
            equal=int((row == 0).sum()),
        )
        for i, row in enumerate(differences)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number: rejecting those <= 0.05 errs at all in at most 5 % of families (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def t_tests(differences: Float64[np.ndarray, "comparisons queries"]) -> Float64[np.ndarray, " comparisons"]:
    """Student's paired test; differences that are all alike leave only their signs to test, 2 ** (1 - queries)."""
    queries = differences.shape[1]
    p_values = np.where(differences.any(axis=1), 2.0 ** (1 - queries), 1.0)
    varied = np.ptp(differences, axis=1) > 0
    if varied.any():
        p_values[varied] = stats.ttest_1samp(differences[varied], 0.0, axis=1).pvalue
    return p_values


def randomisation_tests(differences: Float64[np.ndarray, "comparisons queries"]) -> Float64[np.ndarray, " comparisons"]:
    """Exact when 2 ** queries <= RESAMPLES, else Monte-Carlo with a fixed seed; `scipy.stats.permutation_test`'s p."""
    comparisons, queries = differences.shape
    observed = differences.mean(axis=1)
    slack = np.maximum(TIE, TIE * np.abs(observed))
    exact = 2**queries <= RESAMPLES
    below, above = (np.full(comparisons, 0 if exact else 1) for _ in range(2))  # the observed signs count as a draw
    for signs in _all_signs(queries) if exact else _random_signs(queries, comparisons):
        means = signs @ differences.T / queries
        below += (means <= observed + slack).sum(axis=0)
        above += (means >= observed - slack).sum(axis=0)
    draws = 2**queries if exact else RESAMPLES + 1
    return np.minimum(1.0, 2 * np.minimum(below / draws, above / draws))


def bootstrap_intervals(
    values: Float64[np.ndarray, "rows queries"],
) -> tuple[Float64[np.ndarray, " rows"], Float64[np.ndarray, " rows"]]:
    """95 % percentile intervals of each row's mean, queries drawn with replacement."""
    groups = [values[start : start + COMPARISONS_AT_ONCE] for start in range(0, len(values), COMPARISONS_AT_ONCE)]
    lows, highs = np.concatenate([np.percentile(_resampled(group), TAILS, axis=1) for group in groups], axis=1)
    return lows, highs


def _resampled(values: Float64[np.ndarray, "rows queries"]) -> Float64[np.ndarray, "rows resamples"]:
    rows, queries = values.shape
    rng, means = np.random.default_rng(SEED), np.empty((rows, RESAMPLES))
    for start, count in _batches(queries):
        drawn = rng.integers(0, queries, (count, queries))
        for row, of_queries in zip(means, values, strict=True):
            row[start : start + count] = of_queries[drawn].mean(axis=1)
    return means


def _all_signs(queries: int) -> Iterator[Float64[np.ndarray, "resamples queries"]]:
    patterns = np.arange(2**queries)[:, None] >> np.arange(queries)
    yield 1.0 - 2.0 * (patterns & 1)


def _random_signs(queries: int, comparisons: int) -> Iterator[Float64[np.ndarray, "resamples queries"]]:
    """The signs that scipy's test draws: whether it swaps a difference with its negative is one bit of 32."""
    rng = np.random.default_rng(SEED)
    for _, count in _batches(max(queries, comparisons)):
        yield 2.0 * _bits(rng, count * queries).reshape(count, queries) - 1.0


def _bits(rng: np.random.Generator, number: int) -> Int8[np.ndarray, " number"]:
    words = rng.integers(0, 2**32, number, dtype=np.uint32)
    return (words & 1).astype(np.int8)


def _effect_sizes(differences: Float64[np.ndarray, "comparisons queries"]) -> list[float | None]:
    if differences.shape[1] < 2:
        return [None] * len(differences)
    means, spreads = differences.mean(axis=1), differences.std(axis=1, ddof=1)
    varied = np.ptp(differences, axis=1) > 0
    return [float(mean / spread) if some else None for mean, spread, some in zip(means, spreads, varied, strict=True)]


def _batches(width: int) -> Iterator[tuple[int, int]]:
    """(start, count) of resamples whose arrays, of this width, stay small."""
    step = max(1, NUMBERS_AT_ONCE // width)
    return ((start, min(step, RESAMPLES - start)) for start in range(0, RESAMPLES, step))
