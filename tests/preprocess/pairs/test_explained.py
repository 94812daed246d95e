import csv
import json

import pytest

from exaranker import cli
from exaranker.errors import InputError
from exaranker.preprocess.pairs.explained import GivenPair, read_explained, taken_apart
from exaranker.preprocess.pairs.sources import open_given
from exaranker.preprocess.pairs.text import InputConfig, text_id
from exaranker.schema import read_manifest, read_shard, shard_paths
from exaranker.templates import EXARANKER


def released(path, rows):
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t")
        writer.writerow(["label", "input", "output"])
        writer.writerows(rows)
    return path


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def explained(path, **config):
    return list(read_explained(path, InputConfig(**config)))


ROWS = [
    (1, EXARANKER.fill("what is é", 'It says "é".'), "true. Explanation: It names the letter."),
    (0, EXARANKER.fill("who", "Iron rusts."), "false. Explanation: It names nobody."),
]


def test_a_released_file_by_hand(tmp_path):
    """The bytes of the authors' form: every input has quotes, so it is quoted and they are doubled."""
    path = tmp_path / "released.tsv"
    text = '"Is the question: ""who"" answered by the document: ""He did.""? Give an explanation."'
    path.write_text(f"label\tinput\toutput\r\n1\t{text}\ttrue. Explanation: so\r\n", newline="")
    expected = GivenPair(text_id("who"), text_id("He did."), "who", "He did.", 1, "so", "llama")
    assert explained(path, explainer="llama") == [expected]


def test_released_rows_become_pairs(tmp_path):
    first, second = explained(released(tmp_path / "r.tsv", ROWS), positive_grade=2)
    assert first[2:6] == ("what is é", 'It says "é".', 2, "It names the letter.")
    assert second[2:6] == ("who", "Iron rusts.", 0, "It names nobody.")
    assert {first.problem, second.problem} == {""}


@pytest.mark.parametrize(
    ("text", "output", "problem"),
    [
        ("Query: q Document: d", "true. Explanation: so", "not_taken_apart"),
        (EXARANKER.fill("q", 'p" answered by the document: "r'), "true. Explanation: so", "not_taken_apart"),
        (EXARANKER.fill("q", "p"), "It says so.", "not_taken_apart"),
        (EXARANKER.fill("q", "p"), "false. Explanation: so", "other_verdict"),
    ],
)
def test_rows_that_are_not_understood_are_kept_with_the_reason(tmp_path, text, output, problem):
    [row] = explained(released(tmp_path / "r.tsv", [(1, text, output)]))
    assert row.problem == problem
    assert problem == "other_verdict" or (row.query, row.passage, row.explanation) == ("", text, output)


def test_taking_apart_never_guesses():
    text = EXARANKER.fill('a "b"', 'c" ? "d')
    assert taken_apart(text) == ('a "b"', 'c" ? "d')
    assert taken_apart(EXARANKER.fill('a" answered by the document: "b', "c")) is None
    assert taken_apart(text[1:]) is None
    assert taken_apart('Is the question: "Give an explanation.') is None


def test_a_released_label_is_0_or_1(tmp_path):
    with pytest.raises(InputError, match=r"r.tsv:2: label '2', expected 0 or 1"):
        explained(released(tmp_path / "r.tsv", [(2, *ROWS[0][1:])]))
    with pytest.raises(InputError, match=r"r.tsv:3: expected 3 columns \(label, input, output\), got 2"):
        explained(released(tmp_path / "r.tsv", [ROWS[0], ROWS[1][:2]]))


def test_jsonl_rows(tmp_path):
    row = {"query_id": "q", "doc_id": "d", "query": "who", "passage": "he", "label": 1, "explanation": " so "}
    rows = [row, {**row, "explainer": "gpt-3.5", "explanation": None}]
    first, second = explained(jsonl(tmp_path / "g.jsonl", rows), explainer="me")
    assert first == GivenPair("q", "d", "who", "he", 1, "so", "me")
    assert second == GivenPair("q", "d", "who", "he", 1, "", "gpt-3.5")
    soft = [{**row, "soft_label": value} for value in (0.25, 1)]
    assert [one.soft_label for one in explained(jsonl(tmp_path / "g.jsonl", soft))] == [0.25, 1.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"explanation": 3}, "'explanation' is 3, expected a string"),
        ({"soft_label": 1.5}, "soft_label is 1.5, expected a probability"),
        ({"soft_label": True}, "soft_label is True, expected a probability"),
        ({"soft_label": 0.5}, "some rows have a soft_label and others have not"),
        ({"explainer": ["a"]}, r"'explainer' is \['a'\], expected a string"),
    ],
)
def test_bad_jsonl_rows(tmp_path, changes, message):
    row = {"query": "who", "passage": "he", "label": 1, "explanation": "so"}
    with pytest.raises(InputError, match=rf"g.jsonl:2: {message}"):
        explained(jsonl(tmp_path / "g.jsonl", [row, {**row, **changes}]))
    with pytest.raises(InputError, match=r"g.jsonl:1: 'explanation' is missing \(--engine given takes explanations"):
        explained(jsonl(tmp_path / "g.jsonl", [{"query": "who", "passage": "he", "label": 1}]))


def test_rows_of_ids_are_joined(tmp_path):
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "how tall"}\n')
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1", "title": "Tower", "text": "330 m"}\n')
    row = {"query_id": "q1", "doc_id": "d1", "label": 1, "explanation": "It gives the height."}
    source = open_given(str(jsonl(tmp_path / "g.jsonl", [row])), InputConfig(), str(tmp_path))
    expected = [GivenPair("q1", "d1", "how tall", "Tower 330 m", 1, "It gives the height.", "unknown")]
    assert list(source.reader()) == list(source.reader()) == expected


def explain(*words):
    cli.main(["explain", "--engine", "given", *map(str, words)])


@pytest.mark.parametrize("first", ["1\tIs it so?\tIt is.", "label;input;output", "Label\tInput\tOutput"])
def test_a_table_of_another_form_gets_a_tables_remedy(first, tmp_path):
    path = tmp_path / "mine.tsv"
    path.write_text(f"{first}\n1\ta\tb\n")
    with pytest.raises(InputError, match=r"mine.tsv:1: not the first line .*label, input and output, .* by tabs"):
        list(read_explained(path, InputConfig()))


def test_a_dataset_of_no_rows_is_no_success(tmp_path, capsys):
    path = released(tmp_path / "r.tsv", [(1, "neither", "nor")])
    for _ in range(2):
        with pytest.raises(SystemExit) as stop:
            explain("--pairs", path, "--output_dir", tmp_path / "out")
        assert stop.value.code == 2
        assert "0 of 1 pairs explained in 1 shards; 1 rejected: not_taken_apart 1" in capsys.readouterr().err
    [side] = (tmp_path / "out").glob("rejected-*.jsonl")
    assert json.loads(side.read_text())["passage"] == "neither"


def test_a_released_file_becomes_a_dataset(tmp_path, capsys):
    rows = [*ROWS, (1, "neither", "nor"), (1, EXARANKER.fill("why", "so"), "true. Explanation: ")]
    path, out = released(tmp_path / "r.tsv", rows), tmp_path / "out"
    words = ("--pairs", path, "--explainer", "text-davinci-002", "--shard_size", 2, "--output_dir", out)
    explain(*words)
    assert "2 of 4 pairs explained in 2 shards; 2 rejected: empty 1, not_taken_apart 1" in capsys.readouterr().out
    kept = [row for shard in shard_paths(out) for row in read_shard(shard)]
    assert [(row.query, row.relevant, row.explanation, row.explainer) for row in kept] == [
        ("what is é", 1, "It names the letter.", "text-davinci-002"),
        ("who", 0, "It names nobody.", "text-davinci-002"),
    ]
    [side] = out.glob("rejected-*.jsonl")
    rejected = [json.loads(line) for line in side.read_text().splitlines()]
    assert [(row["passage"], row["text"], row["reason"]) for row in rejected] == [
        ("neither", "nor", "not_taken_apart"),
        ("so", "", "empty"),
    ]
    assert read_manifest(out)["settings"]["given"]["explainers"] == {"text-davinci-002": 4}
    before = {path.name: path.read_bytes() for path in out.glob("*.tfrecord")}
    next(out.glob("*00001-of*.tfrecord")).unlink()
    explain(*words)
    assert {path.name: path.read_bytes() for path in out.glob("*.tfrecord")} == before
    cli.main(["inspect", str(out)])
    assert "LLM         none was asked: explanations of text-davinci-002 4, file" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        explain(*words[:3], "another", *words[4:])
    assert "begun with other settings" in capsys.readouterr().err


def test_ranked_and_explained_rows(tmp_path, capsys):
    rows = [
        {"query": "q", "passage": f"p {rank}", "rank": rank, "label": int(rank == 1), "explanation": f"It is {rank}."}
        for rank in range(1, 6)
    ]
    path = jsonl(tmp_path / "ranked.jsonl", rows)
    ranks = ("--relevant_ranks", 1, 2, "--irrelevant_ranks", 5)
    explain("--pairs", path, *ranks, "--output_dir", tmp_path / "out")
    said = capsys.readouterr().err
    assert "3 pairs of 3 read, by label {'1': 2, '0': 1}" in said
    assert "left out: other_rank 2" in said
    assert read_manifest(tmp_path / "out")["input_counts"]["other_rank"] == 2
