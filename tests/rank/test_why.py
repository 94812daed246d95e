"""Why a passage has its score: both explanations, and what each sentence adds, in Python and as a verb."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from exaranker.checkpoints.store import save_model
from exaranker.cli import main
from exaranker.commands.why_ import _passage
from exaranker.rank.reranker import Reranker

QUERY = "how do bees make honey"
PASSAGE = "Bees make honey. A capo presses strings down.  The Nile is long."
WITHOUT = [
    "A capo presses strings down.  The Nile is long.",
    "Bees make honey. The Nile is long.",
    "Bees make honey. A capo presses strings down.",
]


@pytest.fixture(scope="module")
def reranker(checkpoint: Path) -> Reranker:
    return Reranker.from_checkpoint(checkpoint, max_length=128)


def test_a_sentence_adds_what_the_log_odds_lose_without_it(reranker: Reranker, same_score: float) -> None:
    why = reranker.why(QUERY, PASSAGE, max_new_tokens=6)
    whole, *rest = reranker.score((QUERY, text) for text in [PASSAGE, *WITHOUT])
    assert why.score == pytest.approx(whole, abs=same_score)
    contributions = [one.contribution for one in why.sentences]
    assert contributions == pytest.approx([whole - score for score in rest], abs=2 * same_score)
    assert [(one.start, one.stop) for one in why.sentences] == [(0, 16), (17, 45), (47, 64)]
    assert [one.text for one in why.sentences] == [PASSAGE[0:16], PASSAGE[17:45], PASSAGE[47:64]]
    assert why.characters_read == len(PASSAGE)
    assert why.probability == pytest.approx(reranker.rank(QUERY, [PASSAGE])[0].probability, abs=same_score / 4)


def test_both_labels_are_explained(reranker: Reranker) -> None:
    why = reranker.why(QUERY, PASSAGE, max_new_tokens=6)
    forced = {e.label: e.explanation for e in reranker.explain([(QUERY, PASSAGE)] * 2, [1.0, -1.0], max_new_tokens=6)}
    assert why.label == ("true" if why.score > 0 else "false")
    assert {why.label: why.explanation, why.other_label: why.other_explanation} == forced


def test_only_what_is_read_of_a_passage_is_explained(reranker: Reranker) -> None:
    why = reranker.why(QUERY, PASSAGE * 40, max_new_tokens=1)
    read = (PASSAGE * 40)[: why.characters_read]
    assert 100 < len(read) < 1000
    assert why.sentences[-1].stop == len(read)
    assert reranker.encode(QUERY, read) == reranker.encode(QUERY, PASSAGE * 40)
    assert reranker.why(QUERY, "", max_new_tokens=1).sentences == ()


def test_the_verb_reads_as_much_as_the_ranker(
    t5_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint says how many tokens it is meant to read: `why` explains the score that `rerank` writes."""
    model = Reranker.from_checkpoint(t5_checkpoint).model
    save_model(tmp_path, replace(model.card, max_length=48), model.params, model.tokenizer)
    main(["why", f"--checkpoint={tmp_path}", f"--query={QUERY}", f"--passage={PASSAGE * 9}", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["score"] == Reranker.from_checkpoint(tmp_path).rank(QUERY, [PASSAGE * 9])[0].score
    assert found["characters_read"] < len(PASSAGE * 3)


def test_the_verb(t5_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "passage.txt"
    file.write_text(PASSAGE + "\n")
    words = ["why", f"--checkpoint={t5_checkpoint}", f"--query={QUERY}"]
    main([*words, f"--passage={file}", "--json"])
    found = json.loads(capsys.readouterr().out)
    expected = Reranker.from_checkpoint(t5_checkpoint).why(QUERY, PASSAGE)
    assert found["label"] == expected.label
    assert found["probability"] == expected.probability
    assert found["sentences"][1]["text"] == "A capo presses strings down."
    main([*words, f"--passage={PASSAGE}"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        f"label         {expected.label}",
        f"log-odds      {expected.score:+.2f} (probability {expected.probability:.3f})",
    ]
    assert lines[lines.index("what each sentence adds to the log-odds") + 2].endswith(" A capo presses strings down.")


def test_a_passage_of_a_script_without_blanks_is_no_name_of_a_file() -> None:
    assert _passage("人口密度は100人/平方キロ。") == "人口密度は100人/平方キロ。"


def test_a_question_that_does_not_fit(t5_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["why", f"--checkpoint={t5_checkpoint}", f"--query={QUERY}", "--passage=text", "--max_length=8"])
    assert stopped.value.code == 2
    assert "alone needs" in capsys.readouterr().err
