"""LlamaIndex: nodes are ranked as by `Reranker`, also asynchronously, and its instrumentation is told."""

import asyncio
from typing import Any

import pytest
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode
from pydantic import Field

from exaranker.adapters.llama_index import ExaRankerRerank
from exaranker.rank.reranker import RankedPassage, Reranker


class Heard(BaseEventHandler):
    """Keeps the names of events."""

    names: list[str] = Field(default_factory=list)

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.names.append(event.class_name())


@pytest.fixture
def nodes(passages: list[str]) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text, id_=str(i)), score=0.5) for i, text in enumerate(passages)]


def test_the_best_nodes(
    reranker: Reranker, nodes: list[NodeWithScore], query: str, ranking: list[RankedPassage], same_score: float
) -> None:
    heard = Heard()
    get_dispatcher().add_event_handler(heard)
    postprocessor = ExaRankerRerank(reranker, top_n=3, explain=2)
    found = postprocessor.postprocess_nodes(nodes, query_str=query)
    assert [node.node.node_id for node in found] == [str(one.position) for one in ranking[:3]]
    assert [node.score for node in found] == pytest.approx([one.score for one in ranking[:3]], abs=same_score)
    assert [node.metadata.get("explanation") for node in found] == [
        ranking[0].explanation, ranking[1].explanation, None,
    ]  # fmt: skip
    assert found[0].node.get_content(MetadataMode.LLM) == ranking[0].passage
    assert heard.names == ["ReRankStartEvent", "ReRankEndEvent"]
    assert all(node.score == 0.5 and not node.metadata for node in nodes)
    assert asyncio.run(postprocessor.apostprocess_nodes(nodes, query_str=query)) == found


def test_no_nodes_and_no_query(reranker: Reranker, nodes: list[NodeWithScore], query: str) -> None:
    postprocessor = ExaRankerRerank(reranker)
    assert postprocessor.postprocess_nodes([], query_str=query) == []
    assert postprocessor.class_name() == "ExaRankerRerank"
    with pytest.raises(ValueError, match="reranking needs a query"):
        postprocessor.postprocess_nodes(nodes)
