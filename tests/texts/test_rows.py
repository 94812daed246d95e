"""Queries and passages in every form of the field's tools: one row each, or one line that says what is wrong."""

import gzip
import json
from pathlib import Path

import pytest

from exaranker.errors import InputError
from exaranker.texts.rows import iter_texts, read_text_rows, read_texts


def test_texts_of_every_form_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("p1\tThe tibia is strong.\np2\t\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(
        '{"_id": "p1", "title": "", "text": "The tibia is strong."}\n{"_id": "p2", "text": ""}\n'
    )
    with gzip.open(tmp_path / "c.jsonl.gz", "wb") as stream:
        stream.write(b'{"id": "p1", "contents": "The tibia is strong."}\n{"id": "p2", "contents": ""}\n')
    expected = {"p1": "The tibia is strong.", "p2": ""}
    assert [read_texts(tmp_path / name) for name in ("a.tsv", "b.jsonl", "c.jsonl.gz")] == [expected] * 3


def test_a_title_goes_before_its_text_and_ids_may_be_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"_id": 7, "title": "Tibia", "text": "A bone é."}\n')
    assert list(read_text_rows(tmp_path / "a.jsonl")) == [(1, "7", "Tibia A bone é.")]


def test_only_wanted_texts_are_kept_and_others_may_come_twice(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("p1\ta\np2\tb\np1\tc\n")
    assert read_texts(tmp_path / "a.tsv", wanted={"p2"}) == {"p2": "b"}
    with pytest.raises(InputError, match=r"a\.tsv:3: id 'p1' comes a second time \(ids are unique\)"):
        read_texts(tmp_path / "a.tsv", wanted={"p1"})


def test_texts_hold_any_character_but_tab_and_newline(tmp_path: Path) -> None:
    text = "a\x85b\u2028c\u2029d\re"
    (tmp_path / "a.tsv").write_bytes(f"p1\t{text}\np2\t{text}\r\n".encode())
    assert read_texts(tmp_path / "a.tsv") == {"p1": text, "p2": text}


def test_texts_are_streamed(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("p1\ta\nbroken\n")
    assert next(iter_texts(tmp_path / "a.tsv")) == ("p1", "a")


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("a.tsv", "\ttext", r"a\.tsv:2: expected an id and a text as 2 tab-separated columns, got 2: '\\ttext'"),
        ("a.tsv", "p2 text", r"a\.tsv:2: expected an id and a text as 2 tab-separated columns, got 1: 'p2 text'"),
        ("a.tsv", "p\u00a02\ttext", r"a\.tsv:2: the id 'p\\xa02' has a blank, which a TREC run cannot hold"),
        ("a.jsonl", '{"_id": "p2"}', r'a\.jsonl:2: expected an id and a text as {"_id", "text"} or {"id", "contents"}'),
        ("a.jsonl", '["p2", "text"]', r"a\.jsonl:2: expected an id and a text"),
        ("a.jsonl", '{"_id": "p2", "text": null}', r"a\.jsonl:2: expected an id and a text"),
        ("a.jsonl", '{"_id": null, "text": "two"}', r"a\.jsonl:2: expected an id and a text"),
        (
            "a.jsonl",
            '{"_id": "p2", "_id": "p3", "text": "b"}',
            r"a\.jsonl:2: the field '_id' comes twice in one object",
        ),
        ("a.jsonl", "{", r"a\.jsonl:2: expected an id and a text"),
        ("a.jsonl", r'{"_id": "p2", "text": "half \ud83d"}', r"a\.jsonl:2: the text has half of a surrogate pair"),
    ],
)
def test_bad_lines_of_texts(tmp_path: Path, name: str, line: str, message: str) -> None:
    first = {"a.tsv": "p1\tone", "a.jsonl": '{"_id": "p1", "text": "one"}'}[name]
    (tmp_path / name).write_text(f"{first}\n{line}\n")
    with pytest.raises(InputError, match=message):
        read_texts(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tevatron.jsonl", '{"docid":"D1","title":"Cats","text":"They purr."}\n'),
        ("irds.jsonl", '{"doc_id":"D1","title":"Cats","body":"They purr."}\n'),
        ("BEIR.JSONL", '{"_id":"D1","title":"Cats","text":"They purr.","metadata":{}}\n'),
        ("queries.jsonl", '{"query_id":"D1","query":"Cats They purr."}\n'),
        ("docs.tsv", "D1\thttps://example.org/cats\tCats\tThey purr.\n"),
        ("header.tsv", "id\ttext\nD1\tCats They purr.\n"),
    ],
)
def test_forms_of_texts_that_are_sure(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert read_texts(tmp_path / name) == {"D1": "Cats They purr."}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("301 a\tD10\twhy do cats purr\tCats purr.\n", r":1: expected .* 2 tab-separated columns, got 4"),
        ("301\tD10\twhy\tCats.\n302\tD10\thow\n", r":2: expected .* \(query id, passage id, query, passage\), got 3"),
        ('{"id": "D1", "text": "Cats"}\n', r":1: expected .*these are JSON lines: name the file \*\.jsonl"),
        ("q1\tone\n\n", r":2: expected .*remove this blank line"),
    ],
)
def test_forms_of_texts_that_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "texts.tsv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_texts(tmp_path / "texts.tsv")


def test_separators_within_a_text_are_kept(tmp_path: Path) -> None:
    text = "a\u2028b\x85c\u2029d\x0be\x0cf\x1cg"
    (tmp_path / "texts.tsv").write_bytes(f"D1\t{text}\r\n".encode())
    (tmp_path / "texts.jsonl").write_bytes(json.dumps({"id": "D1", "text": text}, ensure_ascii=False).encode())
    assert read_texts(tmp_path / "texts.tsv") == read_texts(tmp_path / "texts.jsonl") == {"D1": text}


def test_a_row_of_top1000_is_a_query_and_a_passage(tmp_path: Path) -> None:
    path = tmp_path / "top1000.dev"
    path.write_text("301\tD10\twhy do cats purr\tThey are calm.\n301\tD11\twhy do cats purr\tBricks.\n")
    assert read_texts(path, part="queries") == {"301": "why do cats purr"}
    assert read_texts(path) == {"D10": "They are calm.", "D11": "Bricks."}
    path.write_text("301\tD10\twhy\tThey are calm.\n302\tD10\thow\tThey are not.\n")
    with pytest.raises(InputError, match=r"top1000\.dev:2: id 'D10' comes a second time with another text"):
        read_texts(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("docs.tsv", "id\turl\ttitle\tbody\nD1\thttps://example.org/cats\tCats\tThey purr.\n"),
        ("corpus.jsonl", '{"docid":"D1","title":"Cats","text":"They purr."}\n'),
        ("msmarco_v2.jsonl", '{"pid":"D1","passage":"They purr.","docid":"other"}\n'),
    ],
)
def test_titles_may_be_left_out(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert read_texts(tmp_path / name, title="none") == {"D1": "They purr."}
