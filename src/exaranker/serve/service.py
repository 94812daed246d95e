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
from exaranker.templates import cut_passage
from exaranker.tokenization import Tokenizer

CHARACTERS_PER_TOKEN = 64  # no text that people write has more: what is behind cannot be read, and is not encoded


class Reading(NamedTuple):
    """What a request wants to be read of its texts; else a long passage is read as far as the model reads."""

    max_length: int | None = None  # tokens of an input, at most the model's
    query_tokens: int | None = None
    passage_tokens: int | None = None
    keep_end: bool = False  # a passage that is too long loses its beginning
    whole: bool = False  # a passage that is too long is refused


AS_EVER = Reading()


class Scores(NamedTuple):
    """Log-odds of relevance in the order of the pairs, and what they took."""

    pairs: list[QueryPassage]  # as they were read
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
        return self.reranker.model.platform

    async def score(self, pairs: Sequence[QueryPassage], reading: Reading = AS_EVER) -> Scores:
        """Scores pairs, of which is read what `reading` says.

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
        read, inputs = await asyncio.to_thread(self._encode, pairs, reading)
        tokenized = time.monotonic() - began
        scored = await self.batcher.score(inputs)
        if not all(map(math.isfinite, scored.log_odds)):
            raise RefusalError(424, "Backend", "the model gave a score that is no number: try --dtype float32")
        return Scores(
            read, scored.log_odds, sum(map(len, inputs)), tokenized, scored.queue_seconds, scored.model_seconds
        )

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

    def _encode(self, pairs: Sequence[QueryPassage], reading: Reading) -> tuple[list[QueryPassage], list[list[int]]]:
        if any(len(query) > self._readable_characters for query, _ in pairs):
            raise RefusalError(422, "Tokenizer", f"the query is longer than {self._readable_characters:,} characters")
        try:
            given = list(arguments.pairs("pairs", pairs))
            read = [self._readable(pair) for pair in given] if reading == AS_EVER else self._read(given, reading)
            return read, [self.reranker.encode(*pair) for pair in read]
        except InputError as error:
            raise RefusalError(422, "Tokenizer", str(error)) from error

    def _read(self, pairs: Sequence[QueryPassage], reading: Reading) -> list[QueryPassage]:
        """What is read of the texts.

        Raises:
            RefusalError: more is asked for than the model reads, or a passage is too long that must not be cut.
            InputError: a query alone is too long.
        """
        longest = self.reranker.max_length
        if reading.max_length and reading.max_length > longest:
            problem = f"{reading.max_length:,} tokens of an input are asked for, the model reads at most {longest:,}"
            raise RefusalError(400, "Validation", problem)
        return [self._read_pair(pair, reading, reading.max_length or longest) for pair in pairs]

    def _read_pair(self, pair: QueryPassage, reading: Reading, max_length: int) -> QueryPassage:
        tokenizer, template = self.reranker.model.tokenizer, self.reranker.model.card.template
        readable = slice(-self._readable_characters, None) if reading.keep_end else slice(self._readable_characters)
        query = _first_tokens(tokenizer, pair[0], reading.query_tokens)
        passage = _first_tokens(tokenizer, pair[1][readable], reading.passage_tokens)
        cut = cut_passage(tokenizer, template, query, passage, max_length, keep_end=reading.keep_end)
        if reading.whole and (cut != passage or passage != pair[1]):
            raise RefusalError(413, "Validation", f"a pair has more than {max_length} tokens, and is not to be cut")
        return query, cut


def _first_tokens(tokenizer: Tokenizer, text: str, count: int | None) -> str:
    """The beginning of a text; 0 or None: all of it."""
    ends = tokenizer.token_ends(text) if count else []
    return text[: ends[count - 1]] if count and len(ends) > count else text
