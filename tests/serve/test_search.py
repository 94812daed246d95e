"""What the page searches: passages by an index made now, or by one that `retrieve` kept."""

from pathlib import Path

import pytest

from exaranker.cli import main
from exaranker.errors import InputError
from exaranker.serve.search import Searcher
from exaranker.texts.sources import open_texts


@pytest.fixture
def passages(tmp_path: Path) -> Path:
    (tmp_path / "passages.tsv").write_text("p1\tbears eat honey\np2\tglaciers melt\np3\thoney of bees, honey\n")
    return tmp_path / "passages.tsv"


def test_a_kept_index_finds_what_one_made_now_finds(tmp_path: Path, passages: Path) -> None:
    (tmp_path / "queries.tsv").write_text("q\thoney\n")
    words = ["retrieve", f"--queries={tmp_path / 'queries.tsv'}", f"--output={tmp_path / 'run.trec'}"]
    main([*words, f"--passages={passages}", f"--index={tmp_path / 'index'}"])
    for index in (None, tmp_path / "index"):
        (tmp_path / f"scratch-{index is None}").mkdir()
        searcher = Searcher.of(open_texts(passages, "passages"), index, tmp_path / f"scratch-{index is None}")
        found = [(hit.doc_id, hit.text) for hit in searcher.search("honey", 10)]
        assert found == [("p3", "honey of bees, honey"), ("p1", "bears eat honey")]


def test_an_index_that_is_not_there_is_refused(tmp_path: Path, passages: Path) -> None:
    with pytest.raises(InputError, match=r"nothing: no index here .*retrieve --index DIR"):
        Searcher.of(open_texts(passages, "passages"), tmp_path / "nothing", tmp_path)
