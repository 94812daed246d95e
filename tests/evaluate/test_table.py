"""Marks of significance, and tables as text, Markdown and LaTeX."""

from typing import Any

import pytest

from exaranker.evaluate.cells import cells, note
from exaranker.evaluate.table import table


def results(runs: int = 3) -> dict[str, Any]:
    """Runs of which each is significantly above all before it, by NumRet 100 and nDCG@10 0.1 * its number."""
    named = [
        {"name": f"run_{n}", "means": {"nDCG@10": n / 10, "NumRet": 1000 * n}, "missing_queries": ["q1"] if n else []}
        for n in range(runs)
    ]
    comparisons = [
        {"run": f"run_{j}", "against": f"run_{i}", "measure": "nDCG@10", "difference": (j - i) / 10}
        | {"low": 0.01, "high": 0.2, "effect_size": 0.5, "p_t_test": 0.0004, "p_randomisation": 0.0002}
        | {"p_holm": 0.00004, "better": 3, "worse": 1, "equal": 0}
        for i in range(runs)
        for j in range(i + 1, runs)
    ]
    measures = {"measures": ["nDCG@10", "NumRet"], "qrels": {"queries": 4}}
    return {"runs": named, "comparisons": comparisons, **measures}


def test_text() -> None:
    lines = table(results()).splitlines()
    assert lines[:4] == [
        "run          nDCG@10         NumRet     answered",
        "a run_0       0.0000              0          4/4",
        "b run_1       0.1000a         1,000          3/4",
        "c run_2       0.2000ab        2,000          3/4",
    ]
    assert lines[5:7] == [
        "run_1 against run_0",
        "       nDCG@10 +0.1000 [+0.0100, +0.2000]  d_z +0.50  p: t-test 0.0004 (Holm < 0.0001), randomisation 0.0002  "
        "better/worse/equal 3/1/0",
    ]
    assert lines[-1].startswith("A letter after a value: above that run, paired t-test, p < 0.05 after Holm's")


def test_forty_runs_fit_a_terminal() -> None:
    shown = table(results(40))
    assert "run_30       3.0000a-ad" in shown
    assert "780 comparisons: --output keeps them all, --baseline RUN makes fewer" in shown
    assert len(shown.splitlines()) < 50


def test_markdown() -> None:
    lines = table(results(2), "markdown").splitlines()
    assert lines[:4] == [
        "| run | nDCG@10 | NumRet | answered |",
        "|---|---:|---:|---:|",
        r"| a run\_0 | 0.0000 | 0 | 4/4 |",
        r"| b run\_1 | **0.1000**<sup>a</sup> | **1,000** | 3/4 |",
    ]
    assert lines[7] == (
        r"| run\_1 | run\_0 | nDCG@10 | +0.1000 | +0.0100 … +0.2000 | +0.50 | 0.0004 | \< 0.0001 | 0.0002 |"
    )


def test_latex() -> None:
    lines = table(results(2), "latex").splitlines()
    assert lines[:6] == [
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"run & nDCG@10 & NumRet & answered \\",
        r"\midrule",
        r"a run\_0 & 0.0000 & 0 & 4/4 \\",
        r"b run\_1 & \textbf{0.1000}$^{a}$ & \textbf{1,000} & 3/4 \\",
    ]
    assert r"+0.50 & 0.0004 & \textless{} 0.0001 & 0.0002 \\" in lines[13]


@pytest.mark.parametrize("difference", [0.3, -0.3])
def test_the_better_run_gets_the_mark(difference: float) -> None:
    found = results(2)
    found["comparisons"][0]["difference"] = difference
    marks = [row[0].marks for row in cells(found)]
    assert marks == (["", "a"] if difference > 0 else ["b", ""])


def test_what_is_not_significant_after_the_correction_gets_no_mark() -> None:
    found = results(2)
    found["comparisons"][0]["p_holm"] = 0.05
    assert all(cell.marks == "" for row in cells(found) for cell in row)
    assert "for 1 comparison;" in note(found)
