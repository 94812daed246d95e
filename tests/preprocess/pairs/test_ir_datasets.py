"""The real ir_datasets package on datasets registered here: everything up to the download."""

import itertools

import ir_datasets
import pytest
from ir_datasets.formats import TsvDocPairs

from exaranker.errors import InputError
from exaranker.preprocess.pairs.sources import open_source
from exaranker.preprocess.pairs.text import InputConfig
from exaranker.schema import Pair

numbers = itertools.count()


@pytest.fixture
def registered(tmp_path):
    """registered(**files): the id of a new dataset of those files."""
    texts = {
        "docs": "d1\tIt is 330 m tall.\nd2\tEiffel built it.\nd3\tNobody judged this.\n",
        "queries": "q1\thow tall is it\nq2\twho built it\n",
        "qrels": "q1 0 d1 3\nq2 0 d2 2\nq1 0 d2 0\n",
    }

    def register(pairs=None, **changes):
        paths = {name: tmp_path / f"{name}.tsv" for name in texts}
        for name, text in {**texts, **changes}.items():
            paths[name].write_text(text)
        made = ir_datasets.create_dataset(str(paths["docs"]), str(paths["queries"]), str(paths["qrels"]))
        if pairs is not None:
            (tmp_path / "pairs.tsv").write_text(pairs)
            triples = TsvDocPairs(ir_datasets.util.LocalDownload(tmp_path / "pairs.tsv"))
            made = ir_datasets.Dataset(made, triples)
        name = f"exaranker-test-{next(numbers)}/train"
        ir_datasets.registry.register(name, made)
        return name

    return register


def test_qrels_with_their_texts_and_grades(registered):
    source = open_source(name := registered(), None, InputConfig())
    assert source.name == name
    expected = [
        Pair("q1", "d1", "how tall is it", "It is 330 m tall.", 3),
        Pair("q2", "d2", "who built it", "Eiffel built it.", 2),
        Pair("q1", "d2", "how tall is it", "Eiffel built it.", 0),
    ]
    assert list(source.reader()) == expected
    assert list(source.reader()) == expected


def test_more_rows_than_a_batch_keep_their_order(registered):
    docs = "".join(f"d{i}\tpassage {i}\n" for i in range(2500))
    qrels = "".join(f"q1 0 d{i} {i % 4}\n" for i in reversed(range(2500)))
    rows = list(open_source(registered(docs=docs, qrels=qrels), None, InputConfig()).reader())
    assert [(row.passage, row.label) for row in rows] == [(f"passage {i}", i % 4) for i in reversed(range(2500))]


def test_training_triples(registered):
    name = registered(pairs="q1\td1\td2\nq2\td2\td1\n" * 30)
    full = list(open_source(name, "triples", InputConfig(triples="full")).reader())
    assert [tuple(row) for row in full[:2]] == [
        ("q1", "d1", "how tall is it", "It is 330 m tall.", 1),
        ("q1", "d2", "how tall is it", "Eiffel built it.", 0),
    ]
    assert len(full) == 120
    some = list(open_source(name, "triples", InputConfig(positives=2, seed=2)).reader())
    assert [(row.query_id, row.doc_id, row.label) for row in some] == [
        ("q1", "d1", 1),
        ("q1", "d2", 0),
        ("q1", "d1", 1),  # again: it does not count
        ("q1", "d2", 0),
        ("q2", "d2", 1),
        ("q1", "d2", 0),
    ]


def test_missing_texts(registered):
    with pytest.raises(InputError, match=r"train: doc 'd9' is judged for 'q1', but is not in its docs"):
        list(open_source(registered(qrels="q1 0 d9 1\n"), None, InputConfig()).reader())
    with pytest.raises(InputError, match=r"train: query 'q9' is judged, but has no text"):
        list(open_source(registered(qrels="q9 0 d1 1\n"), None, InputConfig()).reader())


def test_a_file_that_cannot_be_had(registered, tmp_path):
    name = registered()
    (tmp_path / "docs.tsv").unlink()
    expected = r"ir_datasets cannot get 'exaranker-test-\d+/train': FileNotFoundError: .*docs.tsv \(it downloads to"
    with pytest.raises(InputError, match=expected):
        list(open_source(name, None, InputConfig()).reader())


def test_ids_are_checked_before_anything_is_read():
    expected = r"no file, no folder and no ir_datasets id is called 'beir/scifcat' \(did you mean .*beir/scifact"
    with pytest.raises(InputError, match=expected):
        open_source("beir/scifcat", None, InputConfig())
    assert open_source("beir/scifact/train", None, InputConfig()).name == "beir/scifact/train"
    with pytest.raises(InputError, match=r"--format jsonl does not go with a dataset id"):
        open_source("beir/scifact", "jsonl", InputConfig())


def test_a_dataset_without_judgements():
    with pytest.raises(InputError, match=r"the dataset 'beir/scifact' has no qrels \(name a part of it"):
        list(open_source("beir/scifact", None, InputConfig()).reader())
    with pytest.raises(InputError, match="the dataset 'beir/scifact/train' has no docpairs"):
        list(open_source("beir/scifact/train", "triples", InputConfig()).reader())
