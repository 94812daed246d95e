from dataclasses import replace
from pathlib import Path

import pytest
import seqio
from hypothesis import given
from hypothesis import strategies as st

from exaranker.errors import InputError
from exaranker.files.shipped import shipped
from exaranker.templates import (
    DECODER_ONLY,
    EXARANKER,
    TEMPLATES,
    Template,
    cut_passage,
    encode_input,
    explanation_prefix,
    label_ids,
    template_named,
)
from exaranker.tokenization import load_tokenizer

BYTES = load_tokenizer("byt5")
SPIECE = load_tokenizer(Path(seqio.__file__).parent / "test_data/sentencepiece/sentencepiece.model")
SPIECE_4000 = load_tokenizer(shipped("examples/sample") / "spiece.model")
PASSAGE = "The shin bone is strong. It carries the body. " * 4


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("exaranker", 'Is the question: "Q?" answered by the document: "D."? Give an explanation.'),
        ("exaranker_label", 'Is the question: "Q?" answered by the document: "D."?'),
        ("monot5", "Query: Q? Document: D. Relevant:"),
        (
            "decoder",
            "Passage: D.\nQuestion: Q?\nDoes the passage answer the question, true or false?\nAnswer:",
        ),
        ("decoder_monot5", "Query: Q? Document: D. Relevant:"),
    ],
)
def test_inputs(name, text):
    assert TEMPLATES[name].fill("Q?", "D.") == text


def test_targets_of_the_reference():
    assert EXARANKER.label(True) == "true"
    assert EXARANKER.label(False) == "false"
    assert EXARANKER.target(True, " It says so.\n") == "true. Explanation: It says so."
    assert EXARANKER.target(False, "It\n does not.") == "false. Explanation: It does not."
    assert EXARANKER.target(True, "It does.", EXARANKER.explanation_label) == "Explanation: It does. Relevant: true"


@pytest.mark.parametrize("name", ["decoder", "decoder_monot5"])
def test_a_decoder_continues_with_a_blank(name):
    assert TEMPLATES[name].label(True) == " true"
    assert TEMPLATES[name].target(False, "No.") == " false. Explanation: No."


def test_texts_with_braces_are_data():
    assert EXARANKER.fill("{passage}", "{0}").startswith('Is the question: "{passage}" answered by the document: "{0}"')
    assert EXARANKER.target(True, "{x}") == "true. Explanation: {x}"


def test_templates_survive_json():
    assert all(Template.from_json(template.to_json()) == template for template in TEMPLATES.values())
    assert EXARANKER.to_json()["digest"] == replace(EXARANKER, name="another").digest != TEMPLATES["monot5"].digest


@pytest.mark.parametrize("field", ["input", "label_explanation", "explanation_label"])
def test_a_template_without_its_fields_is_refused(field):
    with pytest.raises(InputError, match=r"template 'exaranker': 'Is it\?' must have each of \['"):
        replace(EXARANKER, **{field: "Is it?"})


def test_unknown_names_are_offered_near_ones():
    with pytest.raises(
        InputError, match=r"unknown template 'mono' \(did you mean monot5\?; a file of your own is called \*.yaml\)"
    ):
        template_named("mono")
    with pytest.raises(InputError, match="unknown family 'decoder'"):
        replace(EXARANKER, family="decoder")


def test_short_inputs_are_encoded_whole():
    ids = encode_input(SPIECE, EXARANKER, "what is it", "that", 512)
    assert ids == [*SPIECE.encode(EXARANKER.fill("what is it", "that")), SPIECE.eos_id]


def test_only_the_passage_is_cut():
    template = TEMPLATES["monot5"]
    ids = encode_input(BYTES, template, "which bone", "the shin bone is long", 57)
    assert BYTES.decode(ids) == "Query: which bone Document: the shin bone is l Relevant:"
    assert (len(ids), ids[-1]) == (57, BYTES.eos_id)
    assert BYTES.decode(encode_input(BYTES, template, "which bone", "the shin bone is long", 39)) == (
        "Query: which bone Document:  Relevant:"
    )


def test_a_decoder_prompt_has_no_end():
    ids = encode_input(BYTES, TEMPLATES["decoder"], "which bone", PASSAGE, 150)
    text = BYTES.decode(ids)
    assert 140 < len(ids) <= 150
    assert ids[-1] == BYTES.encode(":")[0]
    assert text.endswith("\nQuestion: which bone\nDoes the passage answer the question, true or false?\nAnswer:")


def test_begin_of_text_leads_a_decoder_prompt():
    class WithBegin(type(BYTES)):
        bos_id = 2

    template = TEMPLATES["decoder"]
    assert encode_input(WithBegin(), template, "q", "p", 150) == [2, *BYTES.encode(template.fill("q", "p"))]
    assert replace(template, family=DECODER_ONLY) == template


def test_a_question_that_does_not_fit_is_an_error():
    with pytest.raises(InputError, match=r"the question 'which bone' alone needs 39 tokens, the inputs are given 38"):
        encode_input(BYTES, TEMPLATES["monot5"], "which bone", "x", 38)


@given(st.text(max_size=20), st.text(max_size=200), st.integers(100, 180), st.sampled_from([BYTES, SPIECE]))
def test_cut_inputs_fit_and_keep_their_ends(query, passage, length, tokenizer):
    template = TEMPLATES["monot5"]
    ids = encode_input(tokenizer, template, query, passage, length)
    suffix = [*tokenizer.encode(" Relevant:"), tokenizer.eos_id]
    assert len(ids) <= length
    assert ids[-len(suffix) :] == suffix


def test_label_ids_are_the_first_tokens():
    assert label_ids(BYTES, EXARANKER) == (ord("f") + 3, ord("t") + 3)
    with pytest.raises(InputError, match=r"labels 'false' and 'true' begin with the same token 35 \(use a template"):
        label_ids(BYTES, TEMPLATES["decoder"])


def test_a_label_is_one_token_or_refused_with_its_pieces():
    no, yes = (SPIECE_4000.encode(word) for word in ("no", "green"))
    assert label_ids(SPIECE_4000, replace(EXARANKER, relevant="green", irrelevant="no")) == (*no, *yes)
    with pytest.raises(InputError, match=r"label 'yes' is 2 tokens of this tokenizer, 'ye' \+ 's', expected one"):
        label_ids(SPIECE_4000, replace(EXARANKER, relevant="yes", irrelevant="no"))
    with pytest.raises(InputError, match=r"label 'no' is 3 tokens of this tokenizer, '▁' \+ 'n' \+ 'o'"):
        label_ids(SPIECE, replace(EXARANKER, relevant="yes", irrelevant="no"))


def test_explanation_prefix_leads_the_target():
    assert BYTES.decode(explanation_prefix(BYTES, EXARANKER, False)) == "false. Explanation:"


@pytest.mark.parametrize("tokenizer", [BYTES, SPIECE, SPIECE_4000])
@pytest.mark.parametrize("name", ["exaranker", "decoder"])
def test_either_end_of_a_passage_can_be_kept(tokenizer, name):
    template = TEMPLATES[name]
    needed = len(encode_input(tokenizer, template, "Q?", "", 10**6))
    for length in (needed, needed + 1, needed + 20, needed + 10**4):
        end = cut_passage(tokenizer, template, "Q?", PASSAGE, length, keep_end=True)
        assert PASSAGE.endswith(end)
        assert cut_passage(tokenizer, template, "Q?", end, length) == end  # it fits
        assert (end == PASSAGE) == (length == needed + 10**4)
        assert len(end) > 20 or length < needed + 20 or tokenizer is BYTES
