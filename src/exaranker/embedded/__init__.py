"""What is at hand without a hub: a small LLM out of a PyPI package."""
