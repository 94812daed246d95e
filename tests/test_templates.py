import pytest

from exaranker.errors import InputError
from exaranker.resources import shipped
from exaranker.templates import TEMPLATES, Template, encode_input, fit_passage, label_ids
from exaranker.tokenization import ByteTokenizer, load_tokenizer

QUERY, PASSAGE = "how do bees make honey", "Bees turn nectar into honey in the hive. " * 20


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(shipped("examples/sample"))


def test_reference_strings():
    assert (
        TEMPLATES["exaranker"].render("Q", "D")
        == 'Is the question: "Q" answered by the document: "D"? Give an explanation.'
    )
    assert TEMPLATES["exaranker_label"].render("Q", "D") == 'Is the question: "Q" answered by the document: "D"?'
    assert TEMPLATES["monot5"].render("Q", "D") == "Query: Q Document: D Relevant:"


def test_braces_in_texts_are_plain_text():
    assert TEMPLATES["monot5"].render("{passage}", "{0} {x}") == "Query: {passage} Document: {0} {x} Relevant:"


@pytest.mark.parametrize("name", TEMPLATES)
def test_short_input_is_the_whole_string(tokenizer, name):
    ids = encode_input(tokenizer, TEMPLATES[name], QUERY, "Bees work.", 100)
    whole = tokenizer.encode(TEMPLATES[name].render(QUERY, "Bees work."))
    assert ids == (whole if name == "decoder" else [*whole, tokenizer.eos_id])


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("length", [40, 47, 64])
def test_only_the_passage_is_shortened(tokenizer, name, length):
    ids = encode_input(tokenizer, TEMPLATES[name], QUERY, PASSAGE, length)
    shortened = fit_passage(tokenizer, TEMPLATES[name], QUERY, PASSAGE, length)
    assert length - 2 <= len(ids) <= length
    assert PASSAGE.startswith(shortened)
    assert 0 < len(shortened) < len(PASSAGE)
    assert tokenizer.decode(ids) == TEMPLATES[name].render(QUERY, shortened).replace("\n", " ")


def test_a_question_that_does_not_fit_is_refused(tokenizer):
    with pytest.raises(InputError, match=r"the question 'how do bees make honey' needs \d+ tokens .* length is 12"):
        encode_input(tokenizer, TEMPLATES["exaranker"], QUERY, PASSAGE, 12)


def test_label_ids_come_from_the_tokenizer(tokenizer):
    assert label_ids(tokenizer, TEMPLATES["monot5"]) == (tokenizer.encode("false")[0], tokenizer.encode("true")[0])


def test_labels_with_one_first_token_are_refused():
    template = Template("same", "encoder_decoder", "{query}{passage}", relevant="yes", irrelevant="yesterday")
    with pytest.raises(InputError, match="begin with the same token"):
        label_ids(ByteTokenizer(), template)
