"""Puts a job together out of names: the LLM's files, its tokenizer, the prompt and the engine."""

from collections.abc import Callable
from functools import partial
from typing import Any

from exaranker.errors import InputError
from exaranker.preprocess import gin_config
from exaranker.preprocess.configs import ExplainerConfig
from exaranker.preprocess.engines import Engine
from exaranker.preprocess.explain import Job
from exaranker.preprocess.llms import decoder, find_llm, load_tokenizer, resolve_llm
from exaranker.preprocess.prompting import Prompter, load_style
from exaranker.preprocess.ray_engine import run_on_ray
from exaranker.preprocess.relevance import RelevanceAsker
from exaranker.preprocess.runners import EngineSpec, run_overlapping
from exaranker.preprocess.selection import Selection
from exaranker.preprocess.server_engine import ServerEngine


def make_job(selection: Selection, input_name: str, config: ExplainerConfig, engine: str) -> Job:
    """
    Raises:
        InputError: there is no such LLM or prompt.
    """
    style = load_style(config.prompt)
    llm = resolve_llm(config.llm, weights=engine != "server")
    tokenizer = load_tokenizer(llm.path)
    prompter = Prompter(style, tokenizer, **_prompt_options(config, config.max_tokens))
    spec = ENGINES[engine](config)
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


def _vllm(config: ExplainerConfig) -> EngineSpec:
    options = gin_config.vllm()

    def start() -> Engine:
        from exaranker.preprocess.vllm_engine import VLLMEngine

        path = str(find_llm(config.llm).path)  # looked up where the engine starts, which may be another host
        return VLLMEngine(path, options, context_tokens=config.context_tokens, seed=config.seed)

    return EngineSpec({"name": "vllm", **options.text_settings}, start)


def _ray(config: ExplainerConfig) -> EngineSpec:
    """The same engine with the same settings, elsewhere: a dataset begun on one machine may be finished by many."""
    run = partial(run_on_ray, config=gin_config.ray(), ranks=gin_config.vllm().ranks)
    return _vllm(config)._replace(run=run)


def _server(config: ExplainerConfig) -> EngineSpec:
    options = gin_config.server()
    if options.prompts == "messages" and (load_style(config.prompt).opening or config.relevance_prompt):
        problem = "server.prompts is 'messages', in which no answer can be begun and no token's probability asked for"
        hint = "a prompt without openings, --gin.explainer.prompt=\"'exaranker'\", and no explainer.relevance_prompt"
        raise InputError(problem, hint=hint)

    def start() -> Engine:
        return ServerEngine(options, decoder(find_llm(config.llm, weights=False).path))

    return EngineSpec({"name": "server", **options.text_settings}, start, run_overlapping)


ENGINES: dict[str, Callable[[ExplainerConfig], EngineSpec]] = {"vllm": _vllm, "server": _server, "ray": _ray}
