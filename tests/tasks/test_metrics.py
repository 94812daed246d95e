"""Targets read back, and the figures over them."""

import pytest

from exaranker.tasks.metrics import Answer, explanation_metrics, label_metrics, parse_answer, postprocess
from exaranker.templates import EXARANKER, TEMPLATES


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("true. Explanation: It names the bone.", Answer(1, "It names the bone.")),
        ("false. Explanation: It is of stars.", Answer(0, "It is of stars.")),
        (" true ", Answer(1, "")),
        ("false", Answer(0, "")),
        ("true. Expl", Answer(1, "")),
        ("falsehood", Answer(None, "")),
        ("It is true", Answer(None, "")),
        ("", Answer(None, "")),
    ],
)
def test_answers_with_the_label_first(text, answer):
    assert parse_answer(text, EXARANKER) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Explanation: It names the bone. Relevant: true", Answer(1, "It names the bone.")),
        ("Explanation: It is of stars. Relevant: false", Answer(0, "It is of stars.")),
        ("true", Answer(1, "")),
        ("Explanation: It names the", Answer(None, "")),
        ("cut before it says true", Answer(1, "")),
    ],
)
def test_answers_with_the_label_last(text, answer):
    assert parse_answer(text, EXARANKER, label_first=False) == answer


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=str)
@pytest.mark.parametrize("label_first", [True, False])
@pytest.mark.parametrize("relevant", [0, 1])
def test_every_target_is_read_back(template, label_first, relevant):
    form = template.label_explanation if label_first else template.explanation_label
    target = template.target(bool(relevant), "Because true. Relevant: false or so", form)
    answer = parse_answer(target, template, label_first=label_first)
    assert answer == Answer(relevant, "Because true. Relevant: false or so")


def test_the_row_says_a_target_s_label():
    row = {"relevant": 0}
    assert postprocess("cut", template=EXARANKER, example=row, is_target=True) == Answer(0, "")
    assert postprocess("true", template=EXARANKER, example=row) == Answer(1, "")


def test_label_figures_by_hand():
    gold = [Answer(label, "") for label in (1, 1, 1, 0, 0)]
    said = [Answer(label, "") for label in (1, 1, 0, 1, None)]
    figures = label_metrics(gold, said)
    assert figures == {"label_accuracy": 40.0, "label_f1": pytest.approx(200 * 2 / 6), "no_label": 20.0}
    assert label_metrics([], []) == {"label_accuracy": 0.0, "label_f1": 0.0, "no_label": 0.0}


def test_explanation_f1_by_hand():
    gold = [Answer(1, "It names the bone"), Answer(0, ""), Answer(1, "no word shared")]
    said = [Answer(1, "it names A bone bone"), Answer(0, "something"), Answer(1, "at all")]
    assert explanation_metrics(gold, said) == {"explanation_f1": pytest.approx(50 * 2 * 3 / 9)}
