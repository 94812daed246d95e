"""What a ranker reads and writes, as strings: one template per published recipe, the same in training and ranking.

Only the passage is ever shortened, at a token's end: the question and the words after the passage stay whole.
"""

from dataclasses import dataclass

from exaranker.errors import InputError
from exaranker.tokenization import Tokenizer

ENCODER_DECODER = "encoder_decoder"
DECODER_ONLY = "decoder_only"


@dataclass(frozen=True)
class Template:
    """The input and target strings of a recipe. Targets of a decoder-only template begin with a space."""

    name: str
    family: str
    input: str  # with {query} and {passage}
    relevant: str = "true"
    irrelevant: str = "false"
    explained: str = "{label}. Explanation: {explanation}"
    explained_first: str = "Explanation: {explanation} {label}"

    def label(self, relevant: bool) -> str:
        return self.relevant if relevant else self.irrelevant

    def render(self, query: str, passage: str) -> str:
        """The input string.

        >>> TEMPLATES["monot5"].render("who", "me")
        'Query: who Document: me Relevant:'
        """
        return self.input.format(query=query, passage=passage)


TEMPLATES = {
    template.name: template
    for template in (
        # ExaRanker (arXiv 2301.10521, section 3), and its baseline without explanations.
        Template(
            "exaranker",
            ENCODER_DECODER,
            'Is the question: "{query}" answered by the document: "{passage}"? Give an explanation.',
        ),
        Template(
            "exaranker_label", ENCODER_DECODER, 'Is the question: "{query}" answered by the document: "{passage}"?'
        ),
        # monoT5 (arXiv 2003.06713, section 3).
        Template("monot5", ENCODER_DECODER, "Query: {query} Document: {passage} Relevant:"),
        # For decoder-only LLMs: the passage first, so that the question stands next to the answer.
        Template(
            "decoder",
            DECODER_ONLY,
            "Passage: {passage}\nQuestion: {query}\nDoes the passage answer the question?",
            relevant=" yes",
            irrelevant=" no",
        ),
    )
}


def fit_passage(tokenizer: Tokenizer, template: Template, query: str, passage: str, max_length: int) -> str:
    """The passage, or the longest beginning of it (whole tokens) with which the input has at most `max_length` tokens.

    Raises:
        InputError: not even the question fits.
    """
    excess = len(_encode(tokenizer, template, query, passage)) - max_length
    if excess <= 0:
        return passage
    ends = tokenizer.token_ends(passage)
    keep = len(ends)
    while excess > 0 and keep > 0:
        keep = max(keep - excess, 0)
        shortened = passage[: ends[keep - 1]] if keep else ""
        # Cutting can merge tokens otherwise than counted, so the result is measured, not assumed.
        excess = len(_encode(tokenizer, template, query, shortened)) - max_length
    if excess > 0:
        raise InputError(
            f"the question {query[:60]!r} needs {max_length + excess} tokens before any passage, "
            f"the input length is {max_length}",
            hint="raise TASK_FEATURE_LENGTHS['inputs'] or shorten the question",
        )
    return shortened


def encode_input(tokenizer: Tokenizer, template: Template, query: str, passage: str, max_length: int) -> list[int]:
    """Token ids of the input, at most `max_length`; an encoder-decoder's ends with eos.

    Raises:
        InputError: not even the question fits.
    """
    return _encode(tokenizer, template, query, fit_passage(tokenizer, template, query, passage, max_length))


def label_ids(tokenizer: Tokenizer, template: Template) -> tuple[int, int]:
    """(irrelevant, relevant): the first token of each label.

    Raises:
        InputError: both labels begin with the same token, so that one step cannot tell them apart.
    """
    irrelevant, relevant = tokenizer.encode(template.irrelevant)[0], tokenizer.encode(template.relevant)[0]
    if irrelevant == relevant:
        raise InputError(
            f"the labels {template.irrelevant!r} and {template.relevant!r} begin with the same token {relevant}",
            hint="use a vocabulary or a template in which the labels differ in their first token",
        )
    return irrelevant, relevant


def _encode(tokenizer: Tokenizer, template: Template, query: str, passage: str) -> list[int]:
    ids = tokenizer.encode(template.render(query, passage))
    if template.family == ENCODER_DECODER:
        return [*ids, tokenizer.eos_id]
    return ids if tokenizer.bos_id is None else [tokenizer.bos_id, *ids]
