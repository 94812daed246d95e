"""The one small interface to whatever runs the LLM."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from exaranker.errors import InputError
from exaranker.preprocess.prompts.prompter import Prompt


@dataclass(frozen=True)
class Sampling:
    """How text is drawn. `label_tokens` asks instead for their log-probabilities at the first position."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    samples: int = 1
    seed: int = 0
    stop: tuple[str, ...] = ()
    label_tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.samples > 1 and self.temperature == 0:
            problem = f"explainer.samples is {self.samples} at temperature 0: all samples would be the same"
            raise InputError(problem, hint="set --gin.explainer.temperature=0.7")


class Completion(NamedTuple):
    """One answer of the LLM, with the log-probabilities of the labels where they were asked for."""

    text: str
    finish_reason: str  # "stop" or "length"
    num_tokens: int
    mean_logprob: float  # natural log; 0.0 for no tokens
    label_logprobs: tuple[float, ...] = ()


class Call(NamedTuple):
    """The arguments of one `Engine.generate`."""

    prompts: Sequence[Prompt]
    sampling: Sampling
    prefix: Prompt


class EngineInfo(NamedTuple):
    """What the manifest says of the engine that generated a shard."""

    version: str
    repeatable: str  # what makes the shard's text the same when it is generated again, or "no: why"
    names_model: bool = False  # `version` is all that is known of the LLM: it may not change under a dataset


class Engine(Protocol):
    """Generates text; one call is one shard, and the same call gives the same text wherever `info` says so."""

    @property
    def info(self) -> EngineInfo: ...

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, prefix: Prompt) -> list[list[Completion]]:
        """`sampling.samples` completions for each prompt, in order; all prompts begin like `prefix`."""
        ...

    def close(self) -> None: ...
