"""The words around a pair: what the reranker reads and what it is trained to answer.

A template is plain text with fields; `tasks` fills it inside tf.data, the reranker here, both put it into the same
`frame` and cut it by `encode_input`, and tests hold both to the same ids. Only the passage is ever shortened: the
question and the words after the passage always stay.
"""

from dataclasses import dataclass
from string import Formatter, whitespace

from exaranker.errors import InputError, nearest
from exaranker.tokenization import Tokenizer

ENCODER_DECODER = "encoder_decoder"
DECODER_ONLY = "decoder_only"
TEMPLATE_FAMILIES = (ENCODER_DECODER, DECODER_ONLY)  # every models.ModelFamily is of one of them


def pieces(text: str) -> list[tuple[str, str | None]]:
    """Splits a format string into (literal, field after it).

    >>> pieces("Query: {query} Relevant:")
    [('Query: ', 'query'), (' Relevant:', None)]
    """
    return [(literal, field) for literal, field, _, _ in Formatter().parse(text)]


@dataclass(frozen=True)
class Template:
    """A prompt with `{query}` and `{passage}`, the two labels, and how label and explanation form a target.

    `lead` is put before every target: a decoder-only model continues its prompt with a word that begins by a blank.
    """

    name: str
    input: str
    family: str = ENCODER_DECODER
    relevant: str = "true"
    irrelevant: str = "false"
    lead: str = ""
    label_explanation: str = "{label}. Explanation: {explanation}"
    explanation_label: str = "Explanation: {explanation} Relevant: {label}"
    baseline: str = ""  # the template that asks for the label alone, if the words differ

    def __post_init__(self) -> None:
        if self.family not in TEMPLATE_FAMILIES:
            raise InputError(f"unknown family {self.family!r}", hint=nearest(self.family, TEMPLATE_FAMILIES))
        for text, needed in (
            (self.input, {"query", "passage"}),
            (self.label_explanation, {"label", "explanation"}),
            (self.explanation_label, {"label", "explanation"}),
        ):
            found = [field for _, field in pieces(text) if field]
            if sorted(found) != sorted(needed):
                raise InputError(f"template {self.name!r}: {text!r} must have each of {sorted(needed)} once")
        if not (self.label_explanation.startswith("{label}") and self.explanation_label.endswith("{label}")):
            raise InputError(f"template {self.name!r}: the label must be the first, or the last, word of a target")

    def fill(self, query: str, passage: str) -> str:
        """The whole input text."""
        return self.input.format(query=query, passage=passage)

    def label(self, relevant: bool) -> str:
        """The target of a label alone, as `true`."""
        return self.lead + (self.relevant if relevant else self.irrelevant)

    def target(self, relevant: bool, explanation: str, form: str | None = None) -> str:
        """The target text with an explanation; `form` is `label_explanation` (default) or `explanation_label`.

        As in the reference scripts, newlines are removed from the explanation.

        >>> EXARANKER.target(True, "It names the bone.")
        'true. Explanation: It names the bone.'
        """
        word = self.relevant if relevant else self.irrelevant
        text = explanation.replace("\n", "").strip(whitespace)
        return self.lead + (form or self.label_explanation).format(label=word, explanation=text)


EXARANKER = Template(
    name="exaranker",
    input='Is the question: "{query}" answered by the document: "{passage}"? Give an explanation.',
    baseline="exaranker_label",
)
TEMPLATES = {
    template.name: template
    for template in (
        EXARANKER,
        Template(name="exaranker_label", input='Is the question: "{query}" answered by the document: "{passage}"?'),
        # The published monoT5 prompt (arXiv 2003.06713).
        Template(name="monot5", input="Query: {query} Document: {passage} Relevant:"),
        # Passage first: a causal model then reads the question last, next to where it answers.
        Template(
            name="decoder",
            input="Passage: {passage}\nQuestion: {query}\n"
            "Does the passage answer the question, true or false?\nAnswer:",
            family=DECODER_ONLY,
            lead=" ",
        ),
        Template(
            name="decoder_monot5",
            input="Query: {query} Document: {passage} Relevant:",
            family=DECODER_ONLY,
            lead=" ",
        ),
    )
}


def template_named(name: str) -> Template:
    """The template of a name.

    Raises:
        InputError: there is none; the nearest names are offered.
    """
    if name not in TEMPLATES:
        raise InputError(f"unknown template {name!r}", hint=nearest(name, TEMPLATES))
    return TEMPLATES[name]


def encode_input(
    tokenizer: Tokenizer, template: Template, query: str, passage: str, max_length: int, option: str = "max_length"
) -> list[int]:
    """Input ids in their frame, at most `max_length`: too long a passage is cut at the end of one of its tokens.

    `option` is what a user would raise to have longer inputs.

    Raises:
        InputError: even without any passage the question and the words around it do not fit.
    """
    return _fit(tokenizer, template, query, passage, max_length, option)[1]


def cut_passage(tokenizer: Tokenizer, template: Template, query: str, passage: str, max_length: int) -> str:
    """What is read of a passage: all of it, or the beginning that `encode_input` keeps.

    >>> from exaranker.tokenization import load_tokenizer
    >>> cut_passage(load_tokenizer("byt5"), TEMPLATES["monot5"], "Why?", "Air scatters blue.", 40)
    'Air sc'
    """
    return _fit(tokenizer, template, query, passage, max_length, "max_length")[0]


def frame(tokenizer: Tokenizer, template: Template) -> tuple[list[int], list[int]]:
    """The special ids before and after an input's text.

    An encoder's input ends with the end-of-text id; a decoder's prompt does not, and starts with the tokenizer's
    begin-of-text id if it has one.

    >>> from exaranker.tokenization import load_tokenizer
    >>> frame(load_tokenizer("byt5"), EXARANKER)
    ([], [1])
    """
    if template.family == ENCODER_DECODER:
        return [], [tokenizer.eos_id]
    return [] if tokenizer.bos_id is None else [tokenizer.bos_id], []


def label_ids(tokenizer: Tokenizer, template: Template) -> tuple[int, int]:
    """(irrelevant id, relevant id): the first target token of each label, by which passages are scored.

    Raises:
        InputError: both labels begin with the same token.
    """
    irrelevant, relevant = (tokenizer.encode(template.label(value))[0] for value in (False, True))
    if irrelevant == relevant:
        raise InputError(
            f"labels {template.irrelevant!r} and {template.relevant!r} begin with the same token {relevant}",
            hint="use a template whose labels differ in their first token",
        )
    return irrelevant, relevant


def explanation_prefix(tokenizer: Tokenizer, template: Template, relevant: bool) -> list[int]:
    """The target ids up to the explanation (`true. Explanation:`), to be forced before one is generated."""
    return tokenizer.encode(template.target(relevant, "").rstrip())


def _fit(
    tokenizer: Tokenizer, template: Template, query: str, passage: str, max_length: int, option: str
) -> tuple[str, list[int]]:
    """The passage, shortened if need be, and the input's ids."""
    ids = _encode(tokenizer, template, query, passage)
    if len(ids) <= max_length:
        return passage, ids
    needed = len(_encode(tokenizer, template, query, ""))
    if needed > max_length:
        raise InputError(
            f"the question {query[:60]!r} alone needs {needed} tokens, the inputs are given {max_length}",
            hint=f"raise {option} or shorten the question",
        )
    while len(ids) > max_length:
        passage = _shortened(tokenizer, template, query, passage, len(ids) - max_length)
        ids = _encode(tokenizer, template, query, passage)
    return passage, ids


def _encode(tokenizer: Tokenizer, template: Template, query: str, passage: str) -> list[int]:
    before, after = frame(tokenizer, template)
    return [*before, *tokenizer.encode(template.fill(query, passage)), *after]


def _shortened(tokenizer: Tokenizer, template: Template, query: str, passage: str, excess: int) -> str:
    """The passage without its last `excess` tokens; always shorter than before."""
    before = template.input.partition("{passage}")[0].format(query=query)
    start, stop = len(before), len(before) + len(passage)
    ends = [end for end in tokenizer.token_ends(template.fill(query, passage)) if start < end < stop]
    return passage[: ends[-excess] - start].rstrip() if excess <= len(ends) else ""
