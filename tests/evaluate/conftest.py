"""Two runs of a toy collection, evaluated, with explanations; a browser."""

import json
from pathlib import Path

import pytest

from exaranker.cli import main
from exaranker.evaluate import trec_eval

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """results.json, queries, passages, explanations: all that a report shows."""
    monkeypatch.setattr(trec_eval, "unavailable", lambda: "starting Java takes seconds")
    (tmp_path / "qrels.txt").write_text("q1 0 p1 1\nq1 0 p2 0\nq2 0 p2 1\n")
    (tmp_path / "bm25.trec").write_text("q1 Q0 p2 1 2 t\nq1 Q0 p1 2 1 t\n")
    (tmp_path / "ours.trec").write_text(
        "q1 Q0 p1 1 2 exaranker-t\nq1 Q0 p2 2 1 exaranker-t\nq2 Q0 p2 1 -1 exaranker-t\n"
    )
    runs = [str(tmp_path / "bm25.trec"), f"日本語 <script>alert(3)={tmp_path / 'ours.trec'}"]
    qrels, output = str(tmp_path / "qrels.txt"), str(tmp_path / "results.json")
    main(["evaluate", "--qrels", qrels, "--run", *runs, "--measures", "RR", "NumQ", "--output", output])
    (tmp_path / "queries.tsv").write_text(f"q1\t{EVIL}\nq2\tsecond question\n")
    (tmp_path / "passages.tsv").write_text(f"p1\t{EVIL}\np2\tA passage on owls.\n")
    rows = [
        ("q1", "p1", 1, 2.0, "true", EVIL),
        ("q1", "p2", 2, 1.0, "true", "Owls."),
        ("q2", "p2", 1, -1.0, "false", ""),
    ]
    fields = ("query_id", "doc_id", "rank", "score", "label", "explanation")
    lines = (json.dumps(dict(zip(fields, row, strict=True))) + "\n" for row in rows)
    (tmp_path / "explained.jsonl").write_text("".join(lines))
    return tmp_path
