"""What one request and all together may take; beyond it a request is refused, never the server ended."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of the server. A document longer than the model reads is no error: what is behind is not read."""

    payload_bytes: int = 16 * 2**20  # of a request's body
    documents: int = 2048  # of a request; Cohere's clients send up to 1,000
    requests: int = 128  # that are read or answered at once
    waiting_tokens: int = 2**20  # of inputs that no batch has taken yet: two of 1,000 documents of 512 tokens
    seconds: float = 120.0  # until a request is answered, its body included
