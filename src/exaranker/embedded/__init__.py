"""What is at hand without a hub: a small LLM out of a PyPI package, and the adapter that makes a ranker of it."""

from pathlib import Path

RANKER = "exaranker-smollm2-135m"


def embedded_ranker_dir() -> Path:
    """PEFT's directory of the adapter: its README.md says what it was trained on and how well it ranks."""
    return Path(__file__).with_name("ranker")
