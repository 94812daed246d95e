"""What an explanation run can be told, apart from its input and output: the objects that gin binds."""

from dataclasses import dataclass
from typing import Annotated

from exaranker.checks import NonEmpty, Positive, Seed, above, at_least, at_most, check, within
from exaranker.errors import InputError, nearest
from exaranker.preprocess.engines.llms import EMBEDDED
from exaranker.preprocess.filters.rules import FILTERS


@dataclass(frozen=True)
class ExplainerConfig:
    """The LLM, its prompt, how it is sampled and what is kept; bound in gin as `explainer.NAME`."""

    llm: NonEmpty = EMBEDDED
    prompt: NonEmpty = "small"
    chat: bool = True  # worked examples as turns of the LLM's chat template, or one text to complete
    context_tokens: Positive = 2048
    max_passage_tokens: Positive = 256
    max_tokens: Positive = 96
    temperature: Annotated[float, at_least(0)] = 0.0
    top_p: Annotated[float, above(0), at_most(1)] = 1.0
    samples: Positive = 1
    seed: Seed = 0
    shard_size: Positive = 256
    filters: tuple[str, ...] | list[str] = tuple(FILTERS)
    # Also asks the LLM itself, by this prompt, how likely the pair is relevant.
    relevance_prompt: NonEmpty | None = None
    # Between that probability and the label; pairs above it are rejected.
    max_disagreement: Annotated[float, within(0, 1)] = 1.0

    def __post_init__(self) -> None:
        check(self, "explainer.")
        for name in self.filters:
            if name not in FILTERS:
                raise InputError(f"no filter named {name!r} in explainer.filters", hint=nearest(name, FILTERS))
        if self.max_disagreement < 1 and self.relevance_prompt is None:
            hint = "add --gin.explainer.relevance_prompt=\"'relevance'\""
            raise InputError("explainer.max_disagreement needs the LLM to be asked", hint=hint)
        if self.max_tokens >= self.context_tokens:
            problem = f"explainer.max_tokens {self.max_tokens} leaves no room in {self.context_tokens} context tokens"
            raise InputError(problem)
