"""MS MARCO triples (query, positive, negative), as text or as ids, by the reference rule or whole."""

import hashlib
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

from exaranker.errors import InputError
from exaranker.preprocess.pairs.columns import read_columns
from exaranker.preprocess.pairs.text import InputConfig, with_text_ids
from exaranker.schema import Pair

MAX_SKIPPED = 10  # ExaRanker's script skips 0 to 10 lines before each triple it takes

Triple = TypeVar("Triple", bound=tuple[str, str, str])


def read_triples(path: str | Path, config: InputConfig) -> Iterator[Pair]:
    r"""Yields pairs of an MS MARCO triples file, `query \t positive \t negative`, by the rule of `config.triples`.

    Raises:
        InputError: a line has another number of columns, or the file has too few lines for `config.positives`.
    """
    for (query, positive, negative), is_positive in chosen(_triples(path, config.quotes), config, path):
        label = config.positive_grade * is_positive
        yield with_text_ids(query, positive if is_positive else negative, label)


def chosen(triples: Iterator[Triple], config: InputConfig, name: str | Path) -> Iterator[tuple[Triple, bool]]:
    """(triple, whether its positive is meant) by the rule of `config.triples`.

    Raises:
        InputError: "sampled" runs out of triples before it has `config.positives` of each.
    """
    if config.triples == "full":
        return ((triple, is_positive) for triple in triples for is_positive in (True, False))
    return sampled(triples, config, name)


def sampled(triples: Iterator[Triple], config: InputConfig, name: str | Path) -> Iterator[tuple[Triple, bool]]:
    """The rule of ExaRanker (arXiv 2301.10521) for taking pairs from triples.

    Skip 0 to 10 triples at random, take one; of the first its positive, of the next its negative, and so on, until
    there are `config.positives` different positives.

    A positive that comes again is yielded again: the released 15,000-positive data has it twice, too. Holds 8-byte
    digests of the positives.

    Raises:
        InputError: there are too few triples.
    """
    rng = random.Random(config.seed)
    positives: set[bytes] = set()
    while len(positives) < config.positives:
        for is_positive in (True, False):
            triple = next(islice(triples, rng.randint(0, MAX_SKIPPED), None), None)
            if triple is None:
                problem = f"ends after {len(positives)} positives, pairs.positives asks for {config.positives}"
                hint = "ask for fewer: --gin.pairs.positives=N; or take all: --gin.pairs.triples=\"'full'\""
                raise InputError(problem, path=name, hint=hint)
            if is_positive:
                positives.add(_digest(triple))
            yield triple, is_positive


def _digest(triple: tuple[str, str, str]) -> bytes:
    """Of its query and positive."""
    return hashlib.blake2b("\x00".join(triple[:2]).encode(), digest_size=8).digest()


def _triples(path: str | Path, quotes: str) -> Iterator[tuple[str, str, str]]:
    for record in read_columns(path, ("query", "positive", "negative"), quotes):
        query, positive, negative = record.columns
        yield query, positive, negative
