"""The HTTP application: the routes, what operators ask, and errors in the shape of the API that was spoken."""

import dataclasses
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from exaranker import __version__
from exaranker.serve import page
from exaranker.serve.gate import Gate
from exaranker.serve.refusal import RefusalError
from exaranker.serve.routes import router
from exaranker.serve.search import Searcher
from exaranker.serve.service import Service
from exaranker.serve.shapes import DocumentsRequest, TextsRequest


def create_app(service: Service, searcher: Searcher, api_key: str | None = None) -> ASGIApp:
    """The ASGI application; it starts and stops the service's thread."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.batcher.start()
        yield
        service.batcher.stop()

    app = FastAPI(title="ExaRanker", version=__version__, lifespan=lifespan, redoc_url=None)
    app.state.service, app.state.searcher = service, searcher
    app.include_router(router)
    app.include_router(page.router)
    _add_operations(app, service)
    app.exception_handler(RefusalError)(_refused)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(HTTPException)(_no_such_route)
    app.exception_handler(Exception)(_failed)
    paths = frozenset(str(getattr(route, "path", "")) for route in app.routes)
    return Gate(app, service.limits, service.metrics, paths, api_key)


def _add_operations(app: FastAPI, service: Service) -> None:
    began = int(time.time())

    @app.get("/health", summary="200 as long as requests are answered")
    @app.get("/ping", include_in_schema=False)
    async def health() -> Response:
        if not service.batcher.is_alive:
            raise RefusalError(503, "Unhealthy", "the ranking thread has ended: start the server again")
        return Response()

    @app.get("/info", summary="Model and limits (TEI)")
    async def info() -> dict[str, Any]:
        return _info(service)

    @app.get("/v1/models", summary="The one model (OpenAI)")
    async def models() -> dict[str, Any]:
        length = service.reranker.max_length
        model = {"id": service.name, "object": "model", "created": began, "owned_by": "exaranker"}
        return {"object": "list", "data": [model | {"max_model_len": length}]}

    @app.get("/metrics", summary="Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.page(), media_type=CONTENT_TYPE_LATEST)


def _info(service: Service) -> dict[str, Any]:
    card, limits = service.reranker.model.card, service.limits
    labels = [card.template.irrelevant, card.template.relevant]
    return {
        "model_id": service.name,
        "model_dtype": service.reranker.model.dtype,
        "model_type": {"reranker": {"id2label": dict(enumerate(labels)), "label2id": {labels[0]: 0, labels[1]: 1}}},
        "max_concurrent_requests": limits.requests,
        "max_input_length": service.reranker.max_length,
        "max_batch_tokens": service.reranker.token_budget,
        "max_client_batch_size": limits.documents,
        "auto_truncate": True,
        "template": card.template.name,
        "limits": dataclasses.asdict(limits),
        "version": __version__,
    }


async def _refused(request: Request, refusal: Any) -> JSONResponse:
    status, body = refusal.answer(getattr(request.state, "texts", False))
    return JSONResponse(body, status, refusal.headers)


async def _invalid(_: Request, error: Any) -> JSONResponse:
    """Says the first thing that is wrong, without repeating what was sent."""
    first = error.errors()[0]
    problem = f"{_place(first['loc'])}: {first['msg']}"
    if first["type"] == "json_invalid":
        problem = f"the body is no JSON: {first['ctx']['error']} at character {first['loc'][-1]}"
    texts = isinstance(error.body, dict) and "texts" in error.body
    status, body = RefusalError(422, "Validation", problem).answer(texts)
    return JSONResponse(body, status)


def _place(location: Sequence[str | int]) -> str:
    """The field that is wrong, without the names of shapes that pydantic puts before it.

    >>> _place(("body", "TextsRequest", "texts", 3)), _place(("body", "text_1")), _place(("body", "TextsRequest"))
    ('texts.3', 'text_1', 'body')
    """
    shapes = (DocumentsRequest.__name__, TextsRequest.__name__)
    return ".".join(str(part) for part in location[1:] if part not in shapes) or "body"


async def _failed(_: Request, error: Any) -> JSONResponse:
    """What nobody foresaw; uvicorn logs the traceback."""
    status, body = RefusalError(500, "Backend", f"the server failed: {type(error).__name__}").answer(texts=False)
    return JSONResponse(body, status)


async def _no_such_route(_: Request, error: Any) -> JSONResponse:
    known = HTTPStatus(error.status_code)
    status, body = RefusalError(known.value, "Validation", f"{error.detail}: /docs lists the routes").answer(
        texts=False
    )
    return JSONResponse(body, status, error.headers)
