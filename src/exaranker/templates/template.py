"""The words of a template, and their form as JSON in cards and exports."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from string import Formatter, whitespace
from typing import Any

from exaranker.errors import InputError, nearest
from exaranker.files import require_fields, sha256_json

ENCODER_DECODER = "encoder_decoder"
DECODER_ONLY = "decoder_only"
TEMPLATE_FAMILIES = (ENCODER_DECODER, DECODER_ONLY)  # every models.ModelFamily is of one of them
APART = "|"  # the field `{|}`: what is before it and what is after it are encoded each on its own


def pieces(text: str) -> list[tuple[str, str | None]]:
    """Splits a format string into (literal, field after it).

    >>> pieces("Query: {query} Relevant:")
    [('Query: ', 'query'), (' Relevant:', None)]
    """
    return [(literal, field) for literal, field, _, _ in Formatter().parse(text)]


@dataclass(frozen=True)
class Template:
    """A prompt with `{query}` and `{passage}`, the two labels, and how label and explanation form a target.

    Control tokens of the tokenizer in `input` (`<|im_end|>`) are obeyed, those in a query or passage are text. `lead`
    is put before every target: a decoder-only model continues its prompt with a word that begins by a blank.
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
        self._check_fields("input", {"query", "passage"})
        self._check_fields("label_explanation", {"label", "explanation"})
        self._check_fields("explanation_label", {"label", "explanation"})
        if not (self.label_explanation.startswith("{label}") and self.explanation_label.endswith("{label}")):
            raise InputError(f"template {self.name!r}: the label must be the first, or the last, word of a target")
        if not self.relevant.strip() or not self.irrelevant.strip():
            raise InputError(f"template {self.name!r}: a label is empty")

    @property
    def digest(self) -> str:
        """The sha256 of its words, whatever it is called."""
        return sha256_json({name: text for name, text in asdict(self).items() if name != "name"})

    def to_json(self) -> dict[str, str]:
        """Its fields and their digest, as cards and exported models keep them."""
        return asdict(self) | {"digest": self.digest}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Template":
        """Reads what `to_json` gave, or the same fields without a digest; those with defaults may be absent.

        Raises:
            InputError: a field is unknown, missing or no text, the words are not what the digest is of, or they do not
                make a template.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(values.keys() - {*known, "digest"}):
            raise InputError(f"unknown field {unknown[0]!r}", hint=nearest(unknown[0], known))
        given = {name: value for name, value in values.items() if name != "digest"}
        expected = dict.fromkeys(["name", "input", *given], str)
        template = cls(**require_fields(given, expected, path="template"))
        if values.get("digest", template.digest) != template.digest:
            raise InputError(f"the words of template {template.name!r} are not those that its digest is of")
        return template

    def fill(self, query: str, passage: str) -> str:
        """The whole input text."""
        return self.input.format(query=query, passage=passage, **{APART: ""})

    def label(self, relevant: bool) -> str:
        """The target of a label alone, as `true`."""
        return self.lead + (self.relevant if relevant else self.irrelevant)

    def target(self, relevant: bool, explanation: str, form: str | None = None) -> str:
        """The target text with an explanation; `form` is `label_explanation` (default) or `explanation_label`.

        As in the reference scripts, newlines are removed from the explanation.

        >>> from exaranker.templates import EXARANKER
        >>> EXARANKER.target(True, "It names the bone.")
        'true. Explanation: It names the bone.'
        """
        word = self.relevant if relevant else self.irrelevant
        text = explanation.replace("\n", "").strip(whitespace)
        return self.lead + (form or self.label_explanation).format(label=word, explanation=text)

    def _check_fields(self, name: str, needed: set[str]) -> None:
        text = getattr(self, name)
        try:
            found = [field for _, field in pieces(text) if field and field != APART]
        except ValueError as error:  # a brace alone
            problem = f"template {self.name!r}: {text!r}: {error}"
            raise InputError(problem, hint="write a brace that is meant as such twice") from error
        if sorted(found) != sorted(needed):
            raise InputError(f"template {self.name!r}: {text!r} must have each of {sorted(needed)} once")
