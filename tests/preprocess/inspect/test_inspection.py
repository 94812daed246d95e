import json
import re
from html.parser import HTMLParser

import pytest

from exaranker.cli import main
from exaranker.errors import InputError
from exaranker.preprocess.engines.base import Completion
from exaranker.preprocess.explain import explain
from exaranker.preprocess.inspect.inspection import inspect
from exaranker.preprocess.inspect.page import page
from exaranker.preprocess.inspect.report import histogram, report
from exaranker.preprocess.pairs.text import with_text_ids

ATTACK = "<script>alert('x')</script><img src=x onerror=alert(1)></td></table>&lt;b&gt; \u202eesrever \"quoted\""


class Page(HTMLParser):
    """The page as a browser sees it: its tags with their attributes, and each cell's text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.cells, self.text, self.in_cell = [], [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.in_cell = tag == "td"
        if self.in_cell:
            self.cells.append("")

    def handle_endtag(self, tag):
        self.in_cell = False

    def handle_data(self, data):
        self.text += data
        if self.in_cell:
            self.cells[-1] += data


@pytest.fixture
def dataset(tmp_path, make_job, pairs, function_engine):
    """Ten pairs in three shards, of which the second pair's answer is empty; nine texts of 5 to 13 words."""
    answers = iter(["it says so.", "", *(f"it says {'so ' * i}much." for i in range(2, 10))])
    engine = function_engine(lambda prompt: Completion(next(answers), "stop", 4, -0.5))
    explain(make_job(pairs, engine, filters=("empty",)), tmp_path / "data")
    return tmp_path / "data"


def set_seconds(dataset, *seconds):
    names = sorted(path.name for path in dataset.glob("*.tfrecord"))
    run = {"sessions": [], "seconds": dict(zip(names, seconds, strict=False))}
    (dataset / "run.json").write_text(json.dumps(run))


def test_figures(dataset):
    set_seconds(dataset, 2.0, 1.0, 1.0)
    lines = report(inspect(dataset, num_examples=0), usd_per_hour=9.0).splitlines()
    assert lines[0] == f"{dataset}: 3 shards, every checksum holds"
    assert lines[1:4] == [
        "explained   9 of 10 pairs (5 relevant, 4 not)",
        "labels      0: 4, 1: 5",
        "input       list: 10 rows, 0 duplicates, 0 with another label, 0 repeated ids, 0 blank",
    ]
    assert lines[5:9] == [
        "engine      function 1",
        "repeatable  always",
        "rejected    1 (empty 1)",
        "speed       10 tokens/s, 400 s per 1,000 pairs, $1.00 per 1,000 pairs at $9 an hour",
    ]


def test_speed_only_counts_shards_with_known_times(dataset):
    set_seconds(dataset, 2.0)
    assert "speed       8 tokens/s, 500 s per 1,000 pairs" in report(inspect(dataset, 0))
    (dataset / "run.json").unlink()
    assert "speed       unknown: no times in run.json" in report(inspect(dataset, 0), usd_per_hour=9.0)


def test_length_histogram(dataset):
    """With "The passage is [not] relevant because" before the answers: 8, 10, 12, 12, 14, 14, 16, 16 and 18 words."""
    found = inspect(dataset, 0)
    assert found.lengths == {0: 1, 1: 8}
    assert found.median_words == 14
    assert [line.split() for line in histogram(found.lengths)] == [["0-9", "1", 5 * "#"], ["10-19", "8", 40 * "#"]]


def test_examples_are_spread_over_the_dataset(dataset):
    assert [row.query for row in inspect(dataset, 3).examples] == ["question 0", "question 4", "question 7"]
    assert inspect(dataset, 0).examples == []
    assert len(inspect(dataset, 100).examples) == 9


@pytest.mark.parametrize("pattern", ["explanations-00001*.tfrecord", "rejected-00000*.jsonl"])
@pytest.mark.parametrize("damage", ["alter", "truncate", "remove"])
def test_damage_is_found(dataset, pattern, damage):
    [path] = dataset.glob(pattern)
    data = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if damage == "truncate" else data[:9] + bytes([data[9] ^ 1]) + data[10:])
    message = {"remove": "but it is missing", "truncate": rf"{len(data) - 1} bytes, the manifest says {len(data)}"}
    expected = rf"{re.escape(path.name)}: .*{message.get(damage, 'sha256 .*, the manifest says')}"
    with pytest.raises(InputError, match=expected + r".*\(run the same `exaranker explain` command again"):
        inspect(dataset)


def test_an_unfinished_dataset_is_refused(dataset):
    manifest = json.loads((dataset / "manifest.json").read_text())
    manifest["shards"].pop()
    manifest["complete"] = False
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="the dataset is unfinished: 2 of 3 shards"):
        inspect(dataset)


@pytest.fixture
def hostile(tmp_path, make_job, function_engine):
    answers = iter([ATTACK, ""])
    engine = function_engine(lambda prompt: Completion(next(answers), "stop", 3, -0.1))
    rows = [with_text_ids(f"{ATTACK} {i}", f"{ATTACK} passage {i} \x1b[2J", i) for i in range(2)]
    explain(make_job(rows, engine, filters=("empty",)), tmp_path / "<b>data")
    return tmp_path / "<b>data"


def test_no_text_becomes_markup(hostile):
    set_seconds(hostile, 1.0)
    found = inspect(hostile, 5)
    seen = Page(page(found, usd_per_hour=1.0))
    tags = {tag for tag, _ in seen.tags}
    allowed = {"html", "meta", "title", "style", "h1", "h2", "pre", "div", "span", "table", "tr", "th", "td"}
    assert tags <= allowed
    attributes = {name for _, attrs in seen.tags for name in attrs}
    assert attributes <= {"lang", "charset", "class", "style", "title", "http-equiv", "content"}
    assert ("default-src 'none'") in dict(seen.tags[2][1])["content"]
    [row] = found.examples
    assert seen.cells[:4] == ["not relevant (0)", row.query, row.passage, row.explanation]
    assert seen.cells[4].startswith("empty (1)")
    assert row.explanation.endswith(ATTACK)
    assert "<b>data" in seen.text
    assert "per 1,000 pairs at $1 an hour" in seen.text


def test_every_field_of_a_rejected_row_is_escaped(hostile):
    found = inspect(hostile, 0)
    [record] = [shard["rejected"] for shard in found.manifest["shards"]]
    path = hostile / record["file"]
    path.write_text(json.dumps(dict.fromkeys(("query", "passage", "label", "reason", "text"), ATTACK)))
    assert "script" not in {tag for tag, _ in Page(page(found)).tags}
    path.write_text('{"query": 1}')
    with pytest.raises(InputError, match=r"rejected-.*:1: the object lacks passage, label, reason, text"):
        page(found)


def test_a_terminal_gets_no_escape_codes(hostile):
    text = report(inspect(hostile, 5))
    assert "passage 0  [2J" in text
    assert not set(text) & {"\x1b", "\u202e"}


def test_the_command(dataset, capsys, tmp_path):
    main(["inspect", str(dataset), "--examples", "2", "--usd_per_hour", "3", "--html", str(tmp_path / "page.html")])
    out = capsys.readouterr().out
    assert "every checksum holds" in out
    assert f"page        {tmp_path / 'page.html'}" in out
    assert Page((tmp_path / "page.html").read_text()).text.count("question ") == 3  # two examples, one rejected row
    (dataset / "manifest.json").unlink()
    with pytest.raises(SystemExit) as done:
        main(["inspect", str(dataset)])
    assert done.value.code == 2
    assert "no manifest.json here, so this is not a dataset" in capsys.readouterr().err
