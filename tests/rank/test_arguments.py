"""The Python API takes iterables of texts, and turns nothing else into text."""

from typing import Any

import numpy as np
import pytest

from exaranker.errors import InputError
from exaranker.rank import arguments

pd = pytest.importorskip("pandas")
CATS = ["Cats purr.", "Dogs bark."]


@pytest.mark.parametrize("given", [CATS, tuple(CATS), np.array(CATS), pd.Series(CATS), (text for text in CATS)])
def test_iterables_of_texts(given: Any) -> None:
    assert arguments.texts("passages", given) == CATS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("Cats", "passages is str 'Cats', expected a list or another iterable"),
        (b"Cats", "passages is bytes b'Cats', expected a list"),
        ({"a": "Cats"}, "passages is dict {'a': 'Cats'}, expected a list"),
        (None, "passages is NoneType None, expected a list"),
        (["Cats", None], r"passages\[1\] is NoneType None, expected a str"),
        ([b"Cats"], r"passages\[0\] is bytes b'Cats', expected a str"),
        (pd.Series(["Cats", float("nan")], dtype=object), r"passages\[1\] is float nan, expected a str"),
    ],
)
def test_what_is_no_list_of_texts(given: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        arguments.texts("passages", given)


def test_pairs_stream() -> None:
    endless = iter(lambda: ("why", "because"), None)
    assert next(arguments.pairs("pairs", endless)) == ("why", "because")
    assert list(arguments.pairs("pairs", np.array([["why", "because"]]))) == [("why", "because")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["ab"], r"pairs\[0\] is str 'ab', expected a list"),
        ([("why", "a", "b")], r"pairs\[0\] has 3 items, expected \(query, passage\)"),
        ([("why", 3)], r"pairs\[0\]\[1\] is int 3, expected a str"),
    ],
)
def test_what_is_no_pair(given: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        list(arguments.pairs("pairs", given))


def test_scores_are_one_for_each_pair() -> None:
    assert arguments.scores("scores", (score for score in (1, np.float32(0.5))), 2) == [1.0, 0.5]
    with pytest.raises(InputError, match="1 scores for 2 pairs"):
        arguments.scores("scores", [1.0], 2)
    with pytest.raises(TypeError, match=r"scores\[0\] is str '1', expected a number"):
        arguments.scores("scores", ["1"], 1)
    with pytest.raises(InputError, match=r"scores\[1\] is nan, expected a finite number"):
        arguments.scores("scores", [0.0, float("nan")], 2)


def test_half_of_a_surrogate_pair() -> None:
    with pytest.raises(InputError, match="query has half of a surrogate pair at character 1"):
        arguments.text("query", "a\ud800")
