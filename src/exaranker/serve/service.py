"""Ranking for many clients at once: texts in, log-odds and explanations out, apart from any protocol."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from exaranker.errors import InputError
from exaranker.rank import arguments
from exaranker.rank.arguments import QueryPassage
from exaranker.rank.loaded_model import probability
from exaranker.rank.reranker import Explanation, Reranker
from exaranker.serve.batcher import Batcher
from exaranker.serve.limits import Limits
from exaranker.serve.metrics import Metrics
from exaranker.serve.refusal import RefusalError

CHARACTERS_PER_TOKEN = 64  # no text that people write has more: what is behind cannot be read, and is not encoded


class Scores(NamedTuple):
    """Log-odds of relevance in the order of the pairs, and what they took."""

    log_odds: list[float]
    num_tokens: int
    tokenization_seconds: float
    queue_seconds: float
    model_seconds: float

    def probability(self, index: int) -> float:
        """Of relevance: the sigmoid of the log-odds."""
        return probability(self.log_odds[index])

    def best(self, count: int | None) -> list[int]:
        """Indices, best first and equal ones in their order; 0 or None: all."""
        return sorted(range(len(self.log_odds)), key=lambda index: -self.log_odds[index])[: count or None]


class Service:
    """A reranker behind its batcher and limits."""

    def __init__(self, reranker: Reranker, name: str, limits: Limits | None = None):
        self.reranker = reranker
        self.name = name
        self.limits = limits or Limits()
        self.metrics = Metrics()
        self.batcher = Batcher(reranker, self.metrics, self.limits.waiting_tokens)
        self._readable_characters = CHARACTERS_PER_TOKEN * reranker.max_length

    @property
    def device(self) -> str:
        """The kind of device that ranks: cpu, gpu or tpu."""
        return str(self.reranker.model.mesh.devices.flat[0].platform)

    async def score(self, pairs: Sequence[QueryPassage], max_tokens: int | None = None) -> Scores:
        """Scores pairs; a passage is cut to `max_tokens`, or to what the model reads.

        Raises:
            RefusalError: there are none or too many, a query alone is too long, too much waits, or the model failed.
        """
        if not pairs:
            raise RefusalError(400, "Empty", "no documents: give at least one")
        if len(pairs) > self.limits.documents:
            raise RefusalError(
                413, "Validation", f"{len(pairs):,} documents, expected at most {self.limits.documents:,}"
            )
        began = time.monotonic()
        inputs = await asyncio.to_thread(self._encode, pairs, max_tokens)
        tokenized = time.monotonic() - began
        scored = await self.batcher.score(inputs)
        if not all(map(math.isfinite, scored.log_odds)):
            raise RefusalError(424, "Backend", "the model gave a score that is no number: try --dtype float32")
        return Scores(scored.log_odds, sum(map(len, inputs)), tokenized, scored.queue_seconds, scored.model_seconds)

    async def explain(self, pairs: Sequence[QueryPassage], log_odds: Sequence[float]) -> list[Explanation]:
        """An explanation per pair, after the label that its score implies.

        Raises:
            RefusalError: the model failed.
        """
        return await self.batcher.explain([self._readable(pair) for pair in pairs], log_odds)

    def explain_stream(self, pair: QueryPassage, log_odds: float) -> AsyncIterator[str]:
        """One explanation, piece by piece.

        Raises:
            RefusalError: the model failed.
        """
        return self.batcher.explain_stream(self._readable(pair), log_odds)

    def label(self, log_odds: float) -> str:
        """The word that a score implies."""
        template = self.reranker.model.card.template
        return template.relevant if log_odds > 0 else template.irrelevant

    def read_part(self, pair: QueryPassage) -> str:
        """What the model reads of a passage.

        Raises:
            RefusalError: the query alone is too long.
        """
        try:
            return self.reranker.cut(*self._readable(pair))
        except InputError as error:
            raise RefusalError(422, "Tokenizer", str(error)) from error

    def _readable(self, pair: QueryPassage) -> QueryPassage:
        query, passage = pair
        return query, passage[: self._readable_characters]

    def _encode(self, pairs: Sequence[QueryPassage], max_tokens: int | None) -> list[list[int]]:
        if any(len(query) > self._readable_characters for query, _ in pairs):
            raise RefusalError(422, "Tokenizer", f"the query is longer than {self._readable_characters:,} characters")
        try:
            return [self._encode_pair(self._readable(pair), max_tokens) for pair in arguments.pairs("pairs", pairs)]
        except InputError as error:
            raise RefusalError(422, "Tokenizer", str(error)) from error

    def _encode_pair(self, pair: QueryPassage, max_tokens: int | None) -> list[int]:
        query, passage = pair
        if max_tokens:
            ends = self.reranker.model.tokenizer.token_ends(passage)
            passage = passage[: ends[max_tokens - 1]] if len(ends) > max_tokens else passage
        return self.reranker.encode(query, passage)
