"""Requests to an OpenAI-compatible server that are tried again: backoff with jitter, Retry-After, a rate limit."""

import asyncio
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from exaranker.checks import NonEmpty, Positive, Rule, above, at_least, check, one_of
from exaranker.errors import InputError, require
from exaranker.redact import redacted, redacted_options

T = TypeVar("T")
PROMPTS = ("tokens", "text", "messages")
ADDRESS = Rule("an address that begins with http:// or https://", lambda text: bool(re.fullmatch("https?://.+", text)))
PASSING = {408, 409, 425, 429}  # with all from 500 on: statuses that may not be there the next time


@dataclass(frozen=True)
class ServerConfig:
    """Where the server is and how hard it may be pressed; bound in gin as `server.NAME`.

    `prompts` says what is sent: "tokens" or "text" to /completions, "messages" to /chat/completions. Only token ids
    are sure to arrive as they were meant; vLLM takes them.
    """

    base_url: Annotated[str, ADDRESS] = "http://127.0.0.1:8000/v1"
    model: NonEmpty | None = None  # None: the only one that the server has
    prompts: Annotated[str, one_of(PROMPTS)] = "tokens"
    extra_body: dict[str, Any] = field(default_factory=dict)  # sent with every request besides: what this server knows
    api_key_env: NonEmpty = "OPENAI_API_KEY"  # the environment variable that holds the key, if the server wants one
    concurrency: Positive = 64  # requests under way at once
    requests_per_second: Annotated[float | None, above(0)] = None
    timeout_seconds: Annotated[float, above(0)] = 300.0  # for one answer
    max_attempts: Positive = 8
    # Doubled from attempt to attempt; a random part of it is waited.
    first_wait_seconds: Annotated[float, at_least(0)] = 1.0
    longest_wait_seconds: Annotated[float, at_least(0)] = 60.0  # unless the server's Retry-After asks for more

    def __post_init__(self) -> None:
        check(self, "server.")

    @property
    def text_settings(self) -> dict[str, Any]:
        """The options that change the text."""
        extra = {"extra_body": redacted_options(self.extra_body)} if self.extra_body else {}
        return {"model": self.model, "prompts": self.prompts, **extra}


class TryAgainError(Exception):
    """The server failed in a way that may pass; `retry_after` is in seconds, 0 if it named no time."""

    def __init__(self, problem: str, retry_after: float = 0.0):
        super().__init__(problem)
        self.retry_after = retry_after


class RateLimit:
    """Spaces requests evenly, `per_second` at most."""

    def __init__(self, per_second: float | None):
        self._interval = 1 / per_second if per_second else 0.0
        self._next = 0.0

    async def wait(self) -> None:
        now = time.monotonic()
        self._next = max(now, self._next) + self._interval
        await asyncio.sleep(self._next - self._interval - now)


class ServerClient:
    """One server; to be used within one event loop."""

    def __init__(self, config: ServerConfig):
        httpx = require("httpx", "server")
        self._tenacity = require("tenacity", "server")
        key = os.environ.get(config.api_key_env, "").strip()
        if not key.isprintable() or not key.isascii():
            hint = "set it to the key alone"
            raise InputError(f"the key in ${config.api_key_env} has a line break or another odd character", hint=hint)
        self._key = key
        self._config, self._transport_error = config, httpx.TransportError
        self._limit, self._slots = RateLimit(config.requests_per_second), asyncio.Semaphore(config.concurrency)
        self._http = httpx.AsyncClient(
            base_url=config.base_url.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=None,  # httpx would count from byte to byte, so that an answer that drips in never ends
            limits=httpx.Limits(max_connections=config.concurrency, max_keepalive_connections=config.concurrency),
        )

    async def ask(self, path: str, body: dict[str, Any] | None, parse: Callable[[Any], T]) -> T:
        """POSTs `body` (or GETs, without one) and parses the JSON reply; one that does not parse is asked for again.

        Raises:
            InputError: the server refuses the request, or fails `max_attempts` times.
        """
        passing = (TryAgainError, self._transport_error, TimeoutError)
        try:
            async for attempt in self._tenacity.AsyncRetrying(
                retry=self._tenacity.retry_if_exception_type(passing),
                stop=self._tenacity.stop_after_attempt(self._config.max_attempts),
                wait=self._wait,
            ):
                with attempt:
                    return await self._once(path, body, parse)
        except self._tenacity.RetryError as error:
            last = error.last_attempt.exception()
            why = f"{type(last).__name__} {self._shown(str(last))}".rstrip()
            problem = f"no answer in {self._config.max_attempts} attempts: {why}"
            hint = "finished shards are kept: when the server is well, run the same command again"
            raise InputError(problem, path=self._shown(self._config.base_url), hint=hint) from last
        raise AssertionError("the attempts end in a return or an exception")

    def _shown(self, text: str) -> str:
        return redacted(text, [self._key])

    async def close(self) -> None:
        await self._http.aclose()

    async def _once(self, path: str, body: dict[str, Any] | None, parse: Callable[[Any], T]) -> T:
        async with self._slots:
            await self._limit.wait()
            async with asyncio.timeout(self._config.timeout_seconds):
                response = await self._http.request("GET" if body is None else "POST", path, json=body)
        if response.status_code in PASSING or response.status_code >= 500:
            raise TryAgainError(f"status {response.status_code}", _seconds(response.headers.get("retry-after")))
        if response.status_code != 200:
            problem = f"{path}: status {response.status_code}: {self._shown(' '.join(response.text.split()))[:300]}"
            raise InputError(
                problem, path=self._shown(self._config.base_url), hint="see server.prompts, server.model and the key"
            )
        try:
            return parse(response.json())
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise TryAgainError(f"not a reply as expected: {self._shown(response.text)[:100]!r}") from error

    def _wait(self, state: Any) -> float:
        """Full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), or Retry-After."""
        backoff = self._tenacity.wait_random_exponential(
            multiplier=self._config.first_wait_seconds, max=self._config.longest_wait_seconds
        )
        return max(backoff(state), getattr(state.outcome.exception(), "retry_after", 0.0))


def _seconds(retry_after: str | None) -> float:
    """The header as seconds; its other form, a date, would depend on both clocks and counts as not given."""
    try:
        return max(0.0, float(retry_after or 0))
    except ValueError:
        return 0.0
