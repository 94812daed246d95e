"""What a target may look like: the label, the explanation, and the controls that tell why explanations help."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import tensorflow as tf

from exaranker.tasks.sources import Example

Rewrite = Callable[[Example], Example]

MAX_KEYWORDS = 5  # a few key tokens of a rationale are enough (arXiv 2406.14511)
# Words that carry no content in an explanation, among them those every explanation of relevance has.
STOPWORDS = (
    "a about above after all also an and any are as at be because been but by can could do does for from had has have "
    "he her his how however i if in into is it its may more most no nor not of on only or other our over passage "
    "question answer answers query relevant irrelevant document text she should so some such than that the their them "
    "then there these they this those to too under up was we were what when where which while who whom whose why will "
    "with would you your"
).split()


@dataclass(frozen=True)
class Style:
    """A target form, and how the explanation is changed before it is written.

    With `soft`, the label's loss is shared out between both labels by the LLM's own probability of relevance.
    """

    explained: bool = True
    soft: bool = False
    label_first: bool = True
    mismatched: bool = False
    rewrite: Rewrite | None = None
    template: str | None = None  # instead of the dataset's


def shuffled_words(example: Example) -> Example:
    """Puts the explanation's words in an order that is random, and the same every time."""
    words = tf.strings.split(example["explanation"])
    seed = tf.stack([row_hash(example, 2**31 - 1), tf.constant(0, tf.int64)])
    words = tf.random.experimental.stateless_shuffle(words, seed=seed)
    return {**example, "explanation": tf.strings.reduce_join(words, separator=" ")}


def keywords(example: Example) -> Example:
    """Keeps the first few content words of the explanation that the passage or the query has too."""
    words, _ = tf.unique(_words(example["explanation"]))
    source = _words(tf.strings.join([example["query"], example["passage"]], " "))
    kept = tf.boolean_mask(words, _is_in(words, source) & ~_is_in(words, tf.constant(STOPWORDS)))
    return {**example, "explanation": tf.strings.reduce_join(kept[:MAX_KEYWORDS], separator=" ")}


def partly_explained(example: Example, percent: int) -> Example:
    """Keeps the explanation of `percent` of the rows; those of a lower rate are among those of a higher one."""
    kept = row_hash(example, 100) < percent
    return {**example, "explanation": tf.where(kept, example["explanation"], "")}


STYLES: dict[str, Style] = {
    "label": Style(explained=False),
    "label_explanation": Style(),
    "explanation_label": Style(label_first=False),
    "shuffled": Style(rewrite=shuffled_words),
    "mismatched": Style(mismatched=True),
    "keywords": Style(rewrite=keywords),
    "soft_label": Style(explained=False, soft=True),
    "monot5": Style(explained=False, template="monot5"),
}
PERCENTS = (10, 25, 50, 75, 90)
_PARTIAL = re.compile(r"label_explanation_p(\d+)")


def style_named(name: str) -> Style | None:
    """A style of the table, or `label_explanation_pN`: N percent of the rows are explained, the others labelled."""
    if (match := _PARTIAL.fullmatch(name)) and int(match[1]) <= 100:
        return replace(STYLES["label_explanation"], rewrite=partial(partly_explained, percent=int(match[1])))
    return STYLES.get(name)


def row_hash(example: Example, below: int) -> tf.Tensor:
    """A number less than `below` that depends on the pair's ids only."""
    return tf.strings.to_hash_bucket_fast(tf.strings.join([example["query_id"], example["doc_id"]], "\t"), below)


def _words(text: tf.Tensor) -> tf.Tensor:
    lower = tf.strings.lower(text, encoding="utf-8")
    return tf.strings.split(tf.strings.regex_replace(lower, r"[^\pL\pN]+", " "))


def _is_in(words: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    return tf.reduce_any(words[:, None] == others[None, :], axis=1)
