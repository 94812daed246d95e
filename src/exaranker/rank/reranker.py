"""Scores and explains (query, passage) pairs with a checkpoint of either family.

A score is the log-odds of the label, logit(relevant) - logit(irrelevant) at the first answer token, in fp32: it never
saturates as a probability does. An explanation is decoded only when asked for, after the label that the score implies.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float32

from exaranker.checkpoints.convert.public import usable_base, usable_checkpoint
from exaranker.rank import arguments
from exaranker.rank.arguments import QueryPassage
from exaranker.rank.engines import LogOdds, RankingModel, load_model
from exaranker.rank.length_buckets import TextBatch, length_batches, pad_batch, static_length
from exaranker.rank.loaded_model import probability
from exaranker.rank.why import Why, explain_why
from exaranker.resume import Advance, unheard
from exaranker.templates import cut_passage, encode_input, explanation_prefix

MAX_LENGTH = 512  # what T5 was trained with, and the reference recipes' input length
# Tokens per batch and device. A CPU core's cache holds the activations of about 1,024; an accelerator wants thousands
# of rows in each matrix product.
TOKEN_BUDGET = {"cpu": 1024}
ACCELERATOR_TOKEN_BUDGET = 32_768
WINDOW_BATCHES = 32  # batches that are sorted by length together: 1/32 of them is cut short at a window's end
MEAN_TOKENS = 128  # of an MS MARCO input; only sizes the window
EXPLANATION_ROWS = 16  # explanations decoded side by side, per device
EXPLANATION_TOKENS = 64  # the papers' explanations have 17-29 words
IN_FLIGHT = 2  # batches computed while the next is made ready


class RankedPassage(NamedTuple):
    """A passage, its log-odds of relevance, and where it stood in the list that was ranked."""

    position: int
    score: float
    passage: str
    explanation: str = ""  # of those that `Reranker.rank` was asked to explain

    @property
    def probability(self) -> float:
        """Of relevance, against irrelevance: the sigmoid of the score.

        >>> RankedPassage(0, 0.0, "Air scatters blue light.").probability
        0.5
        """
        return probability(self.score)


class Explanation(NamedTuple):
    """The label that the score implies ("true"), and why, in the model's words."""

    label: str
    score: float
    explanation: str

    @property
    def probability(self) -> float:
        """Of relevance, whatever the label: the sigmoid of the score."""
        return probability(self.score)


@dataclass(frozen=True)
class Reranker:
    """A loaded checkpoint. The same pairs in the same order always give the same scores.

    >>> reranker = Reranker.from_checkpoint("out/model")
    >>> best, other = reranker.rank("why is the sky blue", ["Grass is green.", "Air scatters blue light."])
    >>> best.score > other.score
    True
    >>> reranker.explain([("why is the sky blue", best.passage)], [best.score])[0].score == best.score
    True
    """

    model: RankingModel
    max_length: int  # tokens of an input; a longer one has its passage shortened
    token_budget: int  # tokens per batch

    @classmethod
    def from_checkpoint(
        cls,
        directory: str | Path | None = None,
        *,
        max_length: int | None = None,
        token_budget: int | None = None,
        dtype: str | None = None,
        base: str | Path | None = None,
        template: str | None = None,
        engine: str | None = None,
    ) -> "Reranker":
        """Loads MODEL_DIR (its newest checkpoint) or MODEL_DIR/checkpoint_N onto all local devices.

        Without a directory it is the ranker in the box. A Hugging Face directory or hub id is converted once, into a
        cache; `template` (a name or a YAML file) says what it was trained to read, where the table of public rankers
        does not. `max_length` is by default the model's own, else 512; `dtype` ("float32", "bfloat16") replaces the
        one of the model's configuration; `token_budget` is per device; `base` is the model that an adapter is of (a
        checkpoint, or one of Hugging Face's), if it is not where it was in training. `engine` "ctranslate2" scores on
        the CPU by CTranslate2, converted once into the same cache, in "float32" or, as `dtype` "int8" alone asks for,
        in int8.

        Raises:
            InputError: there is no complete checkpoint, its tokenizer is not the one it was trained with, an
                adapter's base is not there, a model of others cannot be converted or its template is not known, or
                the engine does not have the model or the type.
        """
        model = load_model(usable_checkpoint(directory, template), engine, dtype, base and usable_base(base))
        max_length = max_length or model.card.max_length or MAX_LENGTH
        return cls(model, max_length, (token_budget or default_token_budget()) * model.num_devices)

    def __repr__(self) -> str:
        """One line, without the weights."""
        return f"Reranker({self.model!r}, max_length={self.max_length}, token_budget={self.token_budget})"

    @property
    def window(self) -> int:
        """Pairs that are sorted by length together; scores of one window do not depend on any other."""
        return pairs_at_once(self.token_budget)

    def score(self, pairs: Iterable[QueryPassage], *, as_probability: bool = False) -> Iterator[float]:
        """Log-odds of relevance, in the order of the pairs, streaming: memory does not grow with their number.

        `as_probability` gives their sigmoid, in which good passages may be equal where their log-odds are not.
        """
        stream = arguments.pairs("pairs", pairs)
        while window := list(islice(stream, self.window)):
            scores = self.score_window(window).tolist()
            yield from map(probability, scores) if as_probability else scores

    def score_window(self, pairs: Sequence[QueryPassage], advance: Advance = unheard) -> Float32[np.ndarray, " pairs"]:
        """Scores all pairs at once, sorted by length; `advance` is told after each batch which share is done."""
        scores, done = np.empty(len(pairs), np.float32), 0
        inputs = [self.encode(query, passage) for query, passage in pairs]
        for indices, log_odds in self._computed(inputs):
            scores[indices] = log_odds
            done += len(indices)
            advance(done / len(pairs))
        return scores

    def rank(
        self, query: str, passages: Iterable[str], top_k: int | None = None, explain: int = 0
    ) -> list[RankedPassage]:
        """Sorts passages by descending score, equal ones in their order; the best `explain` have an explanation.

        With `top_k` only the best are returned.

        Raises:
            TypeError: the query or a passage is no text; names the argument.
        """
        query, texts = arguments.text("query", query), arguments.texts("passages", passages)
        best = None if top_k is None else arguments.at_least_one("top_k", top_k)
        explained = arguments.at_least_one("explain", explain) if explain else 0
        scores = list(self.score((query, passage) for passage in texts))
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        ranking = [RankedPassage(index, scores[index], texts[index]) for index in order[:best]]
        return [*self._explained(query, ranking[:explained]), *ranking[explained:]]

    def explain(
        self,
        pairs: Iterable[QueryPassage],
        scores: Iterable[float] | None = None,
        max_new_tokens: int = EXPLANATION_TOKENS,
        advance: Advance = unheard,
    ) -> list[Explanation]:
        """Decodes an explanation per pair, greedily, after the label its score implies; known scores are not redone.

        `advance` is told after each batch which share is done.

        Raises:
            TypeError: a pair or a score is of another type; names it.
            InputError: there is not one score for each pair.
        """
        pairs = list(arguments.pairs("pairs", pairs))
        arguments.at_least_one("max_new_tokens", max_new_tokens)
        scores = list(self.score(pairs)) if scores is None else arguments.scores("scores", scores, len(pairs))
        texts: dict[int, str] = {}
        for relevant in (True, False):
            chosen = [index for index, score in enumerate(scores) if (score > 0) == relevant]
            for explained in self._explain_label(relevant, pairs, chosen, max_new_tokens):
                texts |= explained
                advance(len(texts) / len(pairs))
        words = (self.model.card.template.irrelevant, self.model.card.template.relevant)
        return [Explanation(words[score > 0], score, texts[index]) for index, score in enumerate(scores)]

    def explain_stream(
        self, query: str, passage: str, score: float, max_new_tokens: int = EXPLANATION_TOKENS
    ) -> Iterator[str]:
        """The explanation that `explain` gives for one pair and its score, piece by piece as it is decoded."""
        prefix = explanation_prefix(self.model.tokenizer, self.model.card.template, score > 0)
        tokens = self.encode(query, passage)
        batch = pad_batch([tokens], [0], (self.model.num_devices, static_length(len(tokens), self.max_length)))
        ids: list[int] = []
        shown = ""
        for token in self.model.generate_stream(batch, prefix, max_new_tokens=max_new_tokens):
            ids.append(token)
            text = self._on_one_line(ids).rstrip("\ufffd")  # the first bytes of a character that is not whole yet
            if len(text) > len(shown) and text.startswith(shown):
                yield text[len(shown) :]
                shown = text

    def why(self, query: str, passage: str, max_new_tokens: int = EXPLANATION_TOKENS) -> Why:
        """Score and explanation of one passage, the explanation under the other label, and what each sentence adds.

        Raises:
            TypeError: the query or the passage is no text; names the argument.
        """
        query, passage = arguments.text("query", query), arguments.text("passage", passage)
        return explain_why(self, query, passage, max_new_tokens)

    async def ascore(self, pairs: Iterable[QueryPassage], *, as_probability: bool = False) -> list[float]:
        """`score` as a list, in a thread: the event loop goes on."""
        return await asyncio.to_thread(lambda: list(self.score(pairs, as_probability=as_probability)))

    async def arank(
        self, query: str, passages: Iterable[str], top_k: int | None = None, explain: int = 0
    ) -> list[RankedPassage]:
        """`rank`, in a thread."""
        return await asyncio.to_thread(self.rank, query, passages, top_k, explain)

    async def aexplain(
        self,
        pairs: Iterable[QueryPassage],
        scores: Iterable[float] | None = None,
        max_new_tokens: int = EXPLANATION_TOKENS,
    ) -> list[Explanation]:
        """`explain`, in a thread."""
        return await asyncio.to_thread(self.explain, pairs, scores, max_new_tokens)

    async def awhy(self, query: str, passage: str, max_new_tokens: int = EXPLANATION_TOKENS) -> Why:
        """`why`, in a thread."""
        return await asyncio.to_thread(self.why, query, passage, max_new_tokens)

    def encode(self, query: str, passage: str) -> list[int]:
        """Token ids of one input."""
        return encode_input(self.model.tokenizer, self.model.card.template, query, passage, self.max_length)

    def cut(self, query: str, passage: str) -> str:
        """What is read of a passage: a long one loses its end."""
        return cut_passage(self.model.tokenizer, self.model.card.template, query, passage, self.max_length)

    def _computed(self, inputs: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Float32[np.ndarray, " rows"]]]:
        """Which inputs each finished batch held, and their log-odds; a few batches are computed ahead."""
        running: deque[tuple[TextBatch, LogOdds]] = deque()
        for batch in self._batches(inputs):
            running.append((batch, self.model.log_odds(batch)))
            if len(running) > IN_FLIGHT:
                yield _collect(*running.popleft())
        yield from (_collect(*finished) for finished in running)

    def _batches(self, inputs: Sequence[Sequence[int]]) -> Iterator[TextBatch]:
        devices = self.model.num_devices
        return length_batches(inputs, max_length=self.max_length, token_budget=self.token_budget, devices=devices)

    def _explained(self, query: str, ranking: Sequence[RankedPassage]) -> list[RankedPassage]:
        pairs, scores = [(query, found.passage) for found in ranking], [found.score for found in ranking]
        texts = self.explain(pairs, scores)
        return [found._replace(explanation=text.explanation) for found, text in zip(ranking, texts, strict=True)]

    def _explain_label(
        self, relevant: bool, pairs: Sequence[QueryPassage], chosen: list[int], max_new_tokens: int
    ) -> Iterator[dict[int, str]]:
        """Explanations of the chosen pairs, all of one label, a batch at a time; sorted by length."""
        alone = len(chosen) <= self.model.num_devices  # someone waits for it: no rows of padding
        rows = self.model.num_devices * (1 if alone else EXPLANATION_ROWS)
        prefix = explanation_prefix(self.model.tokenizer, self.model.card.template, relevant)
        inputs = {index: self.encode(*pairs[index]) for index in chosen}
        order = sorted(chosen, key=lambda index: -len(inputs[index]))
        for start in range(0, len(order), rows):
            group = order[start : start + rows]
            length = static_length(len(inputs[group[0]]), self.max_length)
            batch = pad_batch([inputs[index] for index in group], list(range(len(group))), (rows, length))
            generated = self.model.generate(batch, prefix, max_new_tokens=max_new_tokens)
            yield {index: self._on_one_line(ids) for index, ids in zip(group, generated, strict=False)}

    def _on_one_line(self, ids: Sequence[int]) -> str:
        return " ".join(self.model.tokenizer.decode(ids).split())


@dataclass(frozen=True, kw_only=True)
class RankingJob:
    """What every job is given that ranks: which ranker, and how it is loaded, as `Reranker.from_checkpoint` says it."""

    checkpoint: Path | None = None  # None is the ranker in the box
    max_length: int | None = None
    token_budget: int | None = None
    dtype: str | None = None
    base: Path | None = None
    template: str | None = None
    engine: str | None = None

    def load(self) -> Reranker:
        """The ranker.

        Raises:
            InputError: as `Reranker.from_checkpoint`.
        """
        return Reranker.from_checkpoint(
            self.checkpoint,
            max_length=self.max_length,
            token_budget=self.token_budget,
            dtype=self.dtype,
            base=self.base,
            template=self.template,
            engine=self.engine,
        )


def default_token_budget() -> int:
    """Tokens per batch and device that fit the kind of device at hand."""
    return TOKEN_BUDGET.get(jax.default_backend(), ACCELERATOR_TOKEN_BUDGET)


def pairs_at_once(token_budget: int) -> int:
    """Pairs of a scoring window, for a batch's tokens on all devices together.

    >>> pairs_at_once(1024)
    256
    """
    return max(1, WINDOW_BATCHES * token_budget // MEAN_TOKENS)


def _collect(batch: TextBatch, log_odds: LogOdds) -> tuple[list[int], Float32[np.ndarray, " texts"]]:
    return batch.indices, np.asarray(log_odds)[batch.rows]
