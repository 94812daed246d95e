"""What is cut when a feature is too short: the passage and the explanation, nothing else."""

import json

import numpy as np
import pytest
import tensorflow as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from exaranker.errors import InputError
from exaranker.tasks import register_dataset
from exaranker.tasks.preprocessors import EXPLANATION, LABEL
from exaranker.templates import TEMPLATES, encode_input
from exaranker.tokenization import load_tokenizer

SENTENCE = "The stone is old and grey, it lies in the river “é” 日本. "


@pytest.fixture(scope="session")
def bpe(tmp_path_factory):
    """A byte-level BPE as SmolLM2's, trained on the text above."""
    folder = tmp_path_factory.mktemp("bpe")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<pad>", "<end>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([f"{SENTENCE} true false Explanation: Relevant:"] * 9, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}))
    return folder


@pytest.fixture(params=["sentencepiece", "bytes", "bpe"])
def any_vocabulary(request, vocabulary, bpe):
    return {"sentencepiece": vocabulary, "bytes": "byt5", "bpe": bpe}[request.param]


@pytest.fixture
def long_rows(tmp_path, make_row, write_dataset):
    """Rows with passages and explanations of 1 to 12 sentences."""
    rows = [
        make_row(number)._replace(passage=SENTENCE * (number + 1), explanation=SENTENCE * (number + 1))
        for number in range(12)
    ]
    return write_dataset(tmp_path, rows)


@pytest.mark.parametrize("template", ["exaranker", "monot5", "decoder"])
def test_inputs_are_the_reranker_s(long_rows, read, any_vocabulary, template):
    tokenizer = load_tokenizer(any_vocabulary)
    register_dataset("sample", long_rows, any_vocabulary, template)
    limit = 200 if tokenizer.vocab_size < 1000 else 80
    examples = read("exaranker_sample_label_explanation", lengths={"inputs": limit, "targets": 512})
    lengths = [len(example["inputs"]) for example in examples.values()]
    assert min(lengths) < limit - 5 < max(lengths) <= limit
    for example in examples.values():
        expected = encode_input(tokenizer, TEMPLATES[template], example["query"], example["passage"], limit)
        assert example["inputs"].tolist() == expected


def test_question_and_suffix_stay(long_rows, read, vocabulary):
    register_dataset("sample", long_rows, vocabulary)
    ids = read("exaranker_sample_label_explanation", lengths={"inputs": 40, "targets": 64})[11]["inputs"]
    text = load_tokenizer(vocabulary).decode(ids)
    before, _, after = text.partition("The stone is old and grey, it")
    assert before == 'Is the question: "what is a metal" answered by the document: "'
    assert after == '"? Give an explanation.'


@pytest.mark.parametrize(("style", "suffix"), [("label_explanation", ""), ("explanation_label", " Relevant: true")])
def test_only_the_explanation_is_cut_from_a_target(long_rows, read, any_vocabulary, style, suffix):
    tokenizer = load_tokenizer(any_vocabulary)
    register_dataset("sample", long_rows, any_vocabulary)
    limit = 120 if tokenizer.vocab_size < 1000 else 40
    whole = read(f"exaranker_sample_{style}")[11]["targets"].tolist()
    targets = read(f"exaranker_sample_{style}", lengths={"inputs": 2048, "targets": limit})[11]["targets"].tolist()
    kept = len(tokenizer.encode(suffix)) + 1
    assert len(targets) == limit < len(whole)
    assert targets == whole[: limit - kept] + whole[-kept:]
    assert tokenizer.decode(targets).startswith({"label_explanation": "true. E"}.get(style, "Explanation: The stone"))


@pytest.mark.parametrize("style", ["label", "label_explanation", "explanation_label", "label_explanation_p50"])
@pytest.mark.parametrize("targets", [30, 512])
def test_label_tokens_are_marked_and_the_rest_is_the_explanation(long_rows, read, any_vocabulary, style, targets):
    tokenizer = load_tokenizer(any_vocabulary)
    register_dataset("sample", long_rows, any_vocabulary)
    for number, example in read(f"exaranker_sample_{style}", lengths={"inputs": 2048, "targets": targets}).items():
        part = example["targets_part"]
        assert part.shape == example["targets"].shape
        assert set(part.tolist()) == {LABEL, EXPLANATION}
        assert tokenizer.decode(example["targets"][part == LABEL]).strip() == ("true" if number % 2 else "false")
        if style != "explanation_label":
            assert part[0] == LABEL
            assert example["targets"][0] == tokenizer.encode(TEMPLATES["exaranker"].label(number % 2 == 1))[0]
        assert part[-1] == EXPLANATION
        assert example["targets"][-1] == tokenizer.eos_id


@pytest.mark.parametrize(("style", "needed"), [("label", 2), ("label_explanation", 2), ("explanation_label", 8)])
def test_targets_too_short_for_a_label(read, style, needed):
    message = f"targets of {needed - 1} tokens cannot hold a label and its end, which need {needed} "
    hint = r"\(raise TASK_FEATURE_LENGTHS\['targets'\]\)"
    with pytest.raises(InputError, match=message + hint):
        read(f"exaranker_sample_{style}", lengths={"inputs": 64, "targets": needed - 1})
    examples = read(f"exaranker_sample_{style}", lengths={"inputs": 64, "targets": needed})
    assert {len(example["targets"]) for example in examples.values()} == {needed}


def test_inputs_too_short_for_the_question(read):
    message = (
        r"the question 'what is a \w+' alone needs 2\d tokens, the inputs are given 9 "
        r"\(raise TASK_FEATURE_LENGTHS\['inputs'\] or shorten the question\)"
    )
    with pytest.raises(tf.errors.OpError, match=message):
        read("exaranker_sample_label", lengths={"inputs": 9, "targets": 8})


def test_without_lengths_nothing_is_cut(long_rows, read, vocabulary):
    register_dataset("sample", long_rows, vocabulary)
    example = read("exaranker_sample_label_explanation")[11]
    assert np.sum(example["inputs"] == load_tokenizer(vocabulary).encode("river")[0]) == 12
