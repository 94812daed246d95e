"""An LLM by name: the embedded one, a local directory, or a Hugging Face id; and what identifies its weights."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from exaranker.embedded.llm import NAME, embedded_llm_dir
from exaranker.errors import InputError, require
from exaranker.files import fetch_model, model_digest

EMBEDDED = "smollm2"


class FoundLLM(NamedTuple):
    """An LLM's folder, found by name, path or hub id."""

    name: str  # as the dataset's `explainer` field has it
    path: Path
    revision: str | None = None  # the hub's commit, if it came from there


class LocalLLM(NamedTuple):
    """An LLM on this machine with the digest that datasets keep of it."""

    name: str
    path: Path
    digest: str  # "sha256:..." of its files, or "revision:..." of the hub's commit


def resolve_llm(name: str, *, weights: bool = True) -> LocalLLM:
    """Finds an LLM's files and digests them.

    Raises:
        InputError: as `find_llm`.
    """
    found = find_llm(name, weights=weights)
    digest = f"revision:{found.revision}" if found.revision else model_digest(found.path)
    return LocalLLM(found.name, found.path, digest)


def find_llm(name: str, *, weights: bool = True) -> FoundLLM:
    """Finds an LLM's files, downloading those of a hub id that are not cached, with or without its weights.

    Raises:
        InputError: it is neither a directory with a config.json nor an id that the hub or its cache knows.
    """
    if name == EMBEDDED:
        return FoundLLM(NAME, embedded_llm_dir())
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError("no config.json here, so this is not a Hugging Face model", path=path)
        return FoundLLM(path.resolve().name, path)
    if name.startswith((".", "/", "~")):
        raise InputError("no such directory", path=name, hint="explainer.llm is a directory, a hub id or 'smollm2'")
    path = fetch_model(name, weights=weights)
    return FoundLLM(name, path, path.name)


def load_chat_tokenizer(path: str | Path) -> Any:
    """The `transformers` tokenizer of an LLM's directory."""
    transformers = require("transformers", "explain")
    return transformers.AutoTokenizer.from_pretrained(path)


def decoder(path: str | Path) -> Callable[[Sequence[int]], str]:
    """Token ids -> text, for a server that begins every text with the tokenizer's first token itself."""
    tokenizer = load_chat_tokenizer(path)

    def decode(token_ids: Sequence[int]) -> str:
        ids = list(token_ids)
        begins = bool(ids) and tokenizer.bos_token_id is not None and tokenizer("").input_ids[:1] == ids[:1]
        return tokenizer.decode(ids[1:] if begins else ids)

    return decode
