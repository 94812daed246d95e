"""Ranking over HTTP, in the shapes that rerank clients speak, and over MCP."""
