"""Ranking: BM25, then a checkpoint over its candidates."""
