"""BM25: Lucene's formula by hand, its analysis, ties, empty passages, and the command."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from exaranker.cli import main
from exaranker.evaluate import trec_eval
from exaranker.files.shipped import shipped
from exaranker.rank.bm25 import Bm25Index, Bm25Params, analyze, retrieve
from exaranker.rank.kept_index import open_index, save_index
from exaranker.texts.rows import read_texts

ANSERINI = Bm25Params(k1=0.9, b=0.4)
PASSAGES = {
    "p1": "Bees store honey in wax cells.",
    "p2": "Honey, honey and more honey: the bear ate it all.",
    "p3": "",
    "p4": "Glaciers carve valleys.",
    "p5": "The of and.",
}


@pytest.fixture(scope="module")
def index() -> Bm25Index:
    return Bm25Index.build(PASSAGES.items(), ANSERINI)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The patients' cats aren't running", ["patient", "cat", "aren't", "run"]),
        ("John's 3.5 mg in the U.S.A. today", ["john", "3.5", "mg", "u.s.a", "todai"]),
        ("naïve Straße 日本 ひら カナ", ["naïv", "straße", "日", "本", "ひ", "ら", "カナ"]),
        ("a b c", ["b", "c"]),
        ("10,000 km² at ½ of 3.5, then 12:30; a:b", ["10,000", "km", "3.5", "12", "30", "a:b"]),
        ("us, possibly technologies assembled", ["us", "possibl", "technolog", "assembl"]),
        ("trekking revved hissing nobly eulogy", ["trek", "rev", "hiss", "nobli", "eulogi"]),
        (
            "soft\u00adly cafe\u0301 zero\u200bwidth ____ snake_case",
            ["soft\u00adli", "cafe\u0301", "zero", "width", "snake_cas"],
        ),
        ("", []),
        ("...", []),
    ],
)
def test_analysis(text: str, terms: list[str]) -> None:
    assert analyze(text) == terms


@pytest.mark.skipif(trec_eval.unavailable() is not None, reason=str(trec_eval.unavailable()))
def test_analysis_is_lucene_s_term_by_term() -> None:
    """Over the whole sample, and over what word breaks and stems are known to get wrong."""
    sample = shipped("examples/sample")
    texts = [text for name in ("queries", "passages") for text in read_texts(sample / f"{name}.tsv").values()]
    texts += [
        "O'Neil's U.S.A. 3.5 1,000.50 km² ½ 12:30 a:b v1.2 x.5 5.x snake_case ____ it’s int‘l 1⁄2 e·g Ⅷ m²s",
        "possibly ably nobly technology biologies eulogy logy posologie trekking trekk revved hissing us as is vs",
        "naïve Straße cafe\u0301 soft\u00adly zero\u200bwidth mark\u200e 日本 ひら カナ 한국어 भारतीय",
        "one\u2028next\x85line\rthird",
    ]
    assert [analyze(text) for text in texts] == lucene(texts)


def lucene(texts: list[str]) -> list[list[str]]:
    """The terms of Anserini's English analyzer."""
    code = (
        "import json, sys; from pyserini.analysis import Analyzer, get_lucene_analyzer;"
        "analyzer = Analyzer(get_lucene_analyzer());"
        "json.dump([analyzer.analyze(text) for text in json.load(sys.stdin)], sys.stdout)"
    )
    environment = {**os.environ, "JAVA_HOME": str(trec_eval.find_jdk()), "OPENAI_API_KEY": "unused"}
    command = [sys.executable, "-c", code]
    return json.loads(subprocess.check_output(command, input=json.dumps(texts), text=True, env=environment))


def test_scores_are_lucenes(rounding: ModuleType, index: Bm25Index) -> None:
    # Terms: p1 bee store honei wax cell (5); p2 honei x3 more bear at all (7); p4 glacier carv vallei (3).
    average = (5 + 7 + 3) / 3
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))

    def expected(frequency: int, length: int) -> float:
        return idf * frequency / (frequency + 0.9 * (1 - 0.4 + 0.4 * length / average))

    first, second = index.search("q", "honey", k=10)
    rel = rounding.rounding(4, 1.0)  # fp32: idf, frequency, its part of the length, their quotient
    assert (first.doc_id, second.doc_id) == ("p2", "p1")
    assert first.score == pytest.approx(expected(3, 7), rel=rel)
    assert second.score == pytest.approx(expected(1, 5), rel=rel)


def test_a_repeated_query_term_counts_twice(index: Bm25Index) -> None:
    once, twice = index.search("q", "glacier", k=1), index.search("q", "glacier glaciers", k=1)
    assert twice[0].score == 2 * once[0].score


def test_passages_without_terms_never_match_and_are_not_counted(index: Bm25Index) -> None:
    assert index.doc_ids == ["p1", "p2", "p4"]
    assert index.search("q", "of the and", k=10) == []
    assert index.search("q", "unheard", k=10) == []


def test_ties_at_the_cut_do_not_depend_on_the_order_of_the_file() -> None:
    passages = [(f"d{i}", "one same text") for i in range(9)] + [("best", "same same same")]
    forwards = Bm25Index.build(passages, ANSERINI).search("q", "same", k=3)
    backwards = Bm25Index.build(reversed(passages), ANSERINI).search("q", "same", k=3)
    assert [doc.doc_id for doc in forwards] == ["best", "d8", "d7"]
    assert forwards == backwards


def test_k_larger_than_the_collection(index: Bm25Index) -> None:
    assert [doc.doc_id for doc in retrieve(index, {"q": "honey wax"}, k=1000)] == ["p1", "p2"]


def test_the_command_writes_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "queries.tsv").write_text("q1\tbear honey\nq2\tunheard of\n")
    (tmp_path / "corpus.jsonl").write_text(
        "".join(f'{{"_id": "{name}", "title": "", "text": "{text}"}}\n' for name, text in PASSAGES.items())
    )
    files = ["--queries", str(tmp_path / "queries.tsv"), "--passages", str(tmp_path / "corpus.jsonl")]
    main(["retrieve", *files, "--output", str(tmp_path / "run.trec"), "--k", "5"])
    lines = (tmp_path / "run.trec").read_text().splitlines()
    assert [line.split()[:4] for line in lines] == [["q1", "Q0", "p2", "1"], ["q1", "Q0", "p1", "2"]]
    told = capsys.readouterr()
    assert "2 passages for 1 of 2 queries, out of 3 indexed" in told.out
    assert "1 queries share no term" in told.err


@pytest.mark.parametrize(
    ("passages", "flags", "message"),
    [
        ("p1\ta b\np1\tc d\n", [], "passages.tsv:2: id 'p1' comes a second time"),
        ("p1\ta\tb\n", [], "passages.tsv:1: expected an id and a text as 2 tab-separated columns, got 3"),
        ("p 1\tbees\n", [], "passages.tsv:1: the id 'p 1' has a blank"),
        ("p1\tthe\n", [], "no passage has a single term to index"),
        ("p1\tbees\n", ["--k", "0"], "--k 0, expected at least 1"),
        ("p1\tbees\n", ["--b", "2"], "expected k1 >= 0 and 0 <= b <= 1"),
        ("", [], "passages.tsv: the file is empty"),
        ("p1\tbees\n", ["--output", "."], ".: is a folder, expected a file to write"),
    ],
)
def test_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], passages: str, flags: list[str], message: str
) -> None:
    (tmp_path / "queries.tsv").write_text("q1\tbees\n")
    (tmp_path / "passages.tsv").write_text(passages)
    files = ["--queries", str(tmp_path / "queries.tsv"), "--passages", str(tmp_path / "passages.tsv")]
    with pytest.raises(SystemExit) as stopped:
        main(["retrieve", *files, "--output", str(tmp_path / "run.trec"), *flags])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run.trec").exists()


def test_queries_and_passages_that_were_swapped_are_told_of(tmp_path, capsys):
    (tmp_path / "queries.tsv").write_text("q1\twhy do cats purr\n")
    (tmp_path / "passages.tsv").write_text("D1\tCats purr when they are calm, and also when they are in pain.\n")
    words = ["retrieve", f"--output={tmp_path / 'run.trec'}"]
    main([*words, f"--queries={tmp_path / 'queries.tsv'}", f"--passages={tmp_path / 'passages.tsv'}"])
    assert "swapped" not in capsys.readouterr().err
    main([*words, f"--queries={tmp_path / 'passages.tsv'}", f"--passages={tmp_path / 'queries.tsv'}"])
    assert "were --queries and --passages swapped?" in capsys.readouterr().err


def test_an_index_is_built_once_and_then_searched_where_it_lies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "queries.tsv").write_text("q1\tbear honey\nq2\tglaciers\nq3\tunheard\n")
    (tmp_path / "passages.tsv").write_text("".join(f"{name}\t{text}\n" for name, text in PASSAGES.items()))
    words = ["retrieve", f"--queries={tmp_path / 'queries.tsv'}", f"--output={tmp_path / 'run.trec'}"]
    from_passages = [*words, f"--passages={tmp_path / 'passages.tsv'}"]
    kept = f"--index={tmp_path / 'index'}"

    def written(arguments: list[str]) -> bytes:
        main(arguments)
        return (tmp_path / "run.trec").read_bytes()

    expected = written(from_passages)
    assert written([*from_passages, kept]) == expected
    assert "the index of 3 passages is kept in" in capsys.readouterr().err
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "index").iterdir()}
    assert written([*from_passages, kept]) == written([*words, kept]) == expected
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "index").iterdir()} == before

    assert refusal([*words, kept, "--k1=2"], capsys).endswith(
        "this index is of k1=0.9, b=0.4 (name another --index folder, or remove this one to have it built again)\n"
    )
    (tmp_path / "passages.tsv").write_text("p1\tother passages\n")
    assert "this index is of other passages" in refusal([*from_passages, kept], capsys)
    (tmp_path / "index" / "doc_ids.ends.npy").write_bytes(b"half")
    assert "this index is damaged" in refusal([*words, kept], capsys)


@pytest.mark.parametrize("kind", ["a file", "a folder of something else", "the folder of the run"])
def test_where_no_index_can_be_kept_no_passage_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    (tmp_path / "queries.tsv").write_text("q1\tbear honey\n")
    (tmp_path / "passages.tsv").write_text("one column, which would be refused if it were read\n")
    index, run = tmp_path / "index", tmp_path / "run.trec"
    if kind == "a file":
        index.write_text("mine")
        message = "Not a directory"
    elif kind == "a folder of something else":
        index.mkdir()
        (index / "mine").touch()
        message = "already exists and is not empty (name a folder that does not exist yet)"
    else:
        run = index / "run.trec"
        message = "index/run.trec: is where --index keeps the passages (name a file beside that folder)"
    texts = [f"--queries={tmp_path / 'queries.tsv'}", f"--passages={tmp_path / 'passages.tsv'}"]
    assert message in refusal(["retrieve", *texts, f"--index={index}", f"--output={run}"], capsys)
    assert not run.exists()


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_a_kept_index_maps_its_files(tmp_path: Path, index: Bm25Index) -> None:
    save_index(index, ["passages.tsv"], tmp_path / "index")
    opened = open_index(tmp_path / "index")
    assert isinstance(opened.scores.scores["data"], np.memmap)
    assert dict(opened.terms) == dict(index.terms)
    assert list(opened.doc_ids) == list(index.doc_ids)
    assert opened.search("q", "honey wax", k=10) == index.search("q", "honey wax", k=10)


def test_a_query_s_own_passage_may_be_left_out(index: Bm25Index) -> None:
    assert [doc.doc_id for doc in retrieve(index, {"p2": "honey"}, k=1, ignore_identical_ids=True)] == ["p1"]
