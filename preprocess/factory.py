"""Puts a job together out of names: the LLM's files, its tokenizer, the prompt and the engine."""

from typing import Any

from exaranker.preprocess.config import ExplainerConfig
from exaranker.preprocess.engines.llms import load_chat_tokenizer, resolve_llm
from exaranker.preprocess.engines.registry import ENGINES
from exaranker.preprocess.explain import Job
from exaranker.preprocess.gin_config import ExplainConfig
from exaranker.preprocess.pairs.selection import Selection
from exaranker.preprocess.prompts.prompter import Prompter, load_style
from exaranker.preprocess.prompts.relevance import RelevanceAsker
from exaranker.schema import Pair


def make_job(selection: Selection[Pair], input_name: str, settings: ExplainConfig, engine: str) -> Job:
    """The job that a configuration asks for: its LLM found, its prompt read.

    Raises:
        InputError: there is no such LLM or prompt.
    """
    config = settings.explainer
    style = load_style(config.prompt)
    llm = resolve_llm(config.llm, weights=engine != "server")
    tokenizer = load_chat_tokenizer(llm.path)
    prompter = Prompter(style, tokenizer, **_prompt_options(config, config.max_tokens))
    spec = ENGINES[engine](settings)
    return Job(selection, input_name, config, prompter, llm.name, llm.digest, spec, _asker(config, tokenizer))


def _asker(config: ExplainerConfig, tokenizer: Any) -> RelevanceAsker | None:
    if config.relevance_prompt is None:
        return None
    return RelevanceAsker(load_style(config.relevance_prompt), tokenizer, **_prompt_options(config, 1))


def _prompt_options(config: ExplainerConfig, answer_tokens: int) -> dict[str, Any]:
    return {
        "chat": config.chat,
        "max_passage_tokens": config.max_passage_tokens,
        "max_prompt_tokens": config.context_tokens - answer_tokens,
    }
