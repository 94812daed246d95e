"""Clients from the registries rank 100 passages as `Reranker` does, in every shape that the server speaks."""

from collections.abc import Callable

import httpx
import pytest

from exaranker.rank.reranker import RankedPassage

Ranking = list[RankedPassage]
AssertSame = Callable[[list[tuple[int, float]], Ranking], None]


@pytest.fixture
def assert_same(same_score: float) -> AssertSame:
    """Compares (index, probability) pairs, best first."""

    def compare(found: list[tuple[int, float]], ranking: Ranking) -> None:
        assert [index for index, _ in found] == [passage.position for passage in ranking]
        expected = [passage.probability for passage in ranking]
        assert [score for _, score in found] == pytest.approx(expected, abs=same_score / 4)

    return compare


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_cohere(
    url: str, query: str, passages: list[str], ranking: Ranking, version: str, assert_same: AssertSame
) -> None:
    import cohere

    kind = cohere.Client if version == "v1" else cohere.ClientV2
    client = kind(api_key="any", base_url=url)
    more = {"additional_body_parameters": {"explain": 2}}
    answer = client.rerank(model="m", query=query, documents=passages, request_options=more)
    assert_same([(found.index, found.relevance_score) for found in answer.results], ranking)
    explained = [found.explanation for found in answer.results[:2]]  # a field the client does not know, but keeps
    assert explained == [passage.explanation for passage in ranking[:2]]
    assert len(client.rerank(model="m", query=query, documents=passages, top_n=3).results) == 3
    with pytest.raises(cohere.BadRequestError, match="no documents: give at least one"):
        client.rerank(model="m", query=query, documents=[])


def test_litellm(
    url: str,
    query: str,
    passages: list[str],
    ranking: Ranking,
    monkeypatch: pytest.MonkeyPatch,
    assert_same: AssertSame,
) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else its import asks the network
    import litellm

    answer = litellm.rerank(model="hosted_vllm/tiny", query=query, documents=passages, api_base=url)
    assert_same([(found["index"], found["relevance_score"]) for found in answer.results], ranking)
    assert [found["document"]["text"] for found in answer.results] == [passage.passage for passage in ranking]
    assert answer.meta["tokens"]["input_tokens"] > 1000
    objects = [{"text": passage} for passage in passages]
    best = litellm.rerank(
        model="hosted_vllm/tiny", query=query, documents=objects, top_n=2, api_base=f"{url}/v1/rerank"
    )
    assert_same([(found["index"], found["relevance_score"]) for found in best.results], ranking[:2])


def test_llama_index(url: str, query: str, passages: list[str], ranking: Ranking, assert_same: AssertSame) -> None:
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

    nodes = [NodeWithScore(node=TextNode(text=text, id_=str(index))) for index, text in enumerate(passages)]
    ranked = TextEmbeddingInference(base_url=url, top_n=100).postprocess_nodes(nodes, QueryBundle(query))
    assert_same([(int(found.node.node_id), found.score) for found in ranked], ranking)


def test_haystack(
    url: str, query: str, passages: list[str], ranking: Ranking, assert_same: AssertSame, same_score: float
) -> None:
    from haystack import Document
    from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker

    documents = [Document(id=str(index), content=text) for index, text in enumerate(passages)]
    ranked = HuggingFaceTEIRanker(url=url, top_k=100).run(query=query, documents=documents)["documents"]
    assert_same([(int(found.id), found.score) for found in ranked], ranking)
    raw = HuggingFaceTEIRanker(url=url, top_k=3, raw_scores=True).run(query=query, documents=documents)["documents"]
    assert [found.score for found in raw] == pytest.approx([passage.score for passage in ranking[:3]], abs=same_score)
    with pytest.raises(RuntimeError, match='"error_type":"Tokenizer"'):
        HuggingFaceTEIRanker(url=url).run(query="why " * 999, documents=documents)


def test_langchain(url: str, query: str, passages: list[str], ranking: Ranking, assert_same: AssertSame) -> None:
    from langchain_cohere import CohereRerank
    from langchain_core.documents import Document

    documents = [Document(text, metadata={"index": index}) for index, text in enumerate(passages)]
    compressor = CohereRerank(base_url=url, model="tiny", cohere_api_key="any", top_n=100)
    ranked = compressor.compress_documents(documents, query)
    assert_same([(found.metadata["index"], found.metadata["relevance_score"]) for found in ranked], ranking)


@pytest.mark.parametrize("provider", ["cohere", "jina", "text-embeddings-inference"])
def test_rerankers(
    url: str, query: str, passages: list[str], ranking: Ranking, provider: str, assert_same: AssertSame
) -> None:
    from rerankers.models.api_rankers import APIRanker

    route = "/rerank" if provider == "text-embeddings-inference" else "/v1/rerank"
    ranked = APIRanker("tiny", "any", provider, url=url + route).rank(query, passages, doc_ids=list(range(100)))
    assert_same([(found.document.doc_id, found.score) for found in ranked.results], ranking)


def test_vllm_scores(url: str, query: str, passages: list[str], ranking: Ranking, same_score: float) -> None:
    """vLLM has no client of its own for /score: its documentation posts the fields as they are."""
    body = {"model": "tiny", "text_1": query, "text_2": passages, "use_activation": False}
    data = httpx.post(f"{url}/v1/score", json=body, timeout=60).json()["data"]
    best = sorted(data, key=lambda found: -found["score"])
    assert [found["index"] for found in best] == [passage.position for passage in ranking]
    assert [found["score"] for found in best] == pytest.approx([passage.score for passage in ranking], abs=same_score)
