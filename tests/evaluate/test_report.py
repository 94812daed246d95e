"""The report is one file, shows every figure, and runs nothing that a passage says; Chromium opens and clicks it."""

import base64
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from exaranker.cli import main
from exaranker.files import sha256_json


def report(folder: Path, *flags: str) -> str:
    texts = [f"--queries={folder / 'queries.tsv'}", f"--passages={folder / 'passages.tsv'}"]
    explained = f"--explanations={folder / 'explained.jsonl'}"
    main(["report", str(folder / "results.json"), explained, *texts, f"--output={folder / 'report.html'}", *flags])
    return (folder / "report.html").read_text()


def visible(browser: webdriver.Chrome, selector: str) -> list[str]:
    return [found.text for found in browser.find_elements(By.CSS_SELECTOR, selector) if found.is_displayed()]


def test_figures_are_in_the_page(evaluated: Path) -> None:
    metrics = [{"step": step, "split": "train", "loss": 2.0 / step} for step in (10, 20)]
    (evaluated / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    (evaluated / "stage.json").write_text('{"key": {"command": "exaranker train --gin_file x.gin"}, "seconds": 5400}')
    flags = ["--title", "Owls & others", "--date", "2026-01-02", "--usd_per_hour", "2"]
    flags += ["--metrics", str(evaluated / "metrics.jsonl"), "--stages", str(evaluated / "stage.json")]
    page = report(evaluated, *flags)
    assert "<h1>Owls &amp; others</h1>" in page
    assert "2026-01-02" in page
    assert ">0.2500</td>" in page  # BM25: q1 at rank 2, q2 not answered
    assert ">1.0000</td>" in page
    assert "<td>1/2</td>" in page
    assert "+0.7500" in page
    assert "$ exaranker train --gin_file x.gin    # 5400 s" in page
    assert "All stages: 1.50 hours, 3.00 USD at 2.00 USD per hour." in page
    assert "$ exaranker evaluate --qrels" in page
    assert page.count("<svg") == 6  # means, differences, two runs' scores, the log-odds' reliability, the loss


def test_texts_are_only_text(evaluated: Path, browser: webdriver.Chrome) -> None:
    page = report(evaluated)
    assert "<script>alert" not in page
    assert "<img" not in page
    browser.get(f"file://{evaluated / 'report.html'}")
    assert browser.get_log("browser") == []  # nothing is blocked: nothing was tried
    assert "<script>alert(1)</script>" in visible(browser, "#explanations h3")[0]


def test_explanations_are_filtered(evaluated: Path, browser: webdriver.Chrome) -> None:
    report(evaluated)
    browser.get(f"file://{evaluated / 'report.html'}")
    assert len(visible(browser, "#explanations article")) == 3
    assert "1. p1\nlabel true\nlog-odds 2.00\ngrade 1\nbm25 rank 2 (+1)" in visible(browser, "#explanations article")[0]
    assert len(visible(browser, ".flag")) == 2  # relevant said of grade 0, irrelevant of grade 1
    browser.find_element(By.ID, "only").click()
    assert len(visible(browser, "#explanations article")) == 2
    browser.find_element(By.ID, "filter").send_keys("second QUESTION")
    assert visible(browser, "#shown") == ["1 shown"]
    assert visible(browser, "#contents li") == ["q2 second question"]
    browser.find_element(By.CSS_SELECTOR, "#contents li:nth-child(2) a").click()
    assert browser.current_url.endswith("#q2")


def test_a_telephone_shows_all_of_it(evaluated: Path, browser: webdriver.Chrome) -> None:
    report(evaluated)
    metrics = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(f"file://{evaluated / 'report.html'}")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize(("scheme", "light"), [("light", True), ("dark", False)])
def test_dark_mode(evaluated: Path, browser: webdriver.Chrome, scheme: str, light: bool) -> None:
    report(evaluated)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(f"file://{evaluated / 'report.html'}")
    colours = "return ['backgroundColor', 'color'].map(c => getComputedStyle(document.body)[c])"
    paper, ink = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in browser.execute_script(colours))
    assert (paper > ink) == light
    letters = browser.execute_script("return getComputedStyle(document.querySelector('svg text')).fill")
    assert sum(map(int, re.findall(r"\d+", letters)[:3])) == ink
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def many(folder: Path, runs: int, queries: int) -> dict:
    """The evaluation of many runs, each like the second, over many queries."""
    results = json.loads((folder / "results.json").read_text())
    ours = results["runs"][1]
    names = ["bm25", *(f"run {n} of a long name, über größe" for n in range(1, runs))]
    per_query = {f"q{n}": 0.5 for n in range(queries)}
    results["runs"] = [{**ours, "name": name, "per_query": {"RR": per_query, "NumQ": per_query}} for name in names]
    found = results["comparisons"][0]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[:i]]
    results["comparisons"] = [{**found, "run": run, "against": against} for run, against in pairs]
    del results["sha256"]
    return results | {"sha256": sha256_json(results)}


def test_forty_runs_print_on_ten_pages(evaluated: Path, browser: webdriver.Chrome) -> None:
    (evaluated / "results.json").write_text(json.dumps(many(evaluated, 40, 200)))
    row = {"doc_id": "p2", "rank": 1, "score": 1.5, "label": "true", "explanation": "The passage is on owls. " * 5}
    lines = (json.dumps({"query_id": f"q{n}", **row}) + "\n" for n in range(100))
    (evaluated / "explained.jsonl").write_text("".join(lines))
    report(evaluated)
    browser.get(f"file://{evaluated / 'report.html'}")
    letters = browser.execute_script(
        "return [...document.querySelector('svg').querySelectorAll('text')].map(t => t.getBoundingClientRect())"
        ".filter(b => b.left < 300).map(b => [b.top, b.bottom, b.height])"
    )
    rows = sorted(letters)[1:41]  # the first is the title
    assert all(below[0] >= above[0] + 0.7 * above[2] for above, below in pairwise(rows))
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert 2 < len(re.findall(rb"/Type\s*/Page\b", printed)) <= 10


def test_numbers_stand_without_scripts(evaluated: Path, browser: webdriver.Chrome) -> None:
    report(evaluated)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(f"file://{evaluated / 'report.html'}")
    assert "1.0000" in " ".join(visible(browser, "table.means td"))
    assert len(visible(browser, "#explanations article")) == 3
    assert visible(browser, "#controls") == []
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_explanations_keep_their_order_and_ids_their_case(evaluated: Path) -> None:
    rows = [
        {"query_id": query, "doc_id": "p1", "rank": 1, "score": 1.5, "label": "true", "explanation": f"of {query}"}
        for query in ("q9", "Q1", "q1")
    ]
    (evaluated / "explained.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = report(evaluated)
    assert re.findall(r"<h3>(\S+) |<em>(.+)</em>", page.partition('<section id="explanations">')[2]) == [
        ("q9", ""), ("", "of q9"), ("Q1", ""), ("", "of Q1"), ("q1", ""), ("", "of q1"),
    ]  # fmt: skip


def test_queries_of_something_else_are_said(evaluated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (evaluated / "others.tsv").write_text("x1\tanother question\n")
    words = ["report", str(evaluated / "results.json"), "--output", str(evaluated / "page.html"), "--queries"]
    main([*words, str(evaluated / "others.tsv")])
    assert "others.tsv has none of the queries of these results" in capsys.readouterr().err
    main([*words, str(evaluated / "queries.tsv")])
    assert "none of the queries" not in capsys.readouterr().err


def test_the_same_results_give_the_same_page(evaluated: Path) -> None:
    for name in ("a.html", "b.html"):
        main(["report", str(evaluated / "results.json"), f"--output={evaluated / name}"])
    assert (evaluated / "a.html").read_bytes() == (evaluated / "b.html").read_bytes()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("results.json", "[]", "results version None, expected 3"),
        ("results.json", "{", "not valid JSON"),
        (
            "results.json",
            '{"results_version": 3, "runs": []}',
            "results.json: is not what `exaranker evaluate` wrote (its digest differs) (evaluate again)",
        ),
        (
            "explained.jsonl",
            '{"query_id": "q1"}\n',
            "explained.jsonl:1: the object lacks doc_id, rank, score, label, explanation",
        ),
        (
            "explained.jsonl",
            '{"query_id": "q1", "doc_id": "p1", "rank": 1, "score": "1.5", "label": "true", "explanation": ""}\n',
            'explained.jsonl:1: score is "1.5", expected a number',
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


def test_what_is_given_twice_or_is_no_day_is_refused(evaluated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, page = str(evaluated / "results.json"), str(evaluated / "page.html")
    twice = {
        "RESULTS": [results],
        "--metrics": ["--metrics", "a/metrics.jsonl", "./a/metrics.jsonl"],
        "--stages": ["--stages", "rerank.json", "rerank.json"],
        "--checkpoint": ["--checkpoint", "out/model", "out/model"],
    }
    for option, words in twice.items():
        with pytest.raises(SystemExit, match="2"):
            main(["report", results, *words, "--output", page])
        assert f"{option} {words[-1]} is given twice" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["report", results, "--date", "in winter", "--output", page])
    assert "argument --date: 'in winter' is not a day, such as 2026-01-31" in capsys.readouterr().err


def test_trainings_in_folders_of_one_name_both_have_their_curves(evaluated: Path) -> None:
    paths = [evaluated / folder / "model/metrics.jsonl" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_text('{"step": 10, "split": "train", "loss": 0.5}\n{"step": 20, "split": "train", "loss": 0.25}\n')
    words = [str(evaluated / "results.json"), "--metrics", *map(str, paths), f"--output={evaluated / 'page.html'}"]
    main(["report", *words])
    page = (evaluated / "page.html").read_text()
    assert "a/model, train</text>" in page
    assert "b/model, train</text>" in page
