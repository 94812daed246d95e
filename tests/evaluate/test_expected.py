"""Expected figures: what holds, what is missed, what cannot be run here, and files that are no conditions."""

from pathlib import Path

import pytest
import yaml

from exaranker.cli import main
from exaranker.evaluate.expected import read_conditions

HELD = {"name": "perfect", "run": "{data}/run.trec", "qrels": "{data}/qrels.txt", "measure": "RR"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "qrels.txt").write_text("q1 0 p1 1\n")
    (tmp_path / "run.trec").write_text("q1 Q0 p2 1 2 t\nq1 Q0 p1 2 1 t\n")
    return tmp_path


def check(data: Path, *conditions: dict) -> None:
    (data / "expected.yaml").write_text(yaml.safe_dump(list(conditions)))
    main(["check-results", str(data / "expected.yaml"), "--data", str(data)])


def test_what_holds_and_what_is_not_here(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs = {**HELD, "name": "weights", "commands": ["exaranker rerank --checkpoint {weights}/x"]}
    absent = {**HELD, "name": "absent", "run": "{data}/other.trec"}
    check(data, *({**row, "expected": 0.5, "tolerance": 0.0} for row in (HELD, needs, absent)))
    assert capsys.readouterr().out.splitlines() == [
        "ok       perfect: 0.5000, expected 0.5000 ± 0",
        "not run  weights: give --weights DIR",
        f"not run  absent: {data / 'other.trec'} is not there",
        "1 of 1 hold, 2 not run",
    ]


def test_a_miss_is_told_and_exits_1(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        check(data, {**HELD, "expected": 0.6, "tolerance": 0.05})
    assert stopped.value.code == 1
    assert "MISSED   perfect: 0.5000, expected 0.6000 ± 0.05" in capsys.readouterr().out


def test_nothing_that_can_be_run_is_no_success(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        check(data, {**HELD, "run": "{data}/none.trec", "expected": 0.5, "tolerance": 0.0})
    assert stopped.value.code == 2
    assert "no condition could be run here" in capsys.readouterr().err


def test_the_shipped_row_of_the_sample_is_run(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read_conditions(None)
    assert [row.name.split()[0] for row in rows] == ["BM25", "the", "BM25", "Anserini's", "the", "monoT5-base"]
    sample = {"name": rows[0].name, "run": rows[0].run, "qrels": rows[0].qrels, "measure": "nDCG@10"}
    check(data, {**sample, "commands": list(rows[0].commands), "expected": rows[0].expected, "tolerance": 0.0005})
    assert "ok       BM25 on the sample: 0.6670" in capsys.readouterr().out


@pytest.mark.parametrize("commands", [[], ["exaranker merge {data}/run.trec --output {output}/other.trec"]])
def test_a_run_that_its_commands_do_not_write_is_not_passed_over(
    commands: list[str], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = {**HELD, "name": "lost", "run": "{output}/x.trec", "commands": commands}
    with pytest.raises(SystemExit) as stopped:
        check(data, *({**row, "expected": 0.5, "tolerance": 0.0} for row in (HELD, lost)))
    assert stopped.value.code == 2
    assert "lost: no command of it wrote {output}/x.trec" in capsys.readouterr().err


def test_unknown_folders_are_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        check(data, {**HELD, "run": "{dta}/run.trec", "expected": 0.5, "tolerance": 0.0})
    assert stopped.value.code == 2
    assert "perfect: '{dta}/run.trec' has unknown braces (known: {data}, {output}," in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid YAML"),
        ("{}", "expected a list of conditions"),
        ("- name: x", "condition 1: expected expected, name, run, tolerance"),
        ("- {name: x, run: r, expected: 1, tolerance: 0}", "condition 1: qrels or collection is missing"),
        (
            "- {name: x, run: r, qrels: q, expected: high, tolerance: 0}",
            'condition 1.expected is "high", expected a number',
        ),
        ("- {name: x, run: r, qrels: q, expected: 1, tolerance: 0, tolerence: 1}", "condition 1: expected expected"),
        ("- {name: x, run: r, qrels: q, expected: 1, tolerance: -1}", "condition 1: tolerance is -1, expected"),
        (
            "- {name: x, run: r, qrels: q, expected: 1, tolerance: 0, min_relevance: 0}",
            "condition 1: min_relevance is 0, expected at least 1",
        ),
        (
            "- {name: x, run: r, qrels: q, expected: 1, tolerance: 0, commands: [python -c 1]}",
            "condition 1: command 'python -c 1', expected exaranker VERB",
        ),
    ],
)
def test_bad_files(data: Path, capsys: pytest.CaptureFixture[str], text: str, message: str) -> None:
    (data / "expected.yaml").write_text(text)
    with pytest.raises(SystemExit) as stopped:
        main(["check-results", str(data / "expected.yaml")])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
