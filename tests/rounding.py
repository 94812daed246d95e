"""How far two computations of the same numbers may lie apart, from the arithmetic alone (CONTRIBUTING.md)."""

from typing import Any

import numpy as np

UNIT_ROUNDOFF = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "bfloat16": 2.0**-9,
}  # half the distance between neighbours, around 1


def rounding(terms: int, largest: float, dtype: str = "float32") -> float:
    """The tolerance for a sum of `terms` products whose partial sums reach `largest`, computed in two orders.

    Each addition and product rounds by at most u * largest. Roundings of both signs add up like a random walk, to
    sqrt(terms) * u * largest (Higham and Mary, SIAM J. Sci. Comput. 41, 2019); one sum in 16,000 is off by more than
    four times that, and there are two sums.

    >>> f"{rounding(64, 48.0):.1e}"
    '1.8e-04'
    """
    return 2 * 4 * terms**0.5 * UNIT_ROUNDOFF[dtype] * largest


def assert_equal_but_for_rounding(one: Any, other: Any, terms: int, dtype: str = "float32") -> None:
    """Compares arrays of sums; the largest entry stands for the partial sums, which small entries differ by."""
    expected = np.asarray(other, np.float64)
    largest = float(np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(np.asarray(one, np.float64), expected, rtol=0, atol=rounding(terms, largest, dtype))
