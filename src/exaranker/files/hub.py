"""A Hugging Face model's folder: fetched from the hub, known by what is in its files; where conversions are kept."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exaranker.errors import InputError, require
from exaranker.files.reading import sha256_file

_WEIGHTS = ("*.safetensors", "*.bin")
_TEXTS = ("*.json", "*.model", "*.jinja")
_SECOND_COPY = "*consolidated*"  # some repositories hold the weights in their maker's own layout besides


def fetch_model(name: str, *, weights: bool = True) -> Path:
    """The folder of a hub id's files, downloading those that are not cached; `.bin` only if there are no safetensors.

    Its last part is the hub's commit.

    Raises:
        InputError: neither the hub nor its cache has it, or the hub cannot be reached.
    """
    path = _snapshot(name, ("*.safetensors", *_TEXTS) if weights else _TEXTS)
    if weights and not any(path.glob("*.safetensors")):
        return _snapshot(name, (*_WEIGHTS, *_TEXTS))
    return path


def model_digest(folder: Path) -> str:
    """sha256 over the names and contents of weights, config and tokenizer; about a second per GB."""
    files = sorted({file for pattern in (*_WEIGHTS, *_TEXTS) for file in folder.glob(pattern)})
    lines = [f"{sha256_file(file)}  {file.name}\n" for file in files]
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def cache_dir() -> Path:
    """The folder of what is made once and kept, made if it is not there: EXARANKER_CACHE, or `~/.cache/exaranker`.

    Raises:
        InputError: it cannot be made.
    """
    folder = Path(os.environ.get("EXARANKER_CACHE") or "~/.cache/exaranker").expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "name another place: EXARANKER_CACHE=DIR"
        raise InputError(f"cannot make the cache here: {error.strerror}", path=folder, hint=hint) from error
    return folder


def _snapshot(name: str, files: Sequence[str]) -> Path:
    hub = require("huggingface_hub", "rank")
    try:
        return Path(hub.snapshot_download(name, allow_patterns=list(files), ignore_patterns=[_SECOND_COPY]))
    except (OSError, ValueError, hub.errors.HTTPError) as error:
        reason, remedy = _why_not_fetched(error, hub.errors, name)
        raise InputError(f"no model {name!r}: no such directory, and {reason}", hint=remedy) from error


def _why_not_fetched(error: Exception, errors: Any, name: str) -> tuple[str, str]:
    """(why the hub gave nothing, what to do)."""
    elsewhere = f"fetch it where there is a network, hf download {name} --local-dir DIR, and give DIR"
    if isinstance(error, errors.GatedRepoError):
        return "the hub gives it only to those who have accepted its terms", "accept them there, then: hf auth login"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the hub has no model of that name", "check the name; for a private one: hf auth login"
    if isinstance(error, errors.HFValidationError):
        return "that is no name of a model on the hub", "expected OWNER/NAME, or a directory"
    if isinstance(error, errors.LocalEntryNotFoundError | ConnectionError):
        return "it is not in the hub's cache here, nor can the hub be reached", f"check the name; {elsewhere}"
    said = " ".join(str(error).split())[:160]
    return f"the hub says {type(error).__name__}: {said}", f"try again, or {elsewhere}"
