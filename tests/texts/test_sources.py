"""What `--queries` and `--passages` may be: every source gives the same texts, whole and by id."""

import itertools
import subprocess
import sys
from pathlib import Path

import ir_datasets
import pytest

from exaranker.errors import InputError
from exaranker.texts import pyserini_java
from exaranker.texts.kept import KeptTexts
from exaranker.texts.sources import open_texts

DOCS = {"D1": ("Cats", "They purr."), "D2": ("", "Bricks are clay."), "D3": ("Rain", "It is wet.")}
TEXTS = {"D1": "Cats They purr.", "D2": "Bricks are clay.", "D3": "Rain It is wet."}
BARE = {"D1": "They purr.", "D2": "Bricks are clay.", "D3": "It is wet."}
numbers = itertools.count()


def jsonl(fields: str, docs: dict[str, tuple[str, str]]) -> str:
    return "".join(fields % (name, title, text) + "\n" for name, (title, text) in docs.items())


def beir(folder: Path) -> Path:
    (folder / "corpus.jsonl").write_text(jsonl('{"_id":"%s","title":"%s","text":"%s"}', DOCS))
    (folder / "queries.jsonl").write_text('{"_id":"q1","text":"why do cats purr"}\n')
    return folder


def trec(folder: Path) -> Path:
    (folder / "passages.tsv").write_text("".join(f"{name}\t{text}\n" for name, text in TEXTS.items()))
    (folder / "queries.tsv").write_text("q1\twhy do cats purr\n")
    return folder


def pyserini(folder: Path) -> Path:
    for number, part in enumerate((["D1", "D2"], ["D3"])):
        rows = jsonl('{"id":"%s","title":"%s","contents":"%s"}', {name: DOCS[name] for name in part})
        (folder / f"docs0{number}.jsonl").write_text(rows)
    return folder


def msmarco(folder: Path) -> Path:
    rows = (f"{name}\thttps://example.org/{name}\t{title}\t{text}\n" for name, (title, text) in DOCS.items())
    (folder / "docs.tsv").write_text("".join(rows))
    return folder / "docs.tsv"


def registered(folder: Path) -> str:
    """An id of ir_datasets, of the documents of `msmarco`."""
    from ir_datasets.datasets.msmarco_document import MsMarcoDocument
    from ir_datasets.formats.tsv import TsvDocs, TsvQueries

    (folder / "queries.tsv").write_text("q1\twhy do cats purr\n")
    docs = TsvDocs(ir_datasets.util.LocalDownload(msmarco(folder)), MsMarcoDocument, namespace="test", lang="en")
    queries = TsvQueries(ir_datasets.util.LocalDownload(folder / "queries.tsv"), lang="en")
    name = f"exaranker-texts-{next(numbers)}"
    ir_datasets.registry.register(name, ir_datasets.Dataset(docs, queries))
    return name


@pytest.mark.parametrize("make", [beir, trec, pyserini, msmarco, registered])
def test_every_source_gives_the_same_passages(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    passages = open_texts(name := make(tmp_path), "passages")
    assert dict(passages) == dict(passages) == TEXTS
    assert dict(passages.select({"D3", "D1", "D9"})) == {"D1": TEXTS["D1"], "D3": TEXTS["D3"]}
    if make is not trec:
        assert dict(open_texts(name, "passages", title="none").select({"D1", "D2", "D3"})) == BARE


@pytest.mark.parametrize("make", [beir, trec, registered])
def test_queries_of_folders_and_ids(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    queries = open_texts(make(tmp_path), "queries")
    assert dict(queries) == dict(queries.select({"q1"})) == {"q1": "why do cats purr"}


@pytest.mark.skipif(pyserini_java.unavailable() is not None, reason=str(pyserini_java.unavailable()))
def test_a_lucene_index_gives_what_it_keeps(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    lucene_index(pyserini(tmp_path / "docs"), tmp_path / "raw", "--storeRaw")
    passages = open_texts(tmp_path / "raw", "passages")
    assert dict(passages) == TEXTS
    assert dict(passages.select({"D3", "D9"})) == {"D3": "Rain It is wet."}
    with pytest.raises(InputError, match="raw: is a Lucene index, which has passages only"):
        open_texts(tmp_path / "raw", "queries")
    lucene_index(tmp_path / "docs", tmp_path / "bare")
    with pytest.raises(InputError, match=r"bare: this Lucene index keeps no texts \(index with --storeRaw"):
        dict(open_texts(tmp_path / "bare", "passages"))


def lucene_index(docs: Path, output: Path, *flags: str) -> None:
    module = "io.anserini.index.IndexCollection"
    words = ["-collection", "JsonCollection", "-generator", "DefaultLuceneDocumentGenerator", "-threads", "1"]
    words += ["-input", str(docs), "-index", str(output), *(flag.removeprefix("-") for flag in flags)]
    code = f"import sys; from pyserini.pyclass import autoclass; autoclass({module!r}).main(sys.argv[1:])"
    command = [sys.executable, "-P", "-c", code, *words]
    subprocess.run(command, env=pyserini_java.environment(), check=True, capture_output=True)


def test_what_is_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no corpus\.jsonl and no passages\.tsv in this folder, only nothing"):
        open_texts(tmp_path, "passages")
    with pytest.raises(InputError, match=r"no ir_datasets id is called 'beir/scifakt' \(did you mean"):
        open_texts("beir/scifakt", "passages")
    (tmp_path / "a.jsonl").write_text('{"id":"D1","contents":"one"}\n')
    (tmp_path / "b.jsonl").write_text('{"id":"D1","contents":"two"}\n')
    with pytest.raises(InputError, match=r"b\.jsonl:1: id 'D1' comes a second time"):
        dict(open_texts(tmp_path, "passages"))


def test_kept_texts_are_on_disk_and_leave_nothing_behind(tmp_path: Path) -> None:
    texts = KeptTexts([("D1", "naïve"), ("D2", ""), ("D3", "日本")], tmp_path)
    assert dict(texts) == {"D1": "naïve", "D2": "", "D3": "日本"}
    assert "D4" not in texts
    assert list(tmp_path.iterdir()) == []
