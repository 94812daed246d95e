import pytest

from exaranker.files.numbers import integer, number


@pytest.mark.parametrize("text", ["1_0", "٣", "１", " 1", "1 ", "", "0x1", "1" * 19, "--1", "1.0", "nan"])
def test_what_is_no_integer(text):
    assert integer(text) is None


@pytest.mark.parametrize("text", ["1_0.5", "٣.5", "inf", "nan", "1e999", "", ".", "1.5 ", "0x1p3", "infinity"])
def test_what_is_no_number(text):
    assert number(text) is None


def test_numbers():
    assert [integer(text) for text in ("0", "+3", "-12", "9" * 18)] == [0, 3, -12, 10**18 - 1]
    assert [number(text) for text in ("0", "+3.", "-.5", "1e-3", "2.5E+2")] == [0.0, 3.0, -0.5, 0.001, 250.0]
