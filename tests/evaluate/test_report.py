"""The report is one file, shows every figure, and runs nothing that a passage says."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from exaranker.cli import main

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"


class Tags(HTMLParser):
    """Collects (tag, attributes) of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def evaluated(tmp_path: Path) -> Path:
    (tmp_path / "qrels.txt").write_text("q1 0 p1 1\nq2 0 p2 1\n")
    (tmp_path / "bm25.trec").write_text("q1 Q0 p2 1 2 t\nq1 Q0 p1 2 1 t\n")
    (tmp_path / "ours.trec").write_text("q1 Q0 p1 1 2 t\nq2 Q0 p2 1 1 t\n")
    runs = [str(tmp_path / name) for name in ("bm25.trec", "ours.trec")]
    output = tmp_path / "results.json"
    main(
        [
            "evaluate",
            "--qrels",
            f"{tmp_path / 'qrels.txt'}",
            "--run",
            *runs,
            "--measures",
            "RR",
            "--output",
            f"{output}",
        ]
    )
    (tmp_path / "queries.tsv").write_text(f"q1\t{EVIL}\n")
    (tmp_path / "passages.tsv").write_text(f"p1\t{EVIL}\np2\tNot explained.\n")
    row = {"query_id": "q1", "doc_id": "p1", "rank": 1, "score": 1.5, "label": "true", "explanation": EVIL}
    (tmp_path / "explained.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path


def test_report(evaluated: Path) -> None:
    texts = [f"--queries={evaluated / 'queries.tsv'}", f"--passages={evaluated / 'passages.tsv'}"]
    explained = f"--explanations={evaluated / 'explained.jsonl'}"
    main(["report", str(evaluated / "results.json"), explained, *texts, f"--output={evaluated / 'report.html'}"])
    page = (evaluated / "report.html").read_text()
    assert "<td>0.2500</td>" in page  # BM25: q1 at rank 2, q2 not answered
    assert "<td>1.0000</td>" in page
    assert "<td>1/2</td>" in page
    assert "+0.7500" in page
    assert page.count("&lt;script&gt;alert(1)") == 4  # the query twice, its passage, its explanation
    tags = Tags()
    tags.feed(page)
    assert {tag for tag, _ in tags.found}.isdisjoint({"script", "link", "iframe"})
    sources = [attributes["src"] or "" for tag, attributes in tags.found if tag == "img"]
    assert len(sources) == 2
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)


def test_explanations_keep_their_order_and_ids_their_case(evaluated: Path) -> None:
    rows = [
        {"query_id": query, "doc_id": "p1", "rank": 1, "score": 1.5, "label": "true", "explanation": f"of {query}"}
        for query in ("q9", "Q1", "q1")
    ]
    (evaluated / "explained.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["report", str(evaluated / "results.json"), f"--explanations={evaluated / 'explained.jsonl'}"]
    main([*words, f"--output={evaluated / 'report.html'}"])
    page = (evaluated / "report.html").read_text()
    assert re.findall(r"<h3>(\S+) |<em>(.+)</em>", page.partition("Explanations")[2]) == [
        ("q9", ""), ("", "of q9"), ("Q1", ""), ("", "of Q1"), ("q1", ""), ("", "of q1"),
    ]  # fmt: skip


def test_the_same_results_give_the_same_page(evaluated: Path) -> None:
    for name in ("a.html", "b.html"):
        main(["report", str(evaluated / "results.json"), f"--output={evaluated / name}"])
    assert (evaluated / "a.html").read_bytes() == (evaluated / "b.html").read_bytes()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("results.json", "[]", "results version None, expected 2"),
        ("results.json", "{", "not valid JSON"),
        (
            "results.json",
            '{"results_version": 2, "runs": []}',
            "results.json: lacks command, comparisons, measures, qrels, trec_eval (evaluate again)",
        ),
        (
            "explained.jsonl",
            '{"query_id": "q1"}\n',
            "explained.jsonl:1: expected an object with query_id (str), doc_id",
        ),
        (
            "explained.jsonl",
            '{"query_id": "q1", "doc_id": "p1", "rank": 1, "score": "1.5", "label": "true", "explanation": ""}\n',
            "explained.jsonl:1: expected an object with query_id (str), doc_id (str), rank (int), score (float)",
        ),
    ],
)
def test_bad_input(evaluated: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, message: str) -> None:
    (evaluated / name).write_text(text)
    words = [str(evaluated / "results.json"), f"--explanations={evaluated / 'explained.jsonl'}"]
    with pytest.raises(SystemExit) as stopped:
        main(["report", *words, f"--output={evaluated / 'report.html'}"])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (evaluated / "report.html").exists()
