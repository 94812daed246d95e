"""Why a request is refused, in the words and the shape of the API that it speaks."""

from http import HTTPStatus
from typing import Any


class RefusalError(Exception):
    """An answer other than 200.

    `kind` is what text-embeddings-inference (TEI) calls it: Unhealthy, Backend, Overloaded, Validation, Tokenizer,
    Empty.
    """

    def __init__(self, status: int, kind: str, message: str, retry_after: int | None = None):
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """`Retry-After`, in seconds, where trying again may help."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

    def answer(self, texts: bool) -> tuple[int, dict[str, Any]]:
        """Status and JSON: TEI's for a request of `texts`, else vLLM's with Cohere's `message` beside it.

        >>> RefusalError(422, "Tokenizer", "too long").answer(texts=True)
        (422, {'error': 'too long', 'error_type': 'Tokenizer'})
        >>> RefusalError(422, "Tokenizer", "too long").answer(texts=False)[0]
        400
        """
        if texts:
            return self.status, {"error": self.message, "error_type": self.kind}
        status = 400 if self.status == 422 else self.status
        name = HTTPStatus(status).phrase.replace(" ", "").removesuffix("Error") + "Error"
        error = {"message": self.message, "type": name, "param": None, "code": status}
        return status, {"error": error, "message": self.message}
