"""The second pass: the LLM's own P(relevant), as a soft label and as a filter."""

import json
from dataclasses import replace
from math import log

import pytest

from exaranker import schema
from exaranker.errors import InputError
from exaranker.preprocess.config import ExplainerConfig
from exaranker.preprocess.engines.base import Completion
from exaranker.preprocess.explain import explain
from exaranker.preprocess.pairs.text import with_text_ids
from exaranker.preprocess.prompts.prompter import load_style
from exaranker.preprocess.prompts.relevance import RelevanceAsker, label_token_ids

OPTIONS = {"max_passage_tokens": 256, "max_prompt_tokens": 1900}


@pytest.fixture
def asker(tokenizer):
    return RelevanceAsker(load_style("relevance"), tokenizer, chat=True, **OPTIONS)


@pytest.fixture
def believer(function_engine):
    """believer(*beliefs): an engine that explains, and when asked believes each pair by its turn."""

    class Believer(function_engine):
        def __init__(self, *beliefs):
            super().__init__()
            self.beliefs = beliefs

        def generate(self, prompts, sampling, prefix):
            if not sampling.label_tokens:
                return super().generate(prompts, sampling, prefix)
            assert (sampling.max_tokens, sampling.temperature, sampling.samples) == (1, 0.0, 1)
            return [[Completion("", "length", 1, -1.0, (log(1 - p), log(p)))] for p in self.beliefs[: len(prompts)]]

    return Believer


@pytest.mark.parametrize(("chat", "words"), [(True, ["no", "yes"]), (False, [" no", " yes"])])
def test_label_tokens_are_those_of_the_answers(tokenizer, chat, words):
    tokens = label_token_ids(load_style("relevance"), tokenizer, chat=chat, **OPTIONS)
    assert [tokenizer.decode([token]) for token in tokens] == words


def test_the_question_does_not_tell_the_label(asker, tokenizer):
    relevant, irrelevant = asker.build([with_text_ids("who", "he", 1), with_text_ids("who", "he", 0)])
    assert relevant == irrelevant
    text = tokenizer.decode(relevant.token_ids)
    assert text.endswith("Question: who\nPassage: he\nRelevant:<|im_end|>\n<|im_start|>assistant\n")


def test_the_digest_follows_the_answers_that_are_compared(asker, tokenizer):
    style = load_style("relevance")
    other = replace(style, verdict={"relevant": "good", "not_relevant": "bad"})
    assert RelevanceAsker(other, tokenizer, chat=True, **OPTIONS).digest() != asker.digest()
    assert RelevanceAsker(style, tokenizer, chat=True, **OPTIONS).digest() == asker.digest()


@pytest.mark.parametrize(("logprobs", "probability"), [((log(0.2), log(0.6)), 0.75), ((0.0, -800.0), 0.0)])
def test_the_probability_is_among_the_two_labels(asker, logprobs, probability):
    assert asker.probability(Completion("", "length", 1, 0.0, logprobs)) == pytest.approx(probability)


def test_rows_carry_the_llms_probability(tmp_path, make_job, pairs, asker, believer):
    job = make_job(pairs[:4], believer(0.25, 0.5, 0.75, 1.0 - 1e-9), relevance_prompt="relevance")
    manifest = explain(job._replace(asker=asker), tmp_path)
    rows = list(schema.read_shard(schema.shard_paths(tmp_path)[0]))
    assert [row.llm_relevance for row in rows] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert manifest["settings"]["relevance"] == {"name": "relevance", "sha256": asker.digest(), "max_disagreement": 1.0}
    assert manifest["shards"][0]["num_tokens"] == 4 * 9 + 4


def test_without_the_second_pass_it_is_minus_one(tmp_path, make_job, pairs):
    manifest = explain(make_job(pairs[:1]), tmp_path)
    assert next(schema.read_shard(schema.shard_paths(tmp_path)[0])).llm_relevance == -1.0
    assert "relevance" not in manifest["settings"]


def test_labels_the_llm_disagrees_with_are_rejected(tmp_path, make_job, pairs, asker, believer):
    """Labels 1, 0, 1, 0 against 0.1, 0.1, 0.25, 0.95, of which |label - p| is 0.9, 0.1, 0.75, 0.95."""
    job = make_job(pairs[:4], believer(0.1, 0.1, 0.25, 0.95), relevance_prompt="relevance", max_disagreement=0.8)
    manifest = explain(job._replace(asker=asker), tmp_path)
    assert manifest["shards"][0]["rejected"]["reasons"] == {"inconsistent": 2}
    side = [json.loads(line) for line in (tmp_path / "rejected-00000-of-00001.jsonl").read_text().splitlines()]
    assert [row["query"] for row in side] == ["question 0", "question 3"]


def test_a_pair_whose_question_does_not_fit_is_not_asked_about(tmp_path, make_job, pairs, tokenizer, believer):
    fits = RelevanceAsker(load_style("relevance"), tokenizer, chat=True, max_passage_tokens=256, max_prompt_tokens=600)
    long = with_text_ids("so very long a question " * 100, "p", 1)
    explain(make_job([long, pairs[0]], believer(0.5), relevance_prompt="relevance")._replace(asker=fits), tmp_path)
    assert [row.llm_relevance for row in schema.read_shard(schema.shard_paths(tmp_path)[0])] == [-1.0, 0.5]


def test_impossible_settings_are_refused(tokenizer):
    with pytest.raises(InputError, match=r"max_disagreement is 1.5, expected 0 to 1"):
        ExplainerConfig(relevance_prompt="relevance", max_disagreement=1.5)
    with pytest.raises(InputError, match=r"max_disagreement needs the LLM to be asked \(add --gin.explainer.relev"):
        ExplainerConfig(max_disagreement=0.5)
    with pytest.raises(InputError, match=r"the prompt 'small' tells the label that it should ask for"):
        RelevanceAsker(load_style("small"), tokenizer, chat=True, **OPTIONS)
