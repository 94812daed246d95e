"""Tools of the Model Context Protocol: an assistant ranks passages and asks why, over the same service.

The tools are listed at once, while the model is still loading: hosts give a server only seconds to answer first.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

from exaranker import __version__
from exaranker.errors import InputError
from exaranker.serve.refusal import RefusalError

if TYPE_CHECKING:
    from exaranker.serve.service import Service


class Ranked(BaseModel):
    """A passage, its place in what was given, and its probability of relevance."""

    index: int
    probability: float
    passage: str


class ExplainAnswer(BaseModel):
    """The label that the score implies, and the model's words for it."""

    label: str
    probability: float
    explanation: str


def mcp_server(loading: "asyncio.Future[Service]") -> MCPServer:
    """A server of two tools, which wait for the service if need be."""
    server = MCPServer("exaranker", version=__version__, log_level="ERROR")

    @server.tool()
    async def rank(query: str, passages: list[str], top_k: int = 10) -> list[Ranked]:
        """Sorts passages by how likely they answer a question, the best first. `top_k` 0 returns all."""
        try:
            service = await asyncio.shield(loading)
            scores = await service.score([(query, passage) for passage in passages])
        except (InputError, RefusalError) as error:
            raise ToolError(str(error)) from error
        return [
            Ranked(index=index, probability=scores.probability(index), passage=passages[index])
            for index in scores.best(max(top_k, 0))
        ]

    @server.tool()
    async def explain(query: str, passage: str) -> ExplainAnswer:
        """Says whether a passage answers a question, and why, in the ranker's words."""
        pairs = [(query, passage)]
        try:
            service = await asyncio.shield(loading)
            (found,) = await service.explain(pairs, (await service.score(pairs)).log_odds)
        except (InputError, RefusalError) as error:
            raise ToolError(str(error)) from error
        return ExplainAnswer(label=found.label, probability=found.probability, explanation=found.explanation)

    return server


def serve_stdio(load: "Callable[[], Service]") -> None:
    """Answers over stdin and stdout until stdin ends; `load` is called in a thread."""
    asyncio.run(_serve(load))


async def _serve(load: "Callable[[], Service]") -> None:
    def started() -> "Service":
        service = load()
        service.batcher.start()
        return service

    loading = asyncio.ensure_future(asyncio.to_thread(started))
    await mcp_server(loading).run_stdio_async()
    (await loading).batcher.stop()
