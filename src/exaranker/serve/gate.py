"""What a request passes before anything is computed for it: key, number of open requests, size and time of its body.

It also ends what is computed for a client that has gone, or whose time is over.
"""

import asyncio
import json
import secrets
import time
from contextlib import suppress
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exaranker.serve.limits import Limits
from exaranker.serve.metrics import Metrics
from exaranker.serve.refusal import RefusalError

OPEN_TO_ALL = ("/health", "/ping")  # what a load balancer asks, without a key and however much is open
WITHOUT_KEY = ("/", "/page.css", "/page.js")  # the page, which asks for the key


class Gate:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics, routes: frozenset[str], api_key: str | None):
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._routes = routes  # other paths are counted as one, so that no client fills the memory with names
        self._key = api_key
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        began = time.monotonic()
        self._open += 1
        self._metrics.open_requests.inc()
        try:
            await self._answer(scope, exchange)
        finally:
            self._open -= 1
            self._metrics.open_requests.dec()
            route = scope["path"] if scope["path"] in self._routes else "other"
            self._metrics.requests.labels(route, exchange.status or "gone").inc()
            self._metrics.seconds.observe(time.monotonic() - began)

    async def _answer(self, scope: Scope, exchange: "_Exchange") -> None:
        try:
            async with asyncio.timeout(self._limits.seconds):
                self._check(scope)
                await exchange.read(scope, self._limits.payload_bytes)
                await exchange.run(self._app, scope)
        except TimeoutError:
            status = 504 if exchange.has_been_read else 408
            await exchange.refuse(RefusalError(status, "Overloaded", f"no answer within {self._limits.seconds:g} s"))
        except RefusalError as refusal:
            await exchange.refuse(refusal)
        except ClientGoneError:
            pass

    def _check(self, scope: Scope) -> None:
        if scope["path"] in OPEN_TO_ALL:
            return
        if self._key is not None and scope["path"] not in WITHOUT_KEY and not _has_key(scope, self._key):
            raise RefusalError(401, "Validation", "a key is needed: send `Authorization: Bearer KEY`")
        if self._open > self._limits.requests:
            raise RefusalError(429, "Overloaded", f"{self._limits.requests} requests are open already", retry_after=1)


class ClientGoneError(Exception):
    """The client has closed the connection: nobody waits for an answer."""


class _Exchange:
    """One request and its answer."""

    def __init__(self, receive: Receive, send: Send):
        self._receive = receive
        self._send = send
        self._body: Message | None = None
        self._gone = asyncio.Event()
        self._answered = False
        self.has_been_read = False
        self.status: int | None = None  # of the answer, once it has begun

    async def read(self, scope: Scope, most: int) -> None:
        """Reads the whole body.

        Raises:
            RefusalError: it is too long.
            ClientGoneError: it was cut off.
        """
        size = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if size.isdigit() and int(size) > most:
            raise _too_long(most)
        body = bytearray()
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > most:
                raise _too_long(most)
        self._body = {"type": "http.request", "body": bytes(body), "more_body": False}
        self.has_been_read = True

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Runs the application until it has answered.

        Raises:
            ClientGoneError: the client went before.
        """
        answer = asyncio.ensure_future(app(scope, self._replay, self._watched_send))
        watch = asyncio.ensure_future(self._wait_until_gone())
        try:
            await asyncio.wait({answer, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not (answer.done() or self._answered):
                raise ClientGoneError
            await answer
        finally:
            for task in (answer, watch):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    async def refuse(self, refusal: RefusalError) -> None:
        """Answers with an error, if no answer has begun; the connection is closed, since a body may be half read."""
        if self.status is not None:
            return
        status, answer = refusal.answer(texts=False)
        body = json.dumps(answer).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        if status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        lines = [(name.lower().encode(), value.encode()) for name, value in (headers | refusal.headers).items()]
        await self._watched_send({"type": "http.response.start", "status": status, "headers": lines})
        await self._send({"type": "http.response.body", "body": body})

    async def _replay(self) -> Message:
        """The body, once; then nothing until the client has gone."""
        if self._body is not None:
            body, self._body = self._body, None
            return body
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _watched_send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif not message.get("more_body", False):
            self._answered = True  # from here on `receive` says that the client has gone
        await self._send(message)

    async def _wait_until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone.set()


def _has_key(scope: Scope, key: str) -> bool:
    given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    return secrets.compare_digest(given, b"Bearer " + key.encode())


def _too_long(most: int) -> RefusalError:
    return RefusalError(413, "Validation", f"the body is longer than {most:,} bytes: send fewer documents at once")
