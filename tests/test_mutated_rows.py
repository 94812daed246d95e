"""10,000 mutated rows: each reader of rows either names the place, or gives what the lines say.

What a line says is read here a second time, in a few lines that share nothing with the readers.
"""

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from exaranker import trec
from exaranker.errors import InputError
from exaranker.evaluate.report_data import read_explanations
from exaranker.preprocess.pairs.explained import read_explained
from exaranker.preprocess.pairs.json_rows import read_jsonl
from exaranker.preprocess.pairs.text import InputConfig, read_tsv, text_id
from exaranker.preprocess.pairs.triples import read_triples
from exaranker.texts.rows import iter_texts

ROWS = 10_000  # over all forms
HOSTILE = [b"\t", b"\n", b"\r", b"\r\n", b'"', b"\\", b"\0", b"\xff", b"\xef\xbb\xbf", "é".encode(), b" ", b"{", b"]"]
HOSTILE += [b"NaN", b"-1", b"1e999", b"1.5", b"1_0", b"null", b"true", b"[]", b"{}", b'"\\ud800"', b"9" * 30, b"0x1"]
HOSTILE += ["٣".encode(), b"\xc2\xa0", b"\xe2\x80\xa8", b"[" * 3000]
PLAIN = InputConfig(quotes="none", triples="full")
TOKEN = re.compile(rb'"[^"]*"|[^\t {}:,"]+')

Read = Callable[[Path], list[Any]]


class Form(NamedTuple):
    """Lines of a file, their reader, and what one line says."""

    lines: list[bytes]
    read: Read
    says: Callable[[str], Iterator[Any]]


def tab_pair(line: str) -> Iterator[Any]:
    label, query, passage = line.split("\t")
    yield int(float(label)), query, passage


def tab_triple(line: str) -> Iterator[Any]:
    query, positive, negative = line.split("\t")
    yield from ((1, query, positive), (0, query, negative))


def objects(line: str) -> Any:
    """What the line says as JSON, which has no NaN and no Infinity."""
    return json.loads(line, parse_constant=pytest.fail)


def json_pair(line: str) -> Iterator[Any]:
    row = objects(line)
    ids = [row.get("query_id"), row.get("doc_id")]
    texts = row["query"], row["passage"]
    ids = [text_id(text) if given in (None, "") else str(given) for given, text in zip(ids, texts, strict=True)]
    yield *ids, *texts, int(row["label"])


def json_explained(line: str) -> Iterator[Any]:
    row = objects(line)
    yield *next(json_pair(line)), (row["explanation"] or "").strip()


def tab_text(line: str) -> Iterator[Any]:
    name, text = line.split("\t")
    yield name, text


def json_text(line: str) -> Iterator[Any]:
    row = objects(line)
    identifier = row["_id"] if "_id" in row else row["id"]
    title = [] if row.get("title") in (None, "") else [row["title"]]
    yield str(identifier), " ".join([*title, row["text"]])


def run_row(line: str) -> Iterator[Any]:
    query, _, doc, _, score, _ = re.split("[ \t\r\f\v]+", line.strip(" \t\r\f\v"))
    yield query, doc, float(score)


def qrel(line: str) -> Iterator[Any]:
    query, _, doc, grade = re.split("[ \t\r\f\v]+", line.strip(" \t\r\f\v"))
    yield query, doc, int(grade)


FORMS = {
    "pairs.tsv": Form(
        [f"{n % 2}\tquestion {n}\tpassage {n}".encode() for n in range(5)],
        lambda path: [(pair.label, pair.query, pair.passage) for pair in read_tsv(path, PLAIN)],
        tab_pair,
    ),
    "triples.tsv": Form(
        [f"question {n}\tpositive {n}\tnegative {n}".encode() for n in range(5)],
        lambda path: [(pair.label, pair.query, pair.passage) for pair in read_triples(path, PLAIN)],
        tab_triple,
    ),
    "pairs.jsonl": Form(
        [
            b'{"query_id": "q%d", "doc_id": %d, "query": "why %d", "passage": "so", "label": %d}' % (n, n, n, n % 3)
            for n in range(5)
        ],
        lambda path: [tuple(pair) for pair in read_jsonl(path)],
        json_pair,
    ),
    "explained.jsonl": Form(
        [b'{"query": "why %d", "passage": "so", "label": 1, "explanation": "it says so"}' % n for n in range(5)],
        lambda path: [(*row[:5], row.explanation) for row in read_explained(path, InputConfig())],
        json_explained,
    ),
    "passages.tsv": Form(
        [b"p%d\ta passage of %d" % (n, n) for n in range(5)], lambda path: list(iter_texts(path)), tab_text
    ),
    "passages.jsonl": Form(
        [b'{"_id": "p%d", "title": "On %d", "text": "a passage"}' % (n, n) for n in range(5)],
        lambda path: list(iter_texts(path)),
        json_text,
    ),
    "run.trec": Form(
        [b"q%d Q0 d%d 1 %d.5 tag" % (n, n, n) for n in range(5)],
        lambda path: [tuple(row) for row in trec.read_run(path)],
        run_row,
    ),
    "qrels.txt": Form(
        [b"q%d 0 d%d %d" % (n, n, n) for n in range(5)],
        lambda path: [tuple(row) for row in trec.read_qrels(path)],
        qrel,
    ),
    "run.explanations.jsonl": Form(
        [
            b'{"query_id": "q", "doc_id": "d%d", "rank": %d, "score": 1.5, "label": "a", "explanation": "so"}' % (n, n)
            for n in range(5)
        ],
        lambda path: read_explanations(path),
        lambda line: iter([objects(line)]),
    ),
}


def mutated(lines: list[bytes], seeded: random.Random) -> bytes:
    """The lines with one of them, not the first, changed at one place."""
    lines = list(lines)
    number = seeded.randrange(1, len(lines))
    line, at = lines[number], seeded.randrange(len(lines[number]))
    end = min(len(line), at + seeded.randrange(1, 9))
    token = seeded.choice(list(TOKEN.finditer(line)))
    hostile = seeded.choice(HOSTILE)
    lines[number] = seeded.choice(
        [
            line[:at] + bytes([line[at] ^ 1 << seeded.randrange(8)]) + line[at + 1 :],
            line[:at] + hostile + line[at:],
            line[: token.start()] + hostile + line[token.end() :],
            line[:at] + line[end:],
            line[:end] + line[at:],
            lines[number - 1],
            line + b"\n" + line,
        ]
    )
    return b"\n".join(lines) + b"\n"


@pytest.mark.parametrize("name", FORMS)
def test_a_mutated_row_is_refused_by_its_place_or_read_as_it_is(name, tmp_path):
    form, seeded, path, outcomes = FORMS[name], random.Random(name), tmp_path / name, set()
    for _ in range(ROWS // len(FORMS) + 1):
        content = mutated(form.lines, seeded)
        path.write_bytes(content)
        try:
            rows = form.read(path)
        except InputError as error:
            reason = str(error)
        else:
            lines = content.decode().removesuffix("\n").split("\n")
            expected = [row for line in lines for row in form.says(line.rstrip("\r"))]
            assert rows == expected, content
            outcomes.add("read")
            continue
        assert re.match(rf"{re.escape(str(path))}:[2-6]: ", reason), content
        outcomes.add("refused")
    assert outcomes == {"refused", "read"}
