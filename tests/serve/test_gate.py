"""Time and number of open requests, and that a client's going ends what runs for it; without a model."""

import asyncio
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from exaranker.serve.gate import Gate
from exaranker.serve.limits import Limits
from exaranker.serve.metrics import Metrics

BODY: Message = {"type": "http.request", "body": b"{}", "more_body": False}


class Patient:
    """An application that answers when it is told to, and notes that it was ended."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.began = asyncio.Event()
        self.was_ended = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.began.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.was_ended = True
            raise
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


async def ask(gate: Gate, *messages: Message, path: str = "/rerank") -> tuple[int | None, dict[str, str]]:
    """Status and headers; after its messages the client says nothing more."""
    sent: list[Message] = []
    waiting = list(messages)

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await gate({"type": "http", "path": path, "headers": []}, receive, send)
    if not sent:
        return None, {}
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


def gated(**limits: Any) -> tuple[Gate, Patient]:
    app = Patient()
    return Gate(app, Limits(**limits), Metrics(), frozenset(["/rerank"]), None), app


def test_a_body_that_does_not_come_and_an_answer_that_takes_too_long() -> None:
    async def run() -> None:
        gate, app = gated(seconds=0.05)
        status, headers = await ask(gate, BODY | {"more_body": True})
        assert (status, headers["connection"]) == (408, "close")
        assert not app.began.is_set()
        assert (await ask(gate, BODY))[0] == 504
        assert app.was_ended

    asyncio.run(run())


def test_what_runs_for_a_client_that_goes_is_ended() -> None:
    async def run() -> None:
        gate, app = gated()
        assert await ask(gate, BODY, {"type": "http.disconnect"}) == (None, {})
        assert app.was_ended
        assert await ask(gate, BODY | {"more_body": True}, {"type": "http.disconnect"}) == (None, {})

    asyncio.run(run())


def test_more_open_requests_than_may_be_are_told_to_come_again() -> None:
    async def run() -> None:
        gate, app = gated(requests=2)
        asking = [asyncio.ensure_future(ask(gate, BODY)) for _ in range(2)]
        await app.began.wait()
        status, headers = await ask(gate, BODY)
        assert (status, headers["retry-after"]) == (429, "1")
        app.may_answer.set()
        assert [(await answer)[0] for answer in asking] == [200, 200]
        assert (await ask(gate, BODY))[0] == 200

    asyncio.run(run())
