"""A LlamaIndex node postprocessor (llama-index-core), for `node_postprocessors` of a query engine."""

from typing import Any

from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from pydantic import PrivateAttr

from exaranker.rank.reranker import RankedPassage, Reranker

dispatcher = get_dispatcher(__name__)
EXPLANATION = "explanation"


class ExaRankerRerank(BaseNodePostprocessor):
    """Keeps the best `top_n` nodes, scored by log-odds; `apostprocess_nodes` does so in a thread.

    The metadata of the best `explain` have an `explanation`, which neither an LLM nor an embedding is shown.

    Raises:
        ValueError: there is no query.
    """

    top_n: int = 10
    explain: int = 0
    _reranker: Reranker = PrivateAttr()

    def __init__(self, reranker: Reranker, **fields: Any):
        super().__init__(**fields)
        self._reranker = reranker

    @classmethod
    def class_name(cls) -> str:
        return "ExaRankerRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("reranking needs a query: give query_str or query_bundle")
        name = str(self._reranker.model.path)
        dispatcher.event(ReRankStartEvent(query=query_bundle, nodes=nodes, top_n=self.top_n, model_name=name))
        texts = [node.node.get_content(MetadataMode.EMBED) for node in nodes]
        ranking = self._reranker.rank(query_bundle.query_str, texts, self.top_n, self.explain)
        best = [_scored(nodes[found.position], found) for found in ranking]
        dispatcher.event(ReRankEndEvent(nodes=best))
        return best


def _scored(node: NodeWithScore, found: RankedPassage) -> NodeWithScore:
    if not found.explanation:
        return NodeWithScore(node=node.node, score=found.score)
    copy = node.node.model_copy(deep=True)  # the index keeps its own
    copy.metadata[EXPLANATION] = found.explanation
    copy.excluded_llm_metadata_keys.append(EXPLANATION)
    copy.excluded_embed_metadata_keys.append(EXPLANATION)
    return NodeWithScore(node=copy, score=found.score)
