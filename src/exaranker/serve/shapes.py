"""Requests and answers of the APIs that rerank clients speak; fields that are not here are ignored.

Sources: cohere-python (v1 and v2 rerank), vLLM's scoring protocol (also Jina's and infinity's), and the OpenAPI file
of text-embeddings-inference (TEI). `explain`, `explanation` and `label` are ours; clients ignore or pass them on.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag

TextList = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
Documents = Annotated[
    list[str | dict[str, Any]], BeforeValidator(lambda value: [value] if isinstance(value, str | dict) else value)
]
PromptTokens = Annotated[int | None, Field(ge=-1, description="tokens of an input; -1 or null: as the model reads")]
TextTokens = Annotated[int | None, Field(ge=0, description="tokens that are read of it; 0 or null: all that fit")]
Explain = Annotated[int, Field(ge=0, description="how many of the best documents are explained")]


class Truncation(BaseModel):
    """What is read of long texts, in vLLM's words; `max_tokens_per_doc` is Cohere's too."""

    max_tokens_per_doc: TextTokens = None
    max_tokens_per_query: TextTokens = None
    truncate_prompt_tokens: PromptTokens = None
    truncation_side: Annotated[Literal["left", "right"] | None, Field(description="of a passage that is too long")] = (
        None
    )


class DocumentsRequest(Truncation):
    """Cohere v1 and v2, Jina, vLLM, infinity."""

    query: str
    documents: Documents
    model: str | None = None
    top_n: Annotated[int | None, Field(ge=0, description="0 or null: all")] = None
    return_documents: bool | None = None
    rank_fields: list[str] | None = None
    use_activation: bool | None = None  # false: log-odds, vLLM's word for it
    raw_scores: bool = False  # true: log-odds, infinity's word for it
    explain: Explain = 0


class TextsRequest(BaseModel):
    """TEI."""

    query: str
    texts: list[str]
    truncate: Annotated[bool | None, Field(description="false: a text that is too long is refused")] = None
    truncation_direction: Annotated[
        Literal["Left", "Right", "left", "right"], Field(description="where a text that is too long is cut")
    ] = "Right"
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


class ScoreRequest(Truncation):
    """vLLM: one text with each of many, or as many pairs; of each kind the first field that is given counts."""

    text_1: TextList | None = None
    text_2: TextList | None = None
    queries: TextList | None = None
    documents: TextList | None = None
    items: TextList | None = None
    data_1: TextList | None = None
    data_2: TextList | None = None
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
