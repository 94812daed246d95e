"""The table of engines: what `--engine` may be, and how each is put together from its gin objects."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from exaranker.errors import InputError
from exaranker.preprocess.engines.base import Engine
from exaranker.preprocess.engines.runners import EngineSpec, run_overlapping

if TYPE_CHECKING:
    from exaranker.preprocess.gin_config import ExplainConfig

GIVEN = "given"  # the explanations exist already
NO_ENGINE = "none"  # pairs as they are, to train on labels only


def _vllm(config: ExplainConfig) -> EngineSpec:
    from exaranker.preprocess.engines.llms import find_llm

    explainer, options = config.explainer, config.vllm

    def start() -> Engine:
        from exaranker.preprocess.engines.vllm import VLLMEngine

        path = str(find_llm(explainer.llm).path)  # looked up where the engine starts, which may be another host
        return VLLMEngine(path, options, context_tokens=explainer.context_tokens, seed=explainer.seed)

    return EngineSpec({"name": "vllm", **options.text_settings}, start)


def _ray(config: ExplainConfig) -> EngineSpec:
    """The same engine with the same settings, elsewhere: a dataset begun on one machine may be finished by many."""
    from exaranker.preprocess.engines.ray import run_on_ray

    run = partial(run_on_ray, config=config.ray, ranks=config.vllm.ranks)
    return _vllm(config)._replace(run=run)


def _server(config: ExplainConfig) -> EngineSpec:
    from exaranker.preprocess.engines.llms import decoder, find_llm
    from exaranker.preprocess.engines.server import ServerEngine
    from exaranker.preprocess.prompts.prompter import load_style

    explainer, options = config.explainer, config.server
    if options.prompts == "messages" and (load_style(explainer.prompt).opening or explainer.relevance_prompt):
        problem = "server.prompts is 'messages', in which no answer can be begun and no token's probability asked for"
        hint = "a prompt without openings, --gin.explainer.prompt=\"'exaranker'\", and no explainer.relevance_prompt"
        raise InputError(problem, hint=hint)

    def start() -> Engine:
        return ServerEngine(options, decoder(find_llm(explainer.llm, weights=False).path))

    return EngineSpec({"name": "server", **options.text_settings}, start, run_overlapping)


ENGINES: dict[str, Callable[[ExplainConfig], EngineSpec]] = {"vllm": _vllm, "server": _server, "ray": _ray}
CHOICES = (*ENGINES, GIVEN, NO_ENGINE)
