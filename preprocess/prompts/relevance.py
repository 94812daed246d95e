"""The second pass: what the LLM itself thinks of a pair, asked without its label.

Its probability is read off the first token of the answer, as in label-token scoring of rerankers (monoT5,
https://arxiv.org/abs/2003.06713, section 3), so a pair costs one prompt and one token.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from exaranker.errors import InputError
from exaranker.files import sha256_json
from exaranker.preprocess.engines.base import Completion, Sampling
from exaranker.preprocess.prompts.prompter import VERDICTS, Prompt, Prompter, PromptStyle
from exaranker.schema import Pair

NOT_ASKED = -1.0  # `llm_relevance` of a pair that was not asked about


class RelevanceAsker:
    """Builds questions after a pair's relevance, and reads P(relevant) off their answers.

    Args:
        style: a prompt whose item does not show the verdict; `verdict` has the answers' words.
        options: those of `Prompter`.
    """

    def __init__(self, style: PromptStyle, tokenizer: Any, **options: Any):
        if "{verdict}" in style.item:
            hint = "explainer.relevance_prompt names a prompt such as 'relevance'"
            raise InputError(f"the prompt {style.name!r} tells the label that it should ask for", hint=hint)
        self.style = style
        self._prompter = Prompter(style, tokenizer, **options)
        self._label_tokens = label_token_ids(style, tokenizer, **options)

    @property
    def sampling(self) -> Sampling:
        return Sampling(max_tokens=1, label_tokens=self._label_tokens)

    def build(self, pairs: Sequence[Pair]) -> list[Prompt | None]:
        """One question a pair; None where it does not fit. The label has no part in it."""
        return self._prompter.build([pair._replace(label=0) for pair in pairs], positive_grade=1)

    def prefix(self) -> Prompt:
        return self._prompter.prefix()

    def digest(self) -> str:
        """sha256 of the prompt's digest and the two answers that are compared."""
        return sha256_json([self._prompter.digest(), self._label_tokens])

    def probability(self, answer: Completion) -> float:
        """P(relevant) among the two label tokens; [0, 1]."""
        irrelevant, relevant = answer.label_logprobs
        return 1 / (1 + math.exp(min(irrelevant - relevant, 700.0)))  # exp overflows at 710


def label_token_ids(style: PromptStyle, tokenizer: Any, **options: Any) -> tuple[int, int]:
    """The first tokens of the answers (not relevant, relevant), in the place where the LLM would write them.

    Raises:
        InputError: both answers begin with the same token.
    """
    bare = replace(style, examples=(), opening={})
    answered = replace(bare, opening=style.verdict)
    pair = Pair("", "", "question", "passage", 0)
    asked = _ids(Prompter(bare, tokenizer, **options), pair)
    ends = Prompter(answered, tokenizer, **options)
    irrelevant, relevant = (_ids(ends, pair._replace(label=label))[len(asked)] for label in range(len(VERDICTS)))
    if irrelevant == relevant:
        raise InputError(f"{list(style.verdict.values())} begin with the same token", hint="use words such as yes, no")
    return irrelevant, relevant


def _ids(prompter: Prompter, pair: Pair) -> tuple[int, ...]:
    prompt = prompter.build([pair], positive_grade=1)[0]
    if prompt is None:
        raise InputError("the prompt that asks for relevance does not fit into explainer.context_tokens")
    return prompt.token_ids
