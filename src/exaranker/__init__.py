"""ExaRanker-Open: rerankers that learn from explanations (arXiv 2301.10521, 2402.06334)."""

__version__ = "0.1.0"
