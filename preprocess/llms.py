"""An LLM by name: the embedded one, a local directory, or a Hugging Face id; and what identifies its weights."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from exaranker.errors import InputError, require
from exaranker.files import sha256_file
from exaranker.preprocess.embedded_llm import NAME, embedded_llm_dir

EMBEDDED = "smollm2"
_PARTS = ("*.safetensors", "*.bin", "*.json", "*.model", "*.jinja")


class LocalLLM(NamedTuple):
    name: str  # as the dataset's `explainer` field has it
    path: Path
    digest: str  # "sha256:..." of its files, or "revision:..." of the hub's commit


def resolve_llm(name: str) -> LocalLLM:
    """Finds an LLM's files, downloading a hub id if it is not cached.

    Raises:
        InputError: it is neither a directory with a config.json nor an id that the hub or its cache knows.
    """
    if name == EMBEDDED:
        path = embedded_llm_dir()
        return LocalLLM(NAME, path, directory_digest(path))
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError("no config.json here, so this is not a Hugging Face model", path=path)
        return LocalLLM(path.resolve().name, path, directory_digest(path))
    if name.startswith((".", "/", "~")):
        raise InputError("no such directory", path=name, hint="explainer.llm is a directory, a hub id or 'smollm2'")
    return _from_hub(name)


def load_tokenizer(path: str | Path) -> Any:
    """The `transformers` tokenizer of an LLM's directory."""
    transformers = require("transformers", "explain")
    return transformers.AutoTokenizer.from_pretrained(path)


def directory_digest(path: Path) -> str:
    """sha256 over the names and contents of weights, config and tokenizer; about a second per GB."""
    files = sorted({file for pattern in _PARTS for file in path.glob(pattern)})
    lines = [f"{sha256_file(file)}  {file.name}\n" for file in files]
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _from_hub(name: str) -> LocalLLM:
    hub = require("huggingface_hub", "explain")
    try:
        path = Path(hub.snapshot_download(name, allow_patterns=list(_PARTS)))
    except (OSError, ValueError, hub.errors.HfHubHTTPError, hub.errors.HFValidationError) as error:
        problem = f"no LLM {name!r}: no such directory, and the hub says {type(error).__name__}"
        raise InputError(problem, hint="check the name, or download it and give its directory") from error
    return LocalLLM(name, path, f"revision:{path.name}")
