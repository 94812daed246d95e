"""Every style's inputs and targets, as strings and as the tokens that are trained on."""

import pytest

from exaranker.tasks import register_dataset
from exaranker.templates import TEMPLATES, label_ids
from exaranker.tokenization import load_tokenizer

ASKED = (
    'Is the question: "what is a stone" answered by the document: '
    '"The stone is old. It has the number 7 and a colour."?'
)
EXPLAINED = f"{ASKED} Give an explanation."
MONOT5 = "Query: what is a stone Document: The stone is old. It has the number 7 and a colour. Relevant:"
WHY = "The passage names the stone and its colour 7."
TARGETS = {
    "label": (ASKED, "true"),
    "label_explanation": (EXPLAINED, f"true. Explanation: {WHY}"),
    "explanation_label": (EXPLAINED, f"Explanation: {WHY} Relevant: true"),
    "shuffled": (EXPLAINED, "true. Explanation: The the 7. colour its and names passage stone"),
    # Row 17, of q8: half way on among the shard's relevant training rows.
    "mismatched": (EXPLAINED, "true. Explanation: The passage names the ocean and its colour 17."),
    "keywords": (EXPLAINED, "true. Explanation: stone colour 7"),
    "monot5": (MONOT5, "true"),
    "label_explanation_p0": (EXPLAINED, "true"),
    "label_explanation_p100": (EXPLAINED, f"true. Explanation: {WHY}"),
}


@pytest.mark.parametrize("style", TARGETS)
def test_texts_and_tokens_of_a_relevant_row(read, vocabulary, style):
    example = read(f"exaranker_sample_{style}")[7]
    assert (example["inputs_pretokenized"], example["targets_pretokenized"]) == TARGETS[style]
    tokenizer = load_tokenizer(vocabulary)
    inputs, target = TARGETS[style]
    assert example["inputs"].tolist() == [*tokenizer.encode(inputs), tokenizer.eos_id]
    assert example["targets"].tolist() == [*tokenizer.encode(target), tokenizer.eos_id]


def test_an_irrelevant_row_says_false(read):
    assert read("exaranker_sample_label_explanation")[6]["targets_pretokenized"] == (
        "false. Explanation: The passage names the stone and its colour 6."
    )
    assert read("exaranker_sample_label")[6]["targets_pretokenized"] == "false"


def test_a_template_of_the_dataset_s_own(dataset, read, vocabulary):
    register_dataset("sample", dataset, vocabulary, "monot5")
    assert read("exaranker_sample_label")[7]["inputs_pretokenized"] == MONOT5
    example = read("exaranker_sample_label_explanation")[7]
    assert (example["inputs_pretokenized"], example["targets_pretokenized"]) == (MONOT5, f"true. Explanation: {WHY}")


def test_a_decoder_only_target_goes_on_with_a_blank(dataset, read, vocabulary):
    register_dataset("sample", dataset, "byt5", "decoder")
    example = read("exaranker_sample_label_explanation")[7]
    assert example["inputs_pretokenized"].endswith("\nDoes the passage answer the question, true or false?\nAnswer:")
    assert example["targets_pretokenized"] == f" true. Explanation: {WHY}"
    tokenizer = load_tokenizer("byt5")
    assert example["inputs"].tolist() == tokenizer.encode(example["inputs_pretokenized"])  # no end: the answer follows
    assert example["targets"].tolist() == [*tokenizer.encode(example["targets_pretokenized"]), tokenizer.eos_id]


@pytest.mark.parametrize("explanation", ["", " \n "])
@pytest.mark.parametrize("style", ["label_explanation", "explanation_label", "shuffled", "keywords"])
def test_a_row_without_explanation_is_its_label(
    tmp_path, make_row, write_dataset, vocabulary, read, style, explanation
):
    rows = [make_row(number)._replace(explanation=explanation) for number in range(8)]
    register_dataset("sample", write_dataset(tmp_path, rows), vocabulary)
    assert read(f"exaranker_sample_{style}")[7]["targets_pretokenized"] == "true"


def test_newlines_are_taken_out_of_an_explanation(register_rows, make_row, read):
    register_rows([make_row(number)._replace(explanation=" It says\n so.\n") for number in range(8)])
    assert read("exaranker_sample_label_explanation")[7]["targets_pretokenized"] == "true. Explanation: It says so."


def test_shuffling_keeps_the_words_and_moves_most(read):
    plain, shuffled = (read(f"exaranker_sample_{style}") for style in ("label_explanation", "shuffled"))
    for number in plain:
        words, given = (texts[number]["targets_pretokenized"].split() for texts in (shuffled, plain))
        assert sorted(words) == sorted(given)
        assert words[:2] == given[:2]
    moved = [example["targets_pretokenized"] != plain[n]["targets_pretokenized"] for n, example in shuffled.items()]
    assert sum(moved) == len(plain)


def test_a_mismatched_explanation_is_another_query_s_with_the_same_label(read):
    examples = read("exaranker_sample_mismatched")
    assert len(examples) == 56
    for number, example in examples.items():
        partner = int(example["targets_pretokenized"].rpartition(" ")[2].rstrip("."))
        assert partner // 2 != number // 2
        assert partner % 2 == number % 2
        assert partner // 20 == number // 20  # of the same shard
        assert partner not in (12, 13, 20, 21)  # of the same split


def test_keywords_are_at_most_five_and_said_once(register_rows, make_row, read):
    text = "Old stone, old number: It has the colour Stone and the number, and is what a colour is. Ångström"
    register_rows([make_row(number)._replace(explanation=text, passage=f"{text} ångström") for number in range(8)])
    target = read("exaranker_sample_keywords")[7]["targets_pretokenized"]
    assert target == "true. Explanation: old stone number colour ångström"


def explained(examples) -> list[int]:
    return [number for number, example in examples.items() if "Explanation" in example["targets_pretokenized"]]


def test_partial_rates_explain_that_share_of_the_rows_and_always_the_same(read):
    shares = {rate: explained(read(f"exaranker_sample_label_explanation_p{rate}")) for rate in (0, 10, 25, 33, 75, 100)}
    assert shares[0] == []
    assert shares[10] == [5, 17, 18, 37, 56]
    assert shares[100] == list(read("exaranker_sample_label"))
    for lower, higher in zip((0, 10, 25, 33, 75), (10, 25, 33, 75, 100), strict=True):
        assert set(shares[lower]) < set(shares[higher])
    assert explained(read("exaranker_sample_label_explanation_p33", seed=5, shuffle=True)) != shares[33]  # order
    assert sorted(explained(read("exaranker_sample_label_explanation_p33", seed=5, shuffle=True))) == sorted(shares[33])


def test_partial_rates_come_near_their_share_of_many_rows(register_rows, make_row, read):
    register_rows([make_row(number)._replace(query_id=f"q{number}") for number in range(2000)])
    examples = read("exaranker_sample_label_explanation_p25")
    deviation = (0.25 * 0.75 / len(examples)) ** 0.5
    assert len(explained(examples)) / len(examples) == pytest.approx(0.25, abs=3 * deviation)


ASKED_LLM = {"settings": {"relevance": {"name": "relevance"}}}


def test_soft_labels_share_the_loss_by_the_llm_s_doubt(register_rows, make_row, read, vocabulary):
    rows = [make_row(number)._replace(llm_relevance=[0.25, 0.75, -1.0][number % 3]) for number in range(6)]
    register_rows(rows, **ASKED_LLM)
    examples = read("exaranker_sample_soft_label")
    false, true = label_ids(load_tokenizer(vocabulary), TEMPLATES["exaranker"])
    assert [examples[n]["targets_pretokenized"] for n in range(6)] == ["false", "true"] * 3
    assert [examples[n]["other_label"] for n in range(6)] == [true, false] * 3
    assert [examples[n]["other_label_share"] for n in range(6)] == [0.25, 0.25, 0.0, 0.75, 0.75, 0.0]
    hard = read("exaranker_sample_label")
    assert {hard[n]["other_label_share"] for n in range(6)} == {0.0}
