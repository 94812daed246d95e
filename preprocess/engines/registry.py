"""The table of engines: what `--engine` may be, and how each is put together from its gin objects."""

from collections.abc import Callable
from functools import partial

from exaranker.errors import InputError
from exaranker.preprocess.config import ExplainerConfig
from exaranker.preprocess.engines.base import Engine
from exaranker.preprocess.engines.runners import EngineSpec, run_overlapping

NO_ENGINE = "none"  # pairs as they are, to train on labels only


def _vllm(config: ExplainerConfig) -> EngineSpec:
    from exaranker.preprocess import gin_config
    from exaranker.preprocess.engines.llms import find_llm

    options = gin_config.vllm()

    def start() -> Engine:
        from exaranker.preprocess.engines.vllm import VLLMEngine

        path = str(find_llm(config.llm).path)  # looked up where the engine starts, which may be another host
        return VLLMEngine(path, options, context_tokens=config.context_tokens, seed=config.seed)

    return EngineSpec({"name": "vllm", **options.text_settings}, start)


def _ray(config: ExplainerConfig) -> EngineSpec:
    """The same engine with the same settings, elsewhere: a dataset begun on one machine may be finished by many."""
    from exaranker.preprocess import gin_config
    from exaranker.preprocess.engines.ray import run_on_ray

    run = partial(run_on_ray, config=gin_config.ray(), ranks=gin_config.vllm().ranks)
    return _vllm(config)._replace(run=run)


def _server(config: ExplainerConfig) -> EngineSpec:
    from exaranker.preprocess import gin_config
    from exaranker.preprocess.engines.llms import decoder, find_llm
    from exaranker.preprocess.engines.server import ServerEngine
    from exaranker.preprocess.prompts.prompter import load_style

    options = gin_config.server()
    if options.prompts == "messages" and (load_style(config.prompt).opening or config.relevance_prompt):
        problem = "server.prompts is 'messages', in which no answer can be begun and no token's probability asked for"
        hint = "a prompt without openings, --gin.explainer.prompt=\"'exaranker'\", and no explainer.relevance_prompt"
        raise InputError(problem, hint=hint)

    def start() -> Engine:
        return ServerEngine(options, decoder(find_llm(config.llm, weights=False).path))

    return EngineSpec({"name": "server", **options.text_settings}, start, run_overlapping)


ENGINES: dict[str, Callable[[ExplainerConfig], EngineSpec]] = {"vllm": _vllm, "server": _server, "ray": _ray}
