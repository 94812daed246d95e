"""What an explanation run can be told, apart from its input and output: the objects that gin binds."""

from dataclasses import dataclass

from exaranker.errors import InputError, nearest
from exaranker.preprocess.engines.llms import EMBEDDED
from exaranker.preprocess.filters.rules import FILTERS


@dataclass(frozen=True)
class ExplainerConfig:
    """The LLM, its prompt, how it is sampled and what is kept; bound in gin as `explainer.NAME`."""

    llm: str = EMBEDDED
    prompt: str = "small"
    chat: bool = True  # worked examples as turns of the LLM's chat template, or one text to complete
    context_tokens: int = 2048
    max_passage_tokens: int = 256
    max_tokens: int = 96
    temperature: float = 0.0
    top_p: float = 1.0
    samples: int = 1
    seed: int = 0
    shard_size: int = 256
    filters: tuple[str, ...] = tuple(FILTERS)
    relevance_prompt: str | None = None  # also asks the LLM itself, by this prompt, how likely the pair is relevant
    max_disagreement: float = 1.0  # between that probability and the label, 0 to 1; pairs above it are rejected

    def __post_init__(self) -> None:
        for name in self.filters:
            if name not in FILTERS:
                raise InputError(f"no filter named {name!r} in explainer.filters", hint=nearest(name, FILTERS))
        for field in ("context_tokens", "max_passage_tokens", "max_tokens", "samples", "shard_size"):
            if (value := getattr(self, field)) < 1:
                raise InputError(f"explainer.{field} is {value}, expected at least 1")
        if not 0 <= self.max_disagreement <= 1:
            raise InputError(f"explainer.max_disagreement is {self.max_disagreement}, expected 0 to 1")
        if self.max_disagreement < 1 and self.relevance_prompt is None:
            hint = "add --gin.explainer.relevance_prompt=\"'relevance'\""
            raise InputError("explainer.max_disagreement needs the LLM to be asked", hint=hint)
        if self.max_tokens >= self.context_tokens:
            problem = f"explainer.max_tokens {self.max_tokens} leaves no room in {self.context_tokens} context tokens"
            raise InputError(problem)
