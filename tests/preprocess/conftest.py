"""The embedded LLM's tokenizer, and an engine that answers by a function of the prompt."""

import hashlib

import pytest

from exaranker.embedded.llm import embedded_llm_dir
from exaranker.preprocess.config import ExplainerConfig
from exaranker.preprocess.engines.base import Completion, EngineInfo
from exaranker.preprocess.engines.llms import load_chat_tokenizer
from exaranker.preprocess.engines.runners import EngineSpec
from exaranker.preprocess.explain import Job
from exaranker.preprocess.pairs.selection import select
from exaranker.preprocess.pairs.text import with_text_ids
from exaranker.preprocess.prompts.prompter import Prompter, load_style


def digest_answer(prompt):
    """A well-formed reason that only depends on the prompt."""
    word = hashlib.sha256(repr(prompt.token_ids).encode()).hexdigest()[:8]
    return Completion(f"it speaks of {word} and of nothing else.", "stop", 9, -0.5)


class FunctionEngine:
    """Satisfies `Engine`; `calls` counts the prompts of each call."""

    info = EngineInfo("function 1", "always")

    def __init__(self, answer=digest_answer):
        self.answer, self.calls = answer, []

    def generate(self, prompts, sampling, prefix):
        self.calls.append(len(prompts))
        return [[self.answer(prompt)] * sampling.samples for prompt in prompts]

    def close(self):
        pass


@pytest.fixture
def function_engine():
    return FunctionEngine


@pytest.fixture(scope="session")
def llm_dir():
    return embedded_llm_dir()


@pytest.fixture(scope="session")
def tokenizer(llm_dir):
    return load_chat_tokenizer(llm_dir)


@pytest.fixture
def make_job(tokenizer):
    """make_job(pairs, engine=..., **config): a job over a list of pairs."""

    def make(pairs, engine=None, **fields):
        engine = engine or FunctionEngine()
        config = ExplainerConfig(**{"shard_size": 4, **fields})
        prompter = Prompter(
            load_style(config.prompt),
            tokenizer,
            chat=config.chat,
            max_passage_tokens=config.max_passage_tokens,
            max_prompt_tokens=config.context_tokens - config.max_tokens,
        )
        spec = EngineSpec({"name": "function"}, lambda: engine)
        return Job(select(lambda: iter(pairs), 1), "list", config, prompter, "fake", "sha256:0", spec)

    return make


@pytest.fixture
def pairs():
    """Ten pairs, positives and negatives in turn."""
    return [with_text_ids(f"question {i}", f"passage {i} about things", (i + 1) % 2) for i in range(10)]
