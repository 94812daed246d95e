"""Filters: which of the LLM's texts are no explanations."""
