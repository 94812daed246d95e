"""Puts a job together out of names: the LLM's files, its tokenizer, the prompt and the engine."""

from collections.abc import Callable

from exaranker.preprocess import gin_config
from exaranker.preprocess.configs import ExplainerConfig
from exaranker.preprocess.engines import Engine, EngineSpec
from exaranker.preprocess.explain import Job
from exaranker.preprocess.llms import LocalLLM, load_tokenizer, resolve_llm
from exaranker.preprocess.prompting import Prompter, load_style
from exaranker.preprocess.selection import Selection


def make_job(selection: Selection, input_name: str, config: ExplainerConfig, engine: str) -> Job:
    """
    Raises:
        InputError: there is no such LLM or prompt.
    """
    style = load_style(config.prompt)
    llm = resolve_llm(config.llm)
    prompter = Prompter(
        style,
        load_tokenizer(llm.path),
        chat=config.chat,
        max_passage_tokens=config.max_passage_tokens,
        max_prompt_tokens=config.context_tokens - config.max_tokens,
    )
    return Job(selection, input_name, config, prompter, llm.name, llm.digest, ENGINES[engine](llm, config))


def _vllm(llm: LocalLLM, config: ExplainerConfig) -> EngineSpec:
    options = gin_config.vllm()

    def start() -> Engine:
        from exaranker.preprocess.vllm_engine import VLLMEngine

        return VLLMEngine(str(llm.path), options, context_tokens=config.context_tokens, seed=config.seed)

    return EngineSpec({"name": "vllm", **options.text_settings}, start)


ENGINES: dict[str, Callable[[LocalLLM, ExplainerConfig], EngineSpec]] = {"vllm": _vllm}
