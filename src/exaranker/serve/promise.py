"""Results that the model's thread gives and coroutines wait for."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from exaranker.serve.refusal import RefusalError

T = TypeVar("T")


class Promise(Generic[T]):
    """A future of the running loop that another thread may settle; too late a result is thrown away."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self._loop.create_future()

    def give(self, result: T) -> None:
        """Settles it from any thread."""
        self._loop.call_soon_threadsafe(self._settle, result, None)

    def fail(self, error: Exception) -> None:
        """Settles it with an error."""
        self._loop.call_soon_threadsafe(self._settle, None, error)

    def _settle(self, result: Any, error: Exception | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


@contextmanager
def failing(promises: Iterable[Promise[Any]]) -> Iterator[None]:
    """Passes an error of the model on to those who wait for it: the thread goes on with other requests."""
    try:
        yield
    except Exception as error:
        for promise in promises:
            promise.fail(model_failed(error))


def model_failed(error: Exception) -> RefusalError:
    """What a client is told; 424 as text-embeddings-inference says it, which clients do not try again."""
    return RefusalError(
        424, "Backend", f"the model failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    )
