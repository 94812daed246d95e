"""Rank, score and explain: the requests of each API over one service."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from exaranker.rank.arguments import QueryPassage
from exaranker.rank.loaded_model import probability
from exaranker.serve.refusal import RefusalError
from exaranker.serve.service import Reading, Scores, Service
from exaranker.serve.shapes import (
    Document,
    DocumentsRequest,
    ExplainRequest,
    PairScore,
    RankedDocument,
    RankedText,
    RerankRequest,
    RerankResponse,
    ScoreRequest,
    ScoreResponse,
    TextsRequest,
    Truncation,
    Usage,
)

router = APIRouter()


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceOf = Annotated[Service, Depends(_service)]


@router.post("/rerank", response_model_exclude_none=True, summary="Rank documents (or `texts`, as TEI)")
@router.post("/v1/rerank", response_model_exclude_none=True, summary="Rank documents")
@router.post("/v2/rerank", response_model_exclude_none=True, summary="Rank documents")
async def rerank(
    body: RerankRequest, request: Request, response: Response, service: ServiceOf
) -> RerankResponse | list[RankedText]:
    """Sorted best first; `index` points into the request. A score is a probability, or log-odds if asked for."""
    if isinstance(body, TextsRequest):
        request.state.texts = True  # errors from here on have TEI's shape
        return await _rerank_texts(body, response, service)
    return await _rerank_documents(body, service, echo=request.url.path != "/v2/rerank")


@router.post("/score", summary="Score pairs (vLLM)")
@router.post("/v1/score", summary="Score pairs (vLLM)")
async def score(body: ScoreRequest, service: ServiceOf) -> ScoreResponse:
    """Scores in the order of the pairs."""
    scores = await service.score(_pairs(body), _reading(body))
    raw = body.use_activation is False
    data = [PairScore(index=index, score=_shown(value, raw)) for index, value in enumerate(scores.log_odds)]
    return ScoreResponse(
        id=_new_id("score"), created=int(time.time()), model=service.name, data=data, usage=_usage(scores)
    )


@router.post("/explain", summary="Explain a pair, streamed", response_class=StreamingResponse)
async def explain(body: ExplainRequest, service: ServiceOf) -> StreamingResponse:
    """Server-sent events: `label` with the score, each `piece` as it is decoded, `done` with the whole explanation."""
    pair = (body.query, body.document)
    score = body.score if body.score is not None else (await service.score([pair])).log_odds[0]
    events = _explanation_events(service, pair, score)
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _rerank_documents(body: DocumentsRequest, service: Service, echo: bool) -> RerankResponse:
    """`echo`: whether results have their document, unless the request says it."""
    texts = [_text_of(document, body.rank_fields) for document in body.documents]
    pairs = [(body.query, text) for text in texts]
    scores = await service.score(pairs, _reading(body))
    best = scores.best(body.top_n)
    raw = body.raw_scores or body.use_activation is False
    with_text = echo if body.return_documents is None else body.return_documents
    results = [
        RankedDocument(
            index=index,
            relevance_score=_shown(scores.log_odds[index], raw),
            document=Document(text=texts[index]) if with_text else None,
        )
        for index in best
    ]
    await _explain(service, scores, results[: body.explain])
    meta = {"billed_units": {"total_tokens": scores.num_tokens}, "tokens": {"input_tokens": scores.num_tokens}}
    return RerankResponse(id=_new_id("rerank"), model=service.name, usage=_usage(scores), meta=meta, results=results)


async def _rerank_texts(body: TextsRequest, response: Response, service: Service) -> list[RankedText]:
    began = time.monotonic()
    pairs = [(body.query, text) for text in body.texts]
    keep_end = body.truncation_direction.lower() == "left"
    scores = await service.score(pairs, Reading(keep_end=keep_end, whole=body.truncate is False))
    results = [
        RankedText(
            index=index,
            score=_shown(scores.log_odds[index], body.raw_scores),
            text=body.texts[index] if body.return_text else None,
        )
        for index in scores.best(None)
    ]
    await _explain(service, scores, results[: body.explain])
    characters = sum(map(len, body.texts))
    response.headers.update(_timings(service, scores, characters, time.monotonic() - began))
    return results


async def _explain(service: Service, scores: Scores, results: Sequence[RankedDocument | RankedText]) -> None:
    """Adds label and explanation to these results."""
    chosen = [result.index for result in results]
    found = await service.explain(
        [scores.pairs[index] for index in chosen], [scores.log_odds[index] for index in chosen]
    )
    for result, why in zip(results, found, strict=True):
        result.label, result.explanation = why.label, why.explanation


async def _explanation_events(service: Service, pair: QueryPassage, score: float) -> AsyncIterator[bytes]:
    yield _event("label", label=service.label(score), score=score, probability=probability(score))
    whole = ""
    try:
        async for piece in service.explain_stream(pair, score):
            whole += piece
            yield _event("piece", text=piece)
    except RefusalError as refusal:
        yield _event("error", message=refusal.message)
        return
    yield _event("done", explanation=whole)


def _event(name: str, **data: Any) -> bytes:
    return format_sse_event(event=name, data_str=json.dumps(data))


def _text_of(document: str | Mapping[str, Any], fields: Sequence[str] | None) -> str:
    r"""A document's text; of an object its field `text`, or a line for each of its (chosen) fields, as Cohere has it.

    >>> _text_of({"title": "Bees", "text": "Bees make honey.", "year": 2019}, ["title", "year"])
    'title: Bees\nyear: 2019'
    """
    if isinstance(document, str):
        return document
    if fields is None and isinstance(document.get("text"), str):
        return str(document["text"])
    chosen = document if fields is None else {name: document[name] for name in fields if name in document}
    return "\n".join(f"{name}: {value}" for name, value in chosen.items())


def _reading(body: Truncation) -> Reading:
    length = body.truncate_prompt_tokens
    return Reading(
        None if length == -1 else length,
        body.max_tokens_per_query,
        body.max_tokens_per_doc,
        keep_end=body.truncation_side == "left",
    )


def _pairs(body: ScoreRequest) -> list[QueryPassage]:
    first = body.text_1 or body.queries or body.data_1
    second = body.text_2 or body.documents or body.items or body.data_2
    if not first or not second:
        raise RefusalError(400, "Empty", "give `text_1` and `text_2`, or `queries` and `documents`, none of them empty")
    if len(first) not in (1, len(second)):
        problem = f"{len(first)} texts with {len(second)}: expected one with many, or as many"
        raise RefusalError(400, "Validation", problem)
    queries = first * len(second) if len(first) == 1 else first
    return list(zip(queries, second, strict=True))


def _shown(log_odds: float, raw: bool) -> float:
    return log_odds if raw else probability(log_odds)


def _usage(scores: Scores) -> Usage:
    return Usage(prompt_tokens=scores.num_tokens, total_tokens=scores.num_tokens)


def _new_id(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex}"


def _timings(service: Service, scores: Scores, characters: int, total_seconds: float) -> dict[str, str]:
    """TEI's headers; times in milliseconds."""
    values = {
        "x-compute-type": service.device,
        "x-compute-characters": characters,
        "x-compute-tokens": scores.num_tokens,
        "x-compute-time": _milliseconds(total_seconds),
        "x-total-time": _milliseconds(total_seconds),
        "x-tokenization-time": _milliseconds(scores.tokenization_seconds),
        "x-queue-time": _milliseconds(scores.queue_seconds),
        "x-inference-time": _milliseconds(scores.model_seconds),
    }
    return {name: str(value) for name, value in values.items()}


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)
