"""Figures of faithfulness by hand: means over queries, comparisons with each control, the table."""

from typing import Any

import pytest

from exaranker.evaluate.faithfulness import summarise, table


def row(query_id: str, explanation: float, random: float, agreement: float | None = None) -> dict[str, Any]:
    lost = {"explanation": explanation, "random": random, "occlusion": 2.0}
    return {
        "query_id": query_id,
        "comprehensiveness": lost,
        "sufficiency": {name: -value for name, value in lost.items()},
        "agreement": {"explanation": agreement, "lead": 0.5},
    }


ROWS = [
    row("q1", 1.0, 0.0, 1.0),
    row("q1", 2.0, 1.0),  # q1's mean is 1.5 against 0.5
    row("q2", 0.5, 0.5),
    row("q3", 1.0, 0.0, -0.5),
    {"query_id": "q3", "left_out": "the passage has one sentence"},
]


def test_means_and_comparisons_are_of_queries() -> None:
    found = summarise(ROWS)
    assert (found["passages"], found["queries"]) == (4, 3)
    assert found["left_out"] == {"the passage has one sentence": 1}
    choices = {choice["name"]: choice for choice in found["choices"]}
    assert choices["explanation"]["means"] == pytest.approx(
        {"comprehensiveness": 1.0, "sufficiency": -1.0, "agreement": 0.25}
    )
    low, high = choices["explanation"]["intervals"]["comprehensiveness"]
    assert (low, high) == (0.5, 1.5)
    assert choices["occlusion"]["means"]["comprehensiveness"] == 2.0
    assert choices["bm25"]["means"] == {}
    first = found["comparisons"][0]
    assert (first["measure"], first["against"], first["queries"]) == ("comprehensiveness", "random", 3)
    assert first["difference"] == pytest.approx((1.0 + 0.0 + 1.0) / 3)
    assert (first["better"], first["worse"], first["equal"]) == (2, 0, 1)
    assert [one["against"] for one in found["comparisons"] if one["measure"] == "agreement"] == ["lead"]


def test_the_table() -> None:
    lines = table(summarise(ROWS)).splitlines()
    assert lines[0] == "4 passages of 3 queries (left out: 1 as the passage has one sentence)"
    assert lines[3].split()[:5] == ["its", "explanation", "+1.00", "[+0.50,", "+1.50]"]
    assert "comprehensiveness: its explanation against" in lines
    assert any(line.startswith("  random sentences") and "+0.67" in line for line in lines)
