"""ExaRanker-Open: rerankers that learn from explanations (arXiv 2301.10521, 2402.06334).

>>> import exaranker
>>> exaranker.Reranker.__name__
'Reranker'
"""

from typing import TYPE_CHECKING, Any

from exaranker.moved import keep_former_names

if TYPE_CHECKING:
    from exaranker.rank.reranker import Reranker

__version__ = "0.2.0"
__all__ = ["Reranker", "__version__"]

keep_former_names()


def __getattr__(name: str) -> Any:
    """`Reranker`, which brings jax with it, is imported when it is first asked for."""
    if name != "Reranker":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from exaranker.rank.reranker import Reranker

    return Reranker
