"""Long documents: windows over the whole text, the best counts, and it is the one that is explained."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exaranker.cli import main
from exaranker.errors import InputError
from exaranker.rank.long_documents import BestWindow, LongDocuments, Window, best_windows, windows
from exaranker.rank.reranker import Reranker
from exaranker.tokenization import load_tokenizer
from exaranker.trec import read_run


@given(text=st.text(alphabet="ab \n", max_size=60), length=st.integers(1, 9), stride=st.integers(1, 9))
def test_windows_cover_the_text_in_order(text: str, length: int, stride: int) -> None:
    found = windows(load_tokenizer("byt5"), text, max(length, stride), stride)
    assert found[0].start == 0
    assert found[-1].end == len(text)
    assert all(later.start <= earlier.end for earlier, later in pairwise(found))
    assert all(0 < one.end - one.start <= max(length, stride) for one in found) or text == ""


def test_windows_begin_and_end_between_words() -> None:
    text = "one two three four five six"
    found = windows(load_tokenizer("byt5"), text, 12, 6)
    texts = [text[slice(*one)].strip() for one in found]
    assert texts == ["one two", "two three", "three four", "four five", "five six"]


@pytest.mark.parametrize(
    ("how", "count"), [("truncate", [Window(0, 27)]), ("first_passage", [Window(0, 8)]), ("max_passage", None)]
)
def test_how_a_document_is_cut(how: str, count: list[Window] | None) -> None:
    found = LongDocuments(how, 12, 6).windows(load_tokenizer("byt5"), "one two three four five six")
    assert found == count or len(found) == 5


def test_the_best_window_counts_and_of_equal_ones_the_first() -> None:
    cut = [[Window(0, 1), Window(1, 2), Window(2, 3)], [Window(0, 2)]]

    def score(pairs):  # type: ignore[no-untyped-def]
        assert pairs == [("q", "a"), ("q", "b"), ("q", "c"), ("r", "de")]
        return np.array([1.0, 3.0, 3.0, -1.0], np.float32)

    found = best_windows([("q", "abc"), ("r", "de")], cut, score)
    assert found == [BestWindow(3.0, Window(1, 2)), BestWindow(-1.0, Window(0, 2))]
    diverged = best_windows([("q", "abc")], cut[:1], lambda pairs: np.array([1.0, math.nan, 2.0]))
    assert math.isnan(diverged[0].score)


def test_documents_are_ranked_by_their_best_window_which_is_explained(
    t5_checkpoint: Path, collection: Path, same_score: float
) -> None:
    files = [f"--{name}={collection / name}.tsv" for name in ("queries", "passages")]
    words = ["rerank", f"--checkpoint={t5_checkpoint}", *files, f"--run={collection / 'run.trec'}"]
    words += [f"--output={collection / 'out.trec'}", "--max_length=128", "--explain_top_k=1"]
    main([*words, "--long=max_passage", "--passage_length=20", "--passage_stride=10"])
    rows = [json.loads(line) for line in (collection / "out.trec.explanations.jsonl").read_text().splitlines()]
    texts = dict(line.split("\t") for line in (collection / "passages.tsv").read_text().splitlines())
    queries = dict(line.split("\t") for line in (collection / "queries.tsv").read_text().splitlines())
    reranker = Reranker.from_checkpoint(t5_checkpoint, max_length=128)
    cut = LongDocuments("max_passage", 20, 10)
    for row in rows:
        window, text = row["window"], texts[row["doc_id"]]
        assert window["text"] == text[window["start"] : window["end"]]
        pairs = [(queries[row["query_id"]], text[slice(*one)]) for one in cut.windows(reranker.model.tokenizer, text)]
        assert row["score"] == pytest.approx(max(reranker.score(pairs)), abs=same_score)
    by_score = {doc[:2]: doc.score for doc in read_run(collection / "out.trec")}
    assert all(by_score[row["query_id"], row["doc_id"]] == row["score"] for row in rows)


def test_windows_that_do_not_fit(t5_checkpoint: Path, collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [f"--{name}={collection / name}.tsv" for name in ("queries", "passages")]
    words = ["rerank", f"--checkpoint={t5_checkpoint}", *files, f"--run={collection / 'run.trec'}"]
    with pytest.raises(SystemExit):
        main([*words, f"--output={collection / 'out.trec'}", "--max_length=128", "--long=max_passage"])
    assert "a window of 200 tokens does not fit beside the longest query, which needs " in capsys.readouterr().err
    with pytest.raises(InputError, match="windows of 10 tokens every 20"):
        LongDocuments("max_passage", 10, 20)
