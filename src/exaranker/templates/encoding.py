"""Templates as token ids: parts, frame, the passage cut to length, labels."""

import re
from functools import lru_cache

from exaranker.errors import InputError
from exaranker.templates.template import APART, ENCODER_DECODER, Template
from exaranker.tokenization import ByteTokenizer, Tokenizer

CHAT_MARKUP = re.compile(r"<\|[^<>|]+\|>")


@lru_cache(maxsize=16)
def parts(tokenizer: Tokenizer, template: Template) -> tuple[str | int, ...]:
    """An input's control tokens, as ids, and the texts with fields between them, each encoded on its own.

    >>> from exaranker.templates import EXARANKER
    >>> from exaranker.tokenization import load_tokenizer
    >>> parts(load_tokenizer("byt5"), EXARANKER) == (EXARANKER.input,)
    True

    Raises:
        InputError: a control token of the template is none of the tokenizer's.
    """
    controls, apart = tokenizer.control_ids, f"{{{APART}}}"
    names = sorted([apart, *controls], key=len, reverse=True)
    found = [part for part in re.split(f"({'|'.join(map(re.escape, names))})", template.input) if part]
    for part in found:
        if part not in controls and (foreign := CHAT_MARKUP.search(part)):
            problem = f"template {template.name!r} has {foreign[0]}, which is no token of this tokenizer"
            raise InputError(problem, hint="give a template that is marked up as this model's chats are")
    return tuple(controls.get(part, part) for part in found if part != apart)


def encode_input(
    tokenizer: Tokenizer, template: Template, query: str, passage: str, max_length: int, option: str = "max_length"
) -> list[int]:
    """Input ids in their frame, at most `max_length`: too long a passage is cut at the end of one of its tokens.

    `option` is what a user would raise to have longer inputs.

    Raises:
        InputError: even without any passage the question and the words around it do not fit.
    """
    return _fit(tokenizer, template, query, passage, max_length, option)[1]


def cut_passage(
    tokenizer: Tokenizer, template: Template, query: str, passage: str, max_length: int, *, keep_end: bool = False
) -> str:
    """What is read of a passage: all of it, or the beginning that `encode_input` keeps; or as much of its end.

    >>> from exaranker.templates import TEMPLATES
    >>> from exaranker.tokenization import load_tokenizer
    >>> cut_passage(load_tokenizer("byt5"), TEMPLATES["monot5"], "Why?", "Air scatters blue.", 40)
    'Air sca'

    Raises:
        InputError: as `encode_input`.
    """
    return _fit(tokenizer, template, query, passage, max_length, "max_length", keep_end)[0]


def frame(tokenizer: Tokenizer, template: Template) -> tuple[list[int], list[int]]:
    """The special ids before and after an input's text.

    An encoder's input ends with the end-of-text id; a decoder's prompt does not, and starts with the tokenizer's
    begin-of-text id if it has one.

    >>> from exaranker.templates import EXARANKER
    >>> from exaranker.tokenization import load_tokenizer
    >>> frame(load_tokenizer("byt5"), EXARANKER)
    ([], [1])
    """
    if template.family == ENCODER_DECODER:
        return [], [tokenizer.eos_id]
    return [] if tokenizer.bos_id is None else [tokenizer.bos_id], []


def label_ids(tokenizer: Tokenizer, template: Template) -> tuple[int, int]:
    """(irrelevant id, relevant id): the token of each label, by which passages are scored; of bytes, the first one.

    Raises:
        InputError: a label is not one token, or both begin with the same.
    """
    irrelevant, relevant = (_label_id(tokenizer, template.label(value)) for value in (False, True))
    if irrelevant == relevant:
        raise InputError(
            f"labels {template.irrelevant!r} and {template.relevant!r} begin with the same token {relevant}",
            hint="use a template whose labels differ in their first token",
        )
    return irrelevant, relevant


def explanation_prefix(tokenizer: Tokenizer, template: Template, relevant: bool) -> list[int]:
    """The target ids up to the explanation (`true. Explanation:`), to be forced before one is generated."""
    return tokenizer.encode(template.target(relevant, "").rstrip())


def _label_id(tokenizer: Tokenizer, label: str) -> int:
    ids = tokenizer.encode(label)
    if len(ids) > 1 and not isinstance(tokenizer, ByteTokenizer):
        ends = tokenizer.token_ends(label)
        # SentencePiece's mark of a word's beginning is no character of the text.
        shown = " + ".join(repr(label[start:end] or "▁") for start, end in zip([0, *ends], ends, strict=False))
        hint = "choose label words that are one token of this tokenizer, in a template file of your own"
        raise InputError(f"label {label!r} is {len(ids)} tokens of this tokenizer, {shown}, expected one", hint=hint)
    return ids[0]


def _fit(
    tokenizer: Tokenizer,
    template: Template,
    query: str,
    passage: str,
    max_length: int,
    option: str,
    keep_end: bool = False,
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
        passage = _shortened(tokenizer, template, query, passage, len(ids) - max_length, keep_end)
        ids = _encode(tokenizer, template, query, passage)
    return passage, ids


def _encode(tokenizer: Tokenizer, template: Template, query: str, passage: str) -> list[int]:
    before, after = frame(tokenizer, template)
    encoded = (
        [part] if isinstance(part, int) else tokenizer.encode(part.format(query=query, passage=passage))
        for part in parts(tokenizer, template)
    )
    return [*before, *(token for ids in encoded for token in ids), *after]


def _shortened(tokenizer: Tokenizer, template: Template, query: str, passage: str, excess: int, keep_end: bool) -> str:
    """The passage without its last `excess` tokens, or without its first; always shorter than before."""
    texts = (part for part in parts(tokenizer, template) if isinstance(part, str))
    form = next(part for part in texts if "{passage}" in part)
    start = len(form.partition("{passage}")[0].format(query=query))
    stop = start + len(passage)
    ends = [end for end in tokenizer.token_ends(form.format(query=query, passage=passage)) if start < end < stop]
    if excess > len(ends):
        return ""
    return passage[ends[excess - 1] - start :].lstrip() if keep_end else passage[: ends[-excess] - start].rstrip()
