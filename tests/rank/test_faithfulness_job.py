"""The faithfulness verb: a run's explanations in, figures out; killed and run again; bad input."""

import json
from pathlib import Path
from typing import Any

import pytest

from exaranker.cli import main
from exaranker.rank import faithfulness_job
from exaranker.rank.faithfulness_job import controls
from exaranker.rank.reranker import Reranker

ROWS = [
    ("q1", "p5", "Bees dance in it."),
    ("q1", "p1", "It says where bees make honey."),  # its passage has one sentence
    ("q2", "p2", "The Nile begins in the highlands."),
]


@pytest.fixture
def words(t5_checkpoint: Path, collection: Path) -> list[str]:
    """The command; the explanations beside the collection are of its checkpoint."""
    lines: list[dict[str, Any]] = [dict(zip(("query_id", "doc_id", "explanation"), row, strict=True)) for row in ROWS]
    texts = {
        name: dict(line.split("\t") for line in (collection / f"{name}.tsv").read_text().splitlines())
        for name in ("queries", "passages")
    }
    texts["passages"]["p5"] = "Bees dance. They turn. They rest. Then they fly."
    pairs = [(texts["queries"][line["query_id"]], texts["passages"][line["doc_id"]]) for line in lines]
    lines[0]["window"] = {"start": 0, "end": 48, "text": texts["passages"]["p5"]}
    scores = Reranker.from_checkpoint(t5_checkpoint).score(pairs)
    write(collection, [line | {"rank": 1, "label": "true", "score": s} for line, s in zip(lines, scores, strict=True)])
    inputs = [f"--{name}={collection / name}.tsv" for name in ("queries", "passages")]
    outputs = [f"--explanations={collection / 'told.jsonl'}", f"--output={collection / 'found.json'}"]
    return ["faithfulness", f"--checkpoint={t5_checkpoint}", *inputs, *outputs]


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / "told.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "told.jsonl").read_text().splitlines()]


def test_a_run_is_measured(words: list[str], collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*words, f"--plot={collection / 'plot.svg'}"])
    found = json.loads((collection / "found.json").read_text())
    assert (found["passages"], found["queries"]) == (2, 2)
    assert [row["doc_id"] for row in found["per_passage"]] == ["p5", "p1", "p2"]
    first, left_out, _ = found["per_passage"]
    assert left_out["left_out"] == "the passage has one sentence"
    assert set(first["comprehensiveness"]) == {
        "explanation", "other_passage", "other_query", "lead", "bm25", "random", "occlusion",
    }  # fmt: skip
    assert (first["sentences"], first["chosen"]) == (4, 1), "of the window that won"
    printed = capsys.readouterr()
    assert printed.out.startswith("2 passages of 2 queries (left out: 1 as the passage has one sentence)")
    assert "differ from this checkpoint's" not in printed.err
    assert (collection / "plot.svg").read_text().startswith("<?xml")


def test_a_killed_job_does_not_measure_again(
    words: list[str], collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main(words)
    whole = (collection / "found.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(faithfulness_job, "write_json", lambda *args: exit(1))
        with pytest.raises(SystemExit):
            main(words)
    (collection / "found.json").unlink()
    monkeypatch.setattr(faithfulness_job, "measure", lambda *args: exit(1))
    main(words)
    assert (collection / "found.json").read_bytes() == whole
    assert not list(collection.glob("*.partial"))


def test_controls_are_of_the_next_passage_and_of_another_query() -> None:
    rows = [{"query_id": query, "explanation": text} for query, text in (("a", "1"), ("a", "2"), ("b", "3"))]
    assert controls(rows) == [("2", "3"), ("1", "3"), (None, controls(rows)[2][1])]
    assert controls(rows)[2][1] in ("1", "2")
    assert controls(rows[:1]) == [(None, None)]


def test_bad_input(words: list[str], collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read(collection)
    write(collection, [rows[0], rows[1] | {"doc_id": "p99"}])
    with pytest.raises(SystemExit):
        main(words)
    assert "told.jsonl:2: doc_id 'p99' is not in " in capsys.readouterr().err
    write(collection, rows[1:2])
    with pytest.raises(SystemExit):
        main(words)
    assert "none of 1 explanations can be measured: the passage has one sentence" in capsys.readouterr().err
    write(collection, [row | {"score": row["score"] + 1} for row in rows])
    main(words)
    assert "the scores differ from this checkpoint's by 1.00 (median)" in capsys.readouterr().err
