"""exaranker evaluate: what it prints and writes."""

import csv
import json
from pathlib import Path

import pytest

from exaranker.cli import main
from exaranker.evaluate import trec_eval

QRELS = "qa 0 d1 2\nqa 0 d2 1\nqa 0 d3 0\nqb 0 d4 1\nqc 0 d6 1\n"
FIRST = "qa Q0 d1 1 9.5 t\nqa Q0 d3 2 8.5 t\nqa Q0 d9 3 7.5 t\nqb Q0 d5 1 3.5 t\nqb Q0 d4 2 2.5 t\n"  # qc: none
SECOND = "qa Q0 d1 1 9.5 t\nqa Q0 d2 2 8.5 t\nqb Q0 d4 1 3.5 t\nqc Q0 d6 1 2.5 t\n"
THIRD = "qa Q0 d2 1 9.5 t\nqb Q0 d4 1 3.5 t\nqc Q0 qc 1 3 t\nqc Q0 d6 2 2.5 t\nqz Q0 d6 2 2.5 t\n"


@pytest.fixture
def no_second_opinion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting Java takes seconds: two tests do."""
    monkeypatch.setattr(trec_eval, "unavailable", lambda: "not here")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, text in (("qrels.txt", QRELS), ("first.trec", FIRST), ("second.trec", SECOND), ("third.trec", THIRD)):
        (tmp_path / name).write_text(text)
    return tmp_path


def evaluate(folder: Path, *flags: str, runs: tuple[str, ...] = ("first", "second", "third")) -> dict:
    words = ["evaluate", "--qrels", str(folder / "qrels.txt"), "--output", str(folder / "results.json")]
    main([*words, *flags, "--run", *(str(folder / f"{name}.trec") for name in runs)])
    return json.loads((folder / "results.json").read_text())


@pytest.mark.usefixtures("no_second_opinion")
def test_table_remarks_and_plot(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = evaluate(files, "--measures", "RR", "nDCG@10", "--plot", str(files / "means.png"))
    told = capsys.readouterr()
    assert told.out.splitlines()[0].split() == ["run", "RR", "nDCG@10", "answered"]
    assert told.out.splitlines()[1].split()[:2] == ["first", "0.5000"]
    assert "first: 1 judged queries are not answered and score 0: qc" in told.err
    assert "third: 1 queries are not in the qrels and not counted: qz" in told.err
    assert results["measures"] == ["RR", "nDCG@10"]
    assert len(results["qrels"]["sha256"]) == 64
    assert results["command"].startswith("exaranker evaluate --qrels ")
    assert (files / "means.png").read_bytes().startswith(b"\x89PNG")


def test_counts_are_totals_of_the_answered_queries(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = evaluate(files, "--measures", "NumQ", "NumRet", "NumRel", "NumRet(rel=1)", "RR", runs=("first",))
    means = results["runs"][0]["means"]
    assert [means[m] for m in results["measures"]] == [2, 5, 3, 2, 0.5]
    assert capsys.readouterr().out.splitlines()[1].split() == ["first", "2", "5", "3", "2", "0.5000", "2/3"]
    if trec_eval.unavailable() is None:
        asked = results["trec_eval"]["means"][0]
        assert asked == {"NumQ": 2, "NumRet": 5, "NumRel": 3, "NumRet(rel=1)": 2, "RR": 0.5}


@pytest.mark.usefixtures("no_second_opinion")
def test_all_pairs_are_compared(files: Path) -> None:
    results = evaluate(files, "--measures", "RR", "NumRet")
    pairs = [(found["run"], found["against"], found["measure"]) for found in results["comparisons"]]
    assert pairs == [("second", "first", "RR"), ("third", "first", "RR"), ("third", "second", "RR")]
    assert results["comparisons"][0]["difference"] == pytest.approx(0.5)  # 0, 1/2 and 1 over three queries
    assert results["comparisons"][0]["effect_size"] == pytest.approx(1.0)
    assert all(found["p_holm"] >= found["p_t_test"] for found in results["comparisons"])
    low, high = results["runs"][1]["intervals"]["RR"]
    assert low == high == 1.0


@pytest.mark.usefixtures("no_second_opinion")
def test_a_baseline_of_choice(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = evaluate(files, "--measures", "RR", "--baseline", "second")
    assert [(found["run"], found["against"]) for found in results["comparisons"]] == [
        ("first", "second"),
        ("third", "second"),
    ]
    with pytest.raises(SystemExit):
        evaluate(files, "--baseline", "secnd")
    assert "--baseline 'secnd' is none of the runs (did you mean second?)" in capsys.readouterr().err


def test_identical_ids(files: Path) -> None:
    assert evaluate(files, "--measures", "RR", runs=("third",))["runs"][0]["per_query"]["RR"]["qc"] == 0.5
    results = evaluate(files, "--measures", "RR", "--ignore_identical_ids", runs=("third",))
    assert results["runs"][0]["per_query"]["RR"]["qc"] == 1.0


@pytest.mark.usefixtures("no_second_opinion")
def test_values_per_query_as_csv(files: Path) -> None:
    evaluate(files, "--measures", "RR", "P@2", "--per_query", str(files / "values.csv"), runs=("first", "second"))
    with (files / "values.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[:4] == [
        ["run", "query_id", "RR", "P@2"],
        ["first", "qa", "1.0", "0.5"],
        ["first", "qb", "0.5", "0.5"],
        ["first", "qc", "0.0", "0.0"],
    ]
    assert len(rows) == 1 + 2 * 3


@pytest.mark.usefixtures("no_second_opinion")
@pytest.mark.parametrize(("form", "start"), [("markdown", "| run | RR |"), ("latex", r"\begin{tabular}{lrr}")])
def test_formats(files: Path, capsys: pytest.CaptureFixture[str], form: str, start: str) -> None:
    evaluate(files, "--measures", "RR", "--format", form)
    assert capsys.readouterr().out.startswith(start)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--min_relevance", "0", "--measures", "MAP"], "the least relevant grade is 0, expected at least 1"),
        (["--measures", "nDCG@0"], "measure 'nDCG@0' has a cutoff of 0, expected 1 to 1,000,000"),
    ],
)
def test_bad_flags(files: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        evaluate(files, *flags)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_grades_are_of_a_sensible_size(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "qrels.txt").write_text("qa 0 d1 1\nqa 0 d2 3000000000\n")
    with pytest.raises(SystemExit):
        evaluate(files)
    assert "qrels.txt:2: relevance 3000000000 is no grade, expected -1000 to 1000" in capsys.readouterr().err
