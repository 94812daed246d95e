"""How far two computations of the same numbers may lie apart, from the arithmetic alone (CONTRIBUTING.md)."""

import copy
from collections.abc import Callable, Sequence
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


def assert_same_parameters(one: Any, other: Any, steps: int, rate: float, terms: int) -> None:
    """After `steps` updates: each addition rounds a parameter, each update is off by sums of `terms` squares.

    An update is `rate` times the parameters' RMS times at most 8, since its own RMS is at most 1.
    """
    ours, theirs = np.asarray(one), np.asarray(other)
    size = max(float(np.sqrt(np.mean(np.square(theirs)))), 1.0)
    atol = steps * rate * size * 8 * rounding(terms, 1.0)
    np.testing.assert_allclose(ours, theirs, rtol=rounding(steps, 1.0), atol=atol)


def moved_by_rounding(outputs: Callable[[Any], Sequence[Any]], model: Any, terms: int) -> list[float]:
    """How far two computations of each array that a torch model gives may lie apart, through all its layers.

    A sum of `terms` products in fp32 is the exact sum of weights that are off by sqrt(terms) u, one standard deviation
    (its backward error). How far the entries move when all weights are off by it, with either sign, is measured with
    four draws. Four standard deviations of what moves, or the largest where entries differ in size, is one
    computation's share, as above. Weights are moved 1,024 times as far and what moves is divided by it: beside that,
    the measurement's own roundings are nothing.
    """
    far, signs = 1024, np.random.default_rng(0)
    expected = [np.asarray(array, np.float64) for array in outputs(model)]
    moved: list[list[Any]] = [[] for _ in expected]
    for _ in range(4):
        off = copy.deepcopy(model)
        for weight in off.parameters():
            drawn = weight.new_tensor(signs.choice([-1.0, 1.0], tuple(weight.shape)))
            weight.data.mul_(1 + far * terms**0.5 * UNIT_ROUNDOFF["float32"] * drawn)
        for one, other, found in zip(outputs(off), expected, moved, strict=True):
            found.append((np.asarray(one) - other) / far)
    return [2 * max(4 * float(np.sqrt(np.mean(np.square(found)))), float(np.abs(found).max())) for found in moved]
