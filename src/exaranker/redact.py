"""Secrets are taken out of whatever is shown or kept: keys of servers, passwords in addresses, options named so."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

HIDDEN = "[hidden]"
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")
_BEARER = re.compile(r"\b(Bearer|Basic)\s+\S+", re.IGNORECASE)
_SECRET_NAME = re.compile(r"key|token$|secret|passw|authorization|credential", re.IGNORECASE)


def redacted(text: str, secrets: Iterable[str | None] = ()) -> str:
    """The text without these secrets, and without users and passwords in addresses.

    >>> redacted("401: wrong key sk-123 at http://me:pw@host/v1", ["sk-123"])
    '401: wrong key [hidden] at http://[hidden]@host/v1'
    """
    for secret in secrets:
        if secret and secret.strip():
            text = text.replace(secret.strip(), HIDDEN)
    return _BEARER.sub(rf"\1 {HIDDEN}", _USER_INFO.sub(f"{HIDDEN}@", text))


def redacted_options(value: Any) -> Any:
    """Options with the values hidden whose names are those of secrets, at any depth.

    >>> redacted_options({"api_key": "sk-123", "top_k": 5, "more": [{"password": "pw"}]})
    {'api_key': '[hidden]', 'top_k': 5, 'more': [{'password': '[hidden]'}]}
    """
    if isinstance(value, Mapping):
        return {
            name: HIDDEN if _SECRET_NAME.search(str(name)) and isinstance(item, str) else redacted_options(item)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted_options(item) for item in value]
    return redacted(value) if isinstance(value, str) else value
