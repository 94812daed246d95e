"""The page at `/`: a question, BM25's ranking and ours side by side, and why a passage stands where it stands."""

import asyncio
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from exaranker.rank.sentences import sentences
from exaranker.rank.why import occluded
from exaranker.serve.routes import ServiceOf
from exaranker.serve.search import Searcher

# Nothing is loaded from elsewhere, no script is written into the page, and no other page may frame it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
FILES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
MOST = 100  # passages of one search

router = APIRouter()


class SearchRequest(BaseModel):
    """A question, and how many of BM25's passages are reranked."""

    query: str
    count: Annotated[int, Field(ge=1, le=MOST)] = 20


class Hit(BaseModel):
    """A passage in both rankings; ranks count from 1."""

    doc_id: str
    text: str
    bm25_rank: int
    bm25_score: float
    rank: int
    score: float  # log-odds of relevance
    probability: float


class SearchResponse(BaseModel):
    """What was found, by our ranking."""

    results: list[Hit]


class WhyRequest(BaseModel):
    """A question and a passage."""

    query: str
    document: str


class Contribution(BaseModel):
    """A sentence, `document[start:stop]` in Unicode characters, and how much the log-odds fall without it."""

    text: str
    start: int
    stop: int
    contribution: float


class WhyResponse(BaseModel):
    """The log-odds of a passage and what its sentences add to them; what is not read has no sentence."""

    score: float
    sentences: list[Contribution]


def _searcher(request: Request) -> Searcher:
    searcher: Searcher = request.app.state.searcher
    return searcher


SearcherOf = Annotated[Searcher, Depends(_searcher)]


@router.get("/", include_in_schema=False)
@router.get("/page.css", include_in_schema=False)
@router.get("/page.js", include_in_schema=False)
async def page(request: Request) -> FileResponse:
    """The page and its two files."""
    return FileResponse(Path(__file__).with_name(FILES[request.url.path]), headers=HEADERS)


@router.post("/search", summary="BM25's passages for a question, reranked")
async def search(body: SearchRequest, service: ServiceOf, searcher: SearcherOf) -> SearchResponse:
    """Sorted by our ranking."""
    hits = await asyncio.to_thread(searcher.search, body.query, body.count)
    if not hits:
        return SearchResponse(results=[])
    scores = await service.score([(body.query, hit.text) for hit in hits])
    results = [
        Hit(
            doc_id=hits[index].doc_id,
            text=hits[index].text,
            bm25_rank=index + 1,
            bm25_score=hits[index].score,
            rank=rank,
            score=scores.log_odds[index],
            probability=scores.probability(index),
        )
        for rank, index in enumerate(scores.best(None), 1)
    ]
    return SearchResponse(results=results)


@router.post("/why", summary="What each sentence of a passage adds to its log-odds")
async def why(body: WhyRequest, service: ServiceOf) -> WhyResponse:
    """By occlusion: the passage is scored again without each sentence."""
    read = service.read_part((body.query, body.document))
    found = sentences(read)
    scores = await service.score([(body.query, text) for text in [read, *occluded(read, found)]])
    score, *without = scores.log_odds
    contributions = [
        Contribution(text=read[start:stop], start=start, stop=stop, contribution=score - rest)
        for (start, stop), rest in zip(found, without, strict=True)
    ]
    return WhyResponse(score=score, sentences=contributions)
