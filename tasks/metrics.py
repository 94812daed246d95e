"""What a decoded target says, and how good a set of them is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from exaranker.templates import Template


class Answer(NamedTuple):
    """A target, read back: `relevant` is 1, 0, or None if the text names no label where it should."""

    relevant: int | None
    explanation: str


def parse_answer(text: str, template: Template, *, label_first: bool = True) -> Answer:
    """Reads label and explanation from a target.

    >>> from exaranker.templates import TEMPLATES
    >>> parse_answer("true. Explanation: It names the bone.", TEMPLATES["exaranker"])
    Answer(relevant=1, explanation='It names the bone.')
    """
    text = text.strip()
    form = template.label_explanation if label_first else template.explanation_label
    for relevant, word in enumerate((template.irrelevant, template.relevant)):
        before, after = form.replace("{label}", word).split("{explanation}")
        before, after = before.strip(), after.strip()
        if text == word:
            return Answer(relevant, "")
        if text.startswith(before) and text.endswith(after):
            return Answer(relevant, text[len(before) : len(text) - len(after)].strip())
    return Answer(_bare_label(text, template, label_first), "")


def postprocess(
    text: str,
    *,
    template: Template,
    label_first: bool = True,
    example: Mapping[str, Any] | None = None,
    is_target: bool = False,
) -> Answer:
    """SeqIO's postprocessor: the answer a text gives; for a target, the row's own label."""
    answer = parse_answer(text, template, label_first=label_first)
    return answer._replace(relevant=int(example["relevant"])) if is_target and example else answer


def label_metrics(targets: Sequence[Answer], predictions: Sequence[Answer]) -> dict[str, float]:
    """Percent of labels that are right, F1 of the relevant ones, and percent of texts that name no label.

    >>> label_metrics([Answer(1, ""), Answer(0, "")], [Answer(1, ""), Answer(None, "")])
    {'label_accuracy': 50.0, 'label_f1': 100.0, 'no_label': 50.0}
    """
    pairs = Counter((gold.relevant, said.relevant) for gold, said in zip(targets, predictions, strict=True))
    total = max(len(targets), 1)
    said, gold = (sum(n for pair, n in pairs.items() if pair[side] == 1) for side in (1, 0))
    return {
        "label_accuracy": 100.0 * (pairs[1, 1] + pairs[0, 0]) / total,
        "label_f1": 200.0 * pairs[1, 1] / max(said + gold, 1),
        "no_label": 100.0 * sum(n for pair, n in pairs.items() if pair[1] is None) / total,
    }


def explanation_metrics(targets: Sequence[Answer], predictions: Sequence[Answer]) -> dict[str, float]:
    """Mean F1, in percent, of the words of the explanations; rows without one to compare with are left out."""
    pairs = [(gold, said) for gold, said in zip(targets, predictions, strict=True) if gold.explanation]
    return {"explanation_f1": 100.0 * sum(_word_f1(*pair) for pair in pairs) / max(len(pairs), 1)}


def _word_f1(gold: Answer, said: Answer) -> float:
    ours, theirs = (Counter(answer.explanation.lower().split()) for answer in (said, gold))
    return 2.0 * (ours & theirs).total() / max(ours.total() + theirs.total(), 1)


def _bare_label(text: str, template: Template, label_first: bool) -> int | None:
    """The label if the text has at least that: a generation cut short, or one without explanation."""
    words = text.replace(".", " ").split()
    edge = words[0 if label_first else -1] if words else ""
    return {template.irrelevant: 0, template.relevant: 1}.get(edge)
