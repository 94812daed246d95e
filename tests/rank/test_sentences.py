"""Sentence boundaries: abbreviations, initials, numbers, quotes, other scripts, and offsets into the text."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exaranker.rank.sentences import keep_sentences, sentences


@pytest.mark.parametrize(
    "expected",
    [
        ["Bees dance.", "Do they?", "Yes!", "Really?!", "No"],
        ["Dr. Wu met Prof. Ada B. Lovelace in St. Ives.", "It rained."],
        ["The U.S. Army left the U.S. in May.", "It returned at 5 p.m. Monday."],
        ["He lives in the U.S.", "The rent is high."],
        ["Acme Inc. sells wire, nails etc. to shops.", "See Fig. 3 and No. 4, vs. e.g. Table 2."],
        ["The answer is no.", "He left."],
        ["Bake at 180 C.", "Cool for 3.5 h."],
        ["1. Wash hands.", "2. Dry them.", "B. Use a towel."],
        ['He said "Stop."', "(She did not.)", "“Why?”", "Wait... and see."],
        ["Visit example.com or v1.2.3 today", "new paragraph"],
        ["空はなぜ青いのですか。", "空気が散らすからです！", "「本当？」", "はい。"],
        ["यह घर है।", "क्या वह गया?", "हाँ॥"],
        ["كيف حالك؟", "بخير.", "شكرا۔"],
        ["ሰላም ነው።", "እሺ።"],
    ],
)
def test_boundaries(expected: list[str]) -> None:
    blank = "\n\n" if "paragraph" in expected[-1] else "" if expected[0].startswith("空") else " "
    text = blank.join(expected)
    assert [text[start:stop] for start, stop in sentences(text)] == expected


def test_nothing_to_split() -> None:
    assert sentences("") == []
    assert sentences(" \n ") == []
    assert sentences("...") == [(0, 3)]


@given(st.text(alphabet="aB1 .!?。\n\"'(", max_size=40))
def test_sentences_hold_every_character_but_blanks_once(text: str) -> None:
    found = sentences(text)
    kept = "".join(text[start:stop] for start, stop in found)
    assert "".join(kept.split()) == "".join(text.split())
    assert all(a.stop <= b.start for a, b in itertools.pairwise(found))
    assert keep_sentences(text, found, range(len(found))) == text
