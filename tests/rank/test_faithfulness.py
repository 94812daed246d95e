"""What a choice of sentences costs: held against scores of the texts themselves, with the real model."""

from pathlib import Path

import pytest

from exaranker.rank.faithfulness import ExplainedPassage, measure
from exaranker.rank.reranker import Reranker

QUERY = "how do bees make honey"
SENTENCES = ["Bees make honey in the comb.", "A capo presses strings down.", "The Nile is long.", "Salt dissolves."]
PASSAGE = " ".join(SENTENCES)


@pytest.fixture(scope="module")
def reranker(checkpoint: Path) -> Reranker:
    return Reranker.from_checkpoint(checkpoint, max_length=128)


def row(
    explanation: str, relevant: bool = True, passage: str = PASSAGE, other_query: str | None = None
) -> ExplainedPassage:
    return ExplainedPassage(QUERY, passage, relevant, explanation, "It names a guitar's capo.", other_query)


def without(index: int) -> str:
    return " ".join(SENTENCES[:index] + SENTENCES[index + 1 :])


def test_what_is_lost_without_and_with_a_choice_alone(reranker: Reranker, same_score: float) -> None:
    for_it, against_it = measure(reranker, [row("It is about the Nile."), row("It is about the Nile.", False)])
    whole, nile, alone, capo, bees = reranker.score(
        (QUERY, text) for text in [PASSAGE, without(2), SENTENCES[2], without(1), without(0)]
    )
    assert for_it["score"] == pytest.approx(whole, abs=same_score)
    assert (for_it["sentences"], for_it["chosen"]) == (4, 1)
    lost = for_it["comprehensiveness"]
    assert lost["explanation"] == pytest.approx(whole - nile, abs=2 * same_score)
    assert lost["other_passage"] == pytest.approx(whole - capo, abs=2 * same_score)
    assert lost["lead"] == lost["bm25"] == pytest.approx(whole - bees, abs=2 * same_score)
    assert "other_query" not in lost
    assert for_it["sufficiency"]["explanation"] == pytest.approx(whole - alone, abs=2 * same_score)
    assert against_it["comprehensiveness"]["explanation"] == pytest.approx(nile - whole, abs=2 * same_score)


def test_an_explanation_that_names_what_counts_agrees_best(reranker: Reranker, same_score: float) -> None:
    why = reranker.why(QUERY, PASSAGE, max_new_tokens=1)
    shares = [one.contribution for one in why.sentences]
    best = why.sentences[shares.index(max(shares))]
    (found,) = measure(reranker, [row(best.text, other_query="Volcanoes erupt.")])
    lost = found["comprehensiveness"]
    assert lost["explanation"] == lost["occlusion"] == pytest.approx(max(shares), abs=2 * same_score)
    assert lost["random"] == pytest.approx(sum(shares) / 4, abs=2 * same_score)
    assert found["agreement"]["explanation"] == pytest.approx(0.7746, abs=5e-5)  # one of four set apart: 3 / sqrt(15)
    assert found["agreement"]["other_query"] == 0.0  # it shares no word with any sentence
    assert measure(reranker, [row(best.text, other_query="Volcanoes erupt.")]) == [found]


def test_what_cannot_be_measured_is_left_out(reranker: Reranker) -> None:
    rows = [row("It tells of bees.", passage="Bees make honey."), row("Volcanoes erupt."), row("")]
    told = ["the passage has one sentence"] + ["the explanation shares no word with the passage"] * 2
    assert measure(reranker, rows) == [{"left_out": reason} for reason in told]
