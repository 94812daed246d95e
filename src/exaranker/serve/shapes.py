"""Requests and answers of the APIs that rerank clients speak; fields that are not here are ignored.

Sources: cohere-python (v1 and v2 rerank), vLLM's scoring protocol (also Jina's and infinity's), and the OpenAPI file
of text-embeddings-inference (TEI). `explain`, `explanation` and `label` are ours; clients ignore or pass them on.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag

Texts = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
Documents = Annotated[
    list[str | dict[str, Any]], BeforeValidator(lambda value: [value] if isinstance(value, str | dict) else value)
]
Explain = Annotated[int, Field(ge=0, description="how many of the best documents are explained")]


class DocumentsRequest(BaseModel):
    """Cohere v1 and v2, Jina, vLLM, infinity."""

    query: str
    documents: Documents
    model: str | None = None
    top_n: Annotated[int | None, Field(ge=0, description="0 or null: all")] = None
    return_documents: bool | None = None
    rank_fields: list[str] | None = None
    max_tokens_per_doc: Annotated[int | None, Field(ge=0, description="0 or null: as many as the model reads")] = None
    use_activation: bool | None = None  # false: log-odds, vLLM's word for it
    raw_scores: bool = False  # true: log-odds, infinity's word for it
    explain: Explain = 0


class TextsRequest(BaseModel):
    """TEI."""

    query: str
    texts: list[str]
    raw_scores: bool = False
    return_text: bool = False
    explain: Explain = 0


def _shape(body: Any) -> str:
    texts = isinstance(body, TextsRequest) or (isinstance(body, dict) and "texts" in body)
    return (TextsRequest if texts else DocumentsRequest).__name__


RerankRequest = Annotated[
    Annotated[DocumentsRequest, Tag("DocumentsRequest")] | Annotated[TextsRequest, Tag("TextsRequest")],
    Discriminator(_shape),
]


class ScoreRequest(BaseModel):
    """vLLM: one text with each of many, or as many pairs; of each kind the first field that is given counts."""

    text_1: Texts | None = None
    text_2: Texts | None = None
    queries: Texts | None = None
    documents: Texts | None = None
    items: Texts | None = None
    data_1: Texts | None = None
    data_2: Texts | None = None
    model: str | None = None
    use_activation: bool | None = None


class ExplainRequest(BaseModel):
    """A pair; without a score the model scores it first."""

    query: str
    document: str
    score: Annotated[float | None, Field(allow_inf_nan=False, description="log-odds")] = None


class Document(BaseModel):
    """A document of the request, as it was read."""

    text: str


class RankedDocument(BaseModel):
    """A result; `index` is the document's place in the request."""

    index: int
    relevance_score: float
    document: Document | None = None
    label: str | None = None
    explanation: str | None = None


class Usage(BaseModel):
    """Tokens, as vLLM counts them."""

    prompt_tokens: int
    total_tokens: int


class RerankResponse(BaseModel):
    """Results, best first; tokens as vLLM and as Cohere say them."""

    id: str
    model: str
    usage: Usage
    meta: dict[str, Any]
    results: list[RankedDocument]


class RankedText(BaseModel):
    """A result of TEI."""

    index: int
    score: float
    text: str | None = None
    label: str | None = None
    explanation: str | None = None


class PairScore(BaseModel):
    """The score of one pair."""

    index: int
    object: Literal["score"] = "score"
    score: float


class ScoreResponse(BaseModel):
    """vLLM: scores in the order of the pairs."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[PairScore]
    usage: Usage
