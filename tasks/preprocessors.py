"""From a row of an explanation dataset to `inputs` and `targets`: small example -> example functions."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import seqio
import tensorflow as tf

from exaranker.errors import InputError
from exaranker.tasks.sources import Example
from exaranker.tasks.styles import Style
from exaranker.templates import APART, Template, encode_input, frame, label_ids, parts, pieces
from exaranker.tokenization import Tokenizer

Preprocessor = Callable[..., tf.data.Dataset]

# The values of `targets_part`, one per target token; 0 is left for padding. The end belongs to the explanation.
LABEL = 1
EXPLANATION = 2

INPUTS_LENGTH = "TASK_FEATURE_LENGTHS['inputs']"


class LabelTokens(NamedTuple):
    """Token counts by label (irrelevant, relevant)."""

    alone: tuple[int, int]  # of a target that is the label
    last: tuple[int, int]  # of the label where it follows an explanation
    tail: tuple[int, int]  # of everything that follows an explanation


def pipeline(
    style: Style, template: Template, vocabulary: seqio.Vocabulary, tokenizer: Tokenizer
) -> list[Preprocessor | seqio.CacheDatasetPlaceholder]:
    """The preprocessors of a task. What SeqIO caches is tokenised, and cut to length when it is read."""
    counts = label_tokens(template, tokenizer)
    longest_label = max(counts.alone if style.label_first else counts.alone + counts.tail)
    first_tokens = label_ids(tokenizer, template) if style.soft else (0, 0)
    steps: list[Any] = [
        *([style.rewrite] if style.rewrite else []),
        partial(share_label, first_tokens=first_tokens, soft=style.soft),
        partial(write_texts, style=style, template=template),
        partial(tokenize, template=template, vocabulary=vocabulary, tokenizer=tokenizer, counts=counts),
    ]
    return [
        *(_mapped(step) for step in steps),
        seqio.CacheDatasetPlaceholder(),
        partial(fit_lengths, template=template, tokenizer=tokenizer, longest_label=longest_label),
    ]


def label_tokens(template: Template, tokenizer: Tokenizer) -> LabelTokens:
    """Counts the tokens of the labels alone and behind an explanation."""
    before, after = template.explanation_label.split("{explanation}")[1].split("{label}")
    words = (template.irrelevant, template.relevant)
    tails = [tokenizer.encode(before + word + after) for word in words]
    alone = [len(tokenizer.encode(template.lead + word)) for word in words]
    last = [len(tail) - len(tokenizer.encode(before.rstrip())) for tail in tails]
    return LabelTokens((alone[0], alone[1]), (last[0], last[1]), (len(tails[0]), len(tails[1])))


def share_label(example: Example, *, first_tokens: tuple[int, int], soft: bool) -> Example:
    """Adds the first token of the label the row does not have, and the share of the label's loss that it takes.

    The share is the LLM's doubt in the given label: 0.2 for a relevant pair that it finds relevant with 0.8. It is 0
    without soft labels, and where the LLM was not asked. `first_tokens` are the irrelevant and the relevant label's.
    """
    doubt = tf.abs(tf.cast(example["relevant"], tf.float32) - example["llm_relevance"])
    return {
        **example,
        "other_label": tf.gather(tf.constant(first_tokens[::-1], tf.int32), example["relevant"]),
        "other_label_share": tf.where((example["llm_relevance"] >= 0) & soft, doubt, 0.0),
    }


def write_texts(example: Example, *, style: Style, template: Template) -> Example:
    """Fills the template: `inputs_pretokenized` and `targets_pretokenized`.

    A row without explanation gets the label alone, as `true`; one with it `true. Explanation: It names the bone.`
    """
    label = tf.gather([template.irrelevant, template.relevant], example["relevant"])
    explanation = tf.strings.strip(tf.strings.regex_replace(example["explanation"], "\n", ""))
    form = template.label_explanation if style.label_first else template.explanation_label
    explained = (tf.strings.length(explanation) > 0) & style.explained
    target = tf.where(explained, fill(form, {"label": label, "explanation": explanation}), label)
    return {
        **example,
        "inputs_pretokenized": fill(template.input, example),
        "targets_pretokenized": tf.strings.join([template.lead, target]),
        "label_last": tf.cast(explained & (not style.label_first), tf.int64),
    }


def tokenize(
    example: Example, *, template: Template, vocabulary: seqio.Vocabulary, tokenizer: Tokenizer, counts: LabelTokens
) -> Example:
    """Adds `inputs`, `targets` (without end), and how many tokens of the target are label and what follows it."""
    before, after = (tf.constant(ids, tf.int32) for ids in frame(tokenizer, template))
    inputs = [
        tf.constant([part], tf.int32) if isinstance(part, int) else vocabulary.encode_tf(fill(part, example))
        for part in parts(tokenizer, template)
    ]
    by_place = [[counts.alone, counts.last], [(0, 0), counts.tail]]
    label, tail = (tf.gather(tf.gather(table, example["label_last"]), example["relevant"]) for table in by_place)
    return {
        **{name: value for name, value in example.items() if name not in ("label_last", "explanation")},
        "inputs": tf.concat([before, *inputs, after], axis=0),
        "targets": vocabulary.encode_tf(example["targets_pretokenized"]),
        "label_tokens": tf.cast(label, tf.int64),
        "tail_tokens": tf.cast(tail, tf.int64),
    }


def fit_lengths(
    dataset: tf.data.Dataset,
    sequence_length: Mapping[str, int] | None = None,
    *,
    template: Template,
    tokenizer: Tokenizer,
    longest_label: int,
) -> tf.data.Dataset:
    """Cuts the passage and the explanation to `sequence_length` and ends the target; adds `targets_part`.

    Raises:
        InputError: the targets are too short for a label. A question that does not fit the inputs fails when read.
    """
    lengths = sequence_length or {}
    if (limit := lengths.get("targets")) and limit < longest_label + 1:
        raise InputError(
            f"targets of {limit} tokens cannot hold a label and its end, which need {longest_label + 1}",
            hint="raise TASK_FEATURE_LENGTHS['targets']",
        )
    return dataset.map(
        lambda example: _ended(_cut_passage(example, template, tokenizer, lengths.get("inputs")), tokenizer, limit),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def fill(form: str, values: Mapping[str, Any]) -> tf.Tensor:
    """`form.format(**values)` for string tensors."""
    values = {**values, APART: ""}
    texts = [text for literal, field in pieces(form) for text in (literal, values[field] if field else "")]
    return tf.strings.join(texts)


def _cut_passage(example: Example, template: Template, tokenizer: Tokenizer, limit: int | None) -> Example:
    """Inputs that are too long are encoded again, in Python, with a shorter passage."""
    if limit is None:
        return example

    def cut(query: bytes, passage: bytes) -> np.ndarray:
        ids = encode_input(tokenizer, template, query.decode(), passage.decode(), limit, INPUTS_LENGTH)
        return np.array(ids, np.int32)

    inputs = tf.cond(
        tf.size(example["inputs"]) > limit,
        lambda: tf.numpy_function(cut, [example["query"], example["passage"]], tf.int32, stateful=False),
        lambda: example["inputs"],
    )
    return {**example, "inputs": tf.ensure_shape(inputs, [None])}


def _ended(example: Example, tokenizer: Tokenizer, limit: int | None) -> Example:
    """Drops tokens of the explanation that do not fit, keeps a label behind it, and ends the target."""
    targets = example["targets"]
    label, tail = (tf.cast(example[name], tf.int32) for name in ("label_tokens", "tail_tokens"))
    split = tf.size(targets) - tail
    head = targets[:split] if limit is None else targets[:split][: limit - 1 - tail]
    ended = tf.concat([head, targets[split:], [tokenizer.eos_id]], axis=0)
    start = tf.where(tail > 0, tf.size(ended) - 1 - label, 0)
    position = tf.range(tf.size(ended))
    part = tf.where((position >= start) & (position < start + label), LABEL, EXPLANATION)
    kept = {name: value for name, value in example.items() if name not in ("label_tokens", "tail_tokens")}
    return {**kept, "targets": ended, "targets_part": part}


def _mapped(step: Callable[[Example], Example]) -> Preprocessor:
    def over_dataset(dataset: tf.data.Dataset) -> tf.data.Dataset:
        return dataset.map(step, num_parallel_calls=tf.data.AUTOTUNE)

    return over_dataset
