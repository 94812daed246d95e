"""A tokenizer's files such that transformers' AutoTokenizer gives our ids, in every family."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exaranker.checkpoints.card import ModelCard
from exaranker.checkpoints.convert.unigram import write_unigram
from exaranker.errors import require
from exaranker.files import read_json, write_json, write_text
from exaranker.models import family_of
from exaranker.templates import Template, frame, parts, pieces
from exaranker.tokenization import (
    HUGGINGFACE_FILE,
    HUGGINGFACE_ROLES,
    ByteTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
)

CHAT_TEMPLATE = "chat_template.jinja"
ROLES = {"query": "query", "passage": "document"}  # field -> role of its message, as other rerankers have it


def write_tokenizer(directory: Path, tokenizer: Tokenizer, card: ModelCard, length: int) -> None:
    """Writes the tokenizer's own file and what AutoTokenizer needs beside it.

    Texts are data: where the input itself is written without control tokens, those in a passage are read as letters.
    Decoder-only models get their template as a chat template of the roles `query` and `document`, which is how others
    prompt them.
    """
    tokenizer.save(directory)
    path = directory / HUGGINGFACE_ROLES
    roles = read_json(path) if path.is_file() else {}
    if isinstance(tokenizer, ByteTokenizer):
        roles |= {"tokenizer_class": "ByT5Tokenizer", "split_special_tokens": True}
    elif isinstance(tokenizer, SentencePieceTokenizer):
        roles |= write_unigram(directory, frame(tokenizer, card.template)[1])
    else:
        roles |= _with_end(directory, tokenizer, card.template)
    if not isinstance(tokenizer, ByteTokenizer):
        roles["split_special_tokens"] = not _writes_control_tokens(tokenizer, card.template)
        roles.setdefault("tokenizer_class", "PreTrainedTokenizerFast")
        eos = roles.setdefault("eos_token", _load(directory).id_to_token(tokenizer.eos_id))
        roles.setdefault("pad_token", eos)
    if family_of(card.config).is_decoder_only:
        roles.pop("chat_template", None)
        write_text(directory / CHAT_TEMPLATE, chat_template(tokenizer, card.template))
    else:
        roles["model_max_length"] = length
    write_json(path, roles)


def token_names(directory: Path, tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Tokens by the names that transformers has for them, as `▁true`."""
    if isinstance(tokenizer, ByteTokenizer):
        return [tokenizer.decode([number]) for number in ids]
    return [_load(directory).id_to_token(number) for number in ids]


def chat_template(tokenizer: Tokenizer, template: Template) -> str:
    """A template's input in Jinja, with its fields as the messages of two roles."""
    before, _ = frame(tokenizer, template)
    written = ["{{ bos_token }}"] if before else []
    for literal, field in pieces(template.input):
        written += [f"{{{{ {json.dumps(literal, ensure_ascii=False)} }}}}"] if literal else []
        if field in ROLES:
            chosen = f'messages | selectattr("role", "eq", "{ROLES[field]}") | map(attribute="content") | first'
            written.append(f"{{{{ {chosen} }}}}")
    return "".join(written)


def _writes_control_tokens(tokenizer: Tokenizer, template: Template) -> bool:
    """Whether an input's text has tokens that a tokenizer must obey: then it obeys a passage's too."""
    before, _ = frame(tokenizer, template)
    return bool(before) or any(isinstance(part, int) for part in parts(tokenizer, template))


def _with_end(directory: Path, tokenizer: Tokenizer, template: Template) -> dict[str, str]:
    """Has a tokenizer.json frame its inputs as we do: an encoder's ends with the end-of-text token, which few add."""
    before, after = frame(tokenizer, template)
    stored = _load(directory)
    if stored.encode("a").ids == [*before, *stored.encode("a", add_special_tokens=False).ids, *after]:
        return {}
    first, last = ([(stored.id_to_token(number), number) for number in ids] for ids in (before, after))
    one = " ".join([*(name for name, _ in first), "$A", *(name for name, _ in last)])
    processors = require("tokenizers", "rank").processors
    stored.post_processor = processors.TemplateProcessing(single=one, pair=f"{one} $B", special_tokens=[*first, *last])
    stored.save(str(directory / HUGGINGFACE_FILE))
    return {"tokenizer_class": "PreTrainedTokenizerFast"}  # others put their own tokens around a text


def _load(directory: Path) -> Any:
    return require("tokenizers", "rank").Tokenizer.from_file(str(directory / HUGGINGFACE_FILE))
