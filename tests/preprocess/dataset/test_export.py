"""Explanations out again: the forms that others read, and back through `explain --engine given`."""

import csv
import gzip
import json
import os

import pyarrow.parquet
import pytest
from huggingface_hub import DatasetCard

from exaranker import cli
from exaranker.errors import InputError
from exaranker.preprocess.dataset.export import export_explanations
from exaranker.schema import read_shard, shard_paths

PAIRS = [
    {"query_id": "q1", "doc_id": "d1", "query": "what is é", "passage": 'It says "é".\tYes', "label": 2},
    {"query_id": "q2", "doc_id": "d2", "query": "who", "passage": "Iron\nrusts.", "label": 0},
    {"query_id": "q3", "doc_id": "d3", "query": "why", "passage": "Because.", "label": 1},
]
REASONS = ["It names the letter.", "It names nobody.", 'It says "because".']


def given(path, out, *words):
    cli.main(["explain", "--engine", "given", "--pairs", str(path), "--output_dir", str(out), *words])
    return [row for shard in shard_paths(out) for row in read_shard(shard)]


@pytest.fixture
def dataset(tmp_path):
    rows = [
        {**pair, "explanation": why, "soft_label": 0.25, "explainer": "llama"}
        for pair, why in zip(PAIRS, REASONS, strict=True)
    ]
    path = tmp_path / "given.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {**rows[0], "query": "x", "explanation": ""}]))
    given(path, tmp_path / "data", "--shard_size", "2")
    return tmp_path / "data"


def test_json_lines_come_back_as_they_were(dataset, tmp_path):
    out = tmp_path / "published/explanations.jsonl.gz"
    assert export_explanations(dataset, out).rows == 3
    first = json.loads(gzip.decompress(out.read_bytes()).splitlines()[0])
    assert first == {
        **PAIRS[0],
        "relevant": 1,
        "explanation": "It names the letter.",
        "explainer": "llama",
        "finish_reason": "stop",
        "num_tokens": 0,
        "mean_logprob": 0.0,
        "soft_label": 0.25,
    }
    rows = [row for shard in shard_paths(dataset) for row in read_shard(shard)]
    assert given(out, tmp_path / "again") == rows


def test_parquet(dataset, tmp_path):
    export_explanations(dataset, tmp_path / "published/explanations.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "published/explanations.parquet")
    assert table.column("explanation").to_pylist() == REASONS
    assert table.schema.field("soft_label").type == "float"


def test_the_released_form_is_that_of_the_reference(dataset, tmp_path, capsys):
    out = tmp_path / "published/released.tsv"
    cli.main(["export-explanations", str(dataset), "--output", str(out)])
    assert f"wrote 3 rows (2 relevant) to {out}, and README.md beside it" in capsys.readouterr().out
    with out.open(encoding="utf-8", newline="") as stream:
        header, first, _, third = csv.reader(stream, delimiter="\t")
    assert header == ["label", "input", "output"]
    text = 'Is the question: "what is é" answered by the document: "It says "é".\tYes"? Give an explanation.'
    assert first == ["1", text, "true. Explanation: It names the letter."]
    assert third[2] == 'true. Explanation: It says "because".'
    back = given(out, tmp_path / "again", "--explainer", "llama")
    assert [(row.query, row.passage, row.relevant, row.explanation) for row in back] == [
        (pair["query"], pair["passage"], int(pair["label"] > 0), why) for pair, why in zip(PAIRS, REASONS, strict=True)
    ]


def test_rows_that_nobody_can_take_apart_are_counted(tmp_path, capsys):
    row = {"query": 'a" answered by the document: "b', "passage": "p", "label": 1, "explanation": "It says so."}
    (tmp_path / "given.jsonl").write_text(json.dumps(row) + "\n")
    given(tmp_path / "given.jsonl", tmp_path / "data")
    cli.main(["export-explanations", str(tmp_path / "data"), "--output", str(tmp_path / "published/r.tsv")])
    assert "1 rows have the template's own words in them" in capsys.readouterr().err


def test_the_card_says_whose_words_they_are(dataset, tmp_path):
    export_explanations(dataset, tmp_path / "published/explanations.jsonl")
    card = DatasetCard.load(tmp_path / "published/README.md")
    assert card.data.license == "other"
    assert card.data.size_categories == ["n<1K"]
    assert card.data.configs == [{"config_name": "default", "data_files": "explanations.jsonl"}]
    for words in (
        "| rows | 3 |",
        "| of these relevant | 2 |",
        "- `llama`: 3",
        "- `empty`: 1",
        "| pairs | `given.jsonl` |",
    ):
        assert words in card.text


def test_what_is_refused_leaves_nothing(dataset, tmp_path):
    with pytest.raises(InputError, match=r"x\.csv: this suffix names no format .one of \.jsonl, "):
        export_explanations(dataset, tmp_path / "published/x.csv")
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InputError, match=r"README\.md: is not a card of ours"):
        export_explanations(dataset, tmp_path / "x.jsonl")
    os.truncate(shard_paths(dataset)[1], 20)
    with pytest.raises(InputError, match=r"20 bytes, the manifest says"):
        export_explanations(dataset, tmp_path / "published/x.jsonl")
    assert (tmp_path / "README.md").read_text() == "mine"
    assert not (tmp_path / "published/x.jsonl").exists()
