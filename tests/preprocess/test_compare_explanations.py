import json
import runpy
from pathlib import Path

import pytest

from exaranker.errors import InputError
from exaranker.preprocess.engines.base import Completion
from exaranker.preprocess.explain import explain
from exaranker.preprocess.pairs.text import with_text_ids

ROOT = Path(__file__).parents[2]
PASSAGE = "Penguins live in the cold south and feed on fish."


@pytest.fixture(scope="module")
def benchmark():
    return runpy.run_path(str(ROOT / "benchmarks" / "compare_explanations.py"))


@pytest.fixture
def compared(tmp_path, make_job, function_engine, benchmark):
    """compared(ours, theirs): the figures for a relevant and an irrelevant pair with those texts."""

    def compare(ours, theirs, name="reference.jsonl"):
        pairs = [with_text_ids("where do penguins live", PASSAGE, 1), with_text_ids("why is it cold", PASSAGE, 0)]
        answers = iter(ours)
        engine = function_engine(lambda prompt: Completion(next(answers), "stop", 3, -0.1))
        explain(make_job(pairs, engine, prompt="exaranker"), tmp_path / "ours")
        rows = (
            {
                "query": pair.query,
                "passage": pair.passage,
                "label": pair.label,
                **({"explanation": text} if text else {}),
            }
            for pair, text in zip(pairs, theirs, strict=True)
        )
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return benchmark["compare"](tmp_path / "ours", tmp_path / name)

    return compare


def test_figures_by_hand(compared):
    columns = compared(
        ours=["It names the cold south.", PASSAGE],  # the second is rejected as a copy, and still compared
        theirs=["The passage is not relevant to the question.", "No reason is given for the cold."],
    )
    mine, other = columns["ours, relevant"], columns["reference, relevant"]
    assert (mine.texts, mine.words_median, mine.copied_5grams) == (1, 5, 0.0)
    assert mine.passage_words == pytest.approx(3 / 5)  # the, cold, south
    assert mine.query_words == 0.0
    assert (mine.consistent, mine.passes_filters) == (1.0, 1.0)
    assert (other.consistent, other.passes_filters) == (0.0, 0.0)
    copied = columns["ours, irrelevant"]
    assert (copied.copied_5grams, copied.passage_words, copied.passes_filters) == (1.0, 1.0, 0.0)
    assert copied.query_words == pytest.approx(1 / 4)  # cold
    assert columns["ours"].texts == columns["reference"].texts == 2
    assert columns["ours"].passes_filters == 0.5


def test_a_reference_without_explanations(compared):
    with pytest.raises(InputError, match=r"reference.jsonl:2: the pair has no 'explanation'"):
        compared(["It says so.", "It does not."], ["It does.", ""])
