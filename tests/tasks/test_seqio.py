"""SeqIO's own assertions, converters and evaluator over our tasks: what upstream T5X does with them."""

import zlib

import numpy as np
import pytest
import seqio
import tensorflow as tf
from seqio import test_utils

from exaranker.tasks import get_task_or_mixture, register_dataset
from exaranker.tasks.registry import dataset_number
from exaranker.tokenization import load_tokenizer

LENGTHS = {"inputs": 64, "targets": 32}
DTYPES = {
    "inputs": tf.int32,
    "targets": tf.int32,
    "targets_part": tf.int32,
    "row": tf.int32,
    "dataset": tf.int32,
    "query_id": tf.string,
    "doc_id": tf.string,
    "label": tf.int64,
    "relevant": tf.int64,
    "llm_relevance": tf.float32,
}


@pytest.fixture
def registered(dataset, vocabulary):
    register_dataset("sample", dataset, vocabulary)


@pytest.fixture
def raw(make_row):
    """Row 7 as a source gives it, for the one split that `test_utils` injects."""
    fields = make_row(7)._asdict()
    given = ("query_id", "doc_id", "query", "passage", "label", "relevant", "explanation")
    row = {name: fields[name] for name in given} | {"llm_relevance": np.float32(7 / 64), "row": 7}
    row["dataset"] = dataset_number("sample")
    return {"validation": {name: tf.constant(v, tf.int64) if name == "relevant" else v for name, v in row.items()}}


def expected(row, tokenizer):
    """A validation row by hand: what the pipeline must add to it."""
    word, label = {6: "music", 10: "bone"}[row // 2], ("false", "true")[row % 2]
    passage = f"The {word} is old. It has the number {row} and a colour."
    inputs = f'Is the question: "what is a {word}" answered by the document: "{passage}"? Give an explanation.'
    targets = f"{label}. Explanation: The passage names the {word} and its colour {row}."
    ids = [*tokenizer.encode(targets), tokenizer.eos_id]
    return {
        "query_id": f"q{row // 2}", "doc_id": f"d{row}", "query": f"what is a {word}", "passage": passage,
        "label": 3 * (row % 2), "relevant": row % 2, "llm_relevance": row / 64, "row": row,
        "dataset": zlib.crc32(b"sample") % 2**30,
        "inputs_pretokenized": inputs, "inputs": [*tokenizer.encode(inputs), tokenizer.eos_id],
        "targets_pretokenized": targets, "targets": ids, "targets_part": [1] + [2] * (len(ids) - 1),
        "other_label": 0, "other_label_share": 0.0,
    }  # fmt: skip


def test_assert_dataset(registered, vocabulary):
    tokenizer = load_tokenizer(vocabulary)
    task = get_task_or_mixture("exaranker_sample_label_explanation")
    examples = task.get_dataset(LENGTHS, split="validation", shuffle=False)
    test_utils.assert_dataset(examples, [expected(row, tokenizer) for row in (12, 13, 20, 21)], DTYPES)


def test_assert_datasets_eq(registered):
    task = get_task_or_mixture("exaranker_sample_shuffled")
    first, again, other = (task.get_dataset(LENGTHS, shuffle=True, seed=seed) for seed in (1, 1, 2))
    test_utils.assert_datasets_eq(first, again)
    test_utils.assert_datasets_neq(first, other)


def test_preprocessing_of_injected_rows(registered, raw, vocabulary):
    example = test_utils.test_preprocessing_single("exaranker_sample_keywords", raw, sequence_length=LENGTHS)
    ids = load_tokenizer(vocabulary).encode("true. Explanation: stone colour 7")
    test_utils.assert_dict_contains({"targets": np.array([*ids, 1]), "query_id": b"q3", "relevant": 1}, example)


@pytest.mark.parametrize(
    ("said", "figures"),
    [
        ("true. Explanation: The passage names the stone.", {"label_accuracy": 100.0, "explanation_f1": 400 / 7}),
        ("false", {"label_accuracy": 0.0, "label_f1": 0.0, "explanation_f1": 0.0}),
        ("stone", {"label_accuracy": 0.0, "no_label": 100.0}),
    ],
)
def test_seqio_s_evaluator_postprocesses_and_measures(registered, raw, said, figures):
    found = test_utils.test_postprocessing("exaranker_sample_label_explanation", raw, predict_output=[said])
    assert {name: found[name] for name in figures} == pytest.approx(figures)


@pytest.mark.parametrize("name", ["exaranker_sample_label_explanation", "exaranker_sample_mixture"])
@pytest.mark.parametrize("pack", [True, False])
def test_seqio_s_converters_take_tasks_and_mixtures(registered, name, pack):
    converter = seqio.EncDecFeatureConverter(pack=pack)
    given = {"task_feature_lengths": LENGTHS, "dataset_split": "train", "num_epochs": 1, "seed": 0}
    batches = seqio.get_dataset(name, feature_converter=converter, **given)
    for features in batches.take(3).as_numpy_iterator():
        shapes = {name: array.shape for name, array in features.items()}
        assert shapes["encoder_input_tokens"] == (64,)
        assert shapes["decoder_target_tokens"] == shapes["decoder_loss_weights"] == (32,)
