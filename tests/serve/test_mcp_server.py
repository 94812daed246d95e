"""The MCP server, spoken to by the protocol's own client over stdin and stdout of a real process."""

import asyncio
import sys
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult, TextContent

from exaranker.rank.reranker import RankedPassage


def test_tools_rank_and_explain(
    checkpoint: Path, query: str, passages: list[str], ranking: list[RankedPassage], same_score: float
) -> None:
    words = ["-m", "exaranker.cli", "serve", f"--checkpoint={checkpoint}", "--mcp"]

    async def talk() -> tuple[list[str], CallToolResult, CallToolResult, CallToolResult]:
        async with Client(StdioServerParameters(command=sys.executable, args=words)) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            ranked = await client.call_tool("rank", {"query": query, "passages": passages, "top_k": 5})
            why = await client.call_tool("explain", {"query": query, "passage": ranking[0].passage})
            return tools, ranked, why, await client.call_tool("rank", {"query": query, "passages": []})

    tools, ranked, why, refused = asyncio.run(talk())
    assert tools == ["rank", "explain"]
    assert ranked.structured_content is not None
    found = ranked.structured_content["result"]
    assert [item["index"] for item in found] == [passage.position for passage in ranking[:5]]
    expected = [passage.probability for passage in ranking[:5]]
    assert [item["probability"] for item in found] == pytest.approx(expected, abs=same_score / 4)
    assert why.structured_content is not None
    assert why.structured_content["explanation"] == ranking[0].explanation
    assert refused.is_error
    assert isinstance(refused.content[0], TextContent)
    assert "no documents: give at least one" in refused.content[0].text
