"""The first stage: BM25 as Lucene computes it, without Java.

Text is analysed as by Lucene's EnglishAnalyzer (word breaks, lower case, possessives, 33 stop words, Porter stems),
term by term; only signs such as © and emoji, which Lucene indexes, are left out. What differs from Anserini is
Lucene's document length, which it rounds to one byte: docs/environment.md has figures of both.
"""

import logging
import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import bm25s
import numpy as np
import Stemmer
from bm25s.stopwords import STOPWORDS_EN
from jaxtyping import Float32

from exaranker.errors import InputError
from exaranker.trec import ScoredDoc, ranked

logging.getLogger("bm25s").setLevel(logging.WARNING)  # at import it asks for DEBUG: a line for every index


def _characters(*categories: str) -> str:
    """The characters of Unicode's general categories, to stand between the brackets of a pattern."""
    return "".join(char for code in range(0x10000) if unicodedata.category(char := chr(code)) in categories)


# Unicode's word breaks (UAX 29), as in Lucene 9: ideographs and hiragana stand alone; marks and invisible format
# characters go with what is before them; these signs join letters ("u.s", "don't") and those digits ("3.5", "10,000").
ALONE = "\u3041-\u3096\u309d-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
NUMBERS = _characters("No")  # ½ and ² are no digits, though \w takes them
MARKS = _characters("Mn", "Mc", "Me", "Cf").replace("\u200b", "")  # a zero-width space is a space
CHAR = rf"(?:[^\W{ALONE}{NUMBERS}][{MARKS}]*)"
BETWEEN_LETTERS = rf"(?<=[^\W\d_])[.:'’‘·](?=[^\W\d_{ALONE}{NUMBERS}])"
BETWEEN_DIGITS = r"(?<=\d)[.,;'’‘⁄](?=\d)"
WORD = re.compile(rf"[{ALONE}]|{CHAR}+(?:(?:{BETWEEN_LETTERS}|{BETWEEN_DIGITS}){CHAR}+)*")
POSSESSIVE = re.compile(r"['’]s$")
STOP_WORDS = frozenset(STOPWORDS_EN)

# Where Porter's own program, which Lucene has, goes further than his paper, which Snowball's "porter" follows.
INFLECTED = re.compile("(?:y|i|is|ies)$")  # what its first step turns into a final i
DOUBLED = re.compile(r"([chjkqvwx])\1$")  # Snowball undoubles b, d, f, g, m, n, p, r and t
MEASURED = re.compile("(?:[aeiou]|[^aeiou]y)[^aeiou]")  # a vowel before a consonant: Porter's m > 0


class Bm25Params(NamedTuple):
    """Term saturation and length normalisation; the defaults are Anserini's for MS MARCO-like passages."""

    k1: float = 0.9
    b: float = 0.4


class TermRows(Sequence[array]):  # type: ignore[type-arg]
    """The term ids of each passage, four bytes each."""

    def __init__(self) -> None:
        self._ids, self._ends = array("i"), array("q", [0])

    def append(self, ids: Iterable[int]) -> None:
        self._ids.extend(ids)
        self._ends.append(len(self._ids))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, row: Any) -> Any:
        if row >= len(self):
            raise IndexError(row)
        return self._ids[self._ends[row] : self._ends[row + 1]]


@dataclass(frozen=True)
class Bm25Index:
    """A BM25 index, in memory or memory-mapped (`kept_index`): passages' ids, terms, and a score for each in each."""

    doc_ids: Sequence[str]
    terms: Mapping[str, int]
    scores: bm25s.BM25
    params: Bm25Params
    median_length: float  # characters of a passage

    @classmethod
    def build(cls, passages: Iterable[tuple[str, str]], params: Bm25Params) -> "Bm25Index":
        """Indexes (doc id, text) pairs.

        A passage without a single term is left out, as Lucene leaves it out: it can never match.

        Raises:
            InputError: no passage has a term.
        """
        doc_ids: list[str] = []
        terms: dict[str, int] = {}
        rows, lengths = TermRows(), array("i")
        for doc_id, text in passages:
            lengths.append(len(text))
            if found := analyze(text):
                doc_ids.append(doc_id)
                rows.append(terms.setdefault(term, len(terms)) for term in found)
        if not doc_ids:
            raise InputError("no passage has a single term to index", hint="check the passages file")
        scores = bm25s.BM25(k1=params.k1, b=params.b, method="lucene")
        scores.scores = scores.build_index_from_ids(range(len(terms)), rows, show_progress=False)
        return cls(doc_ids, terms, scores, params, float(np.median(lengths)))

    def search(self, query_id: str, query: str, k: int) -> list[ScoredDoc]:
        """The best k passages that share a term with the query, ties by doc id descending."""
        terms = [term for word in analyze(query) if (term := self.terms.get(word)) is not None]
        if not terms:
            return []
        scores: Float32[np.ndarray, " docs"] = self.scores.get_scores_from_ids(terms)
        # Every doc as good as the k-th, so that the cut between ties does not depend on the order of the file.
        floor = np.partition(scores, -k)[-k] if k < len(scores) else 0.0
        best = np.flatnonzero((scores >= floor) & (scores > 0))
        return ranked(ScoredDoc(query_id, self.doc_ids[int(i)], float(scores[i])) for i in best)[:k]


def analyze(text: str) -> list[str]:
    """Splits a text into index terms.

    >>> analyze("The U.S. patients' cats aren't running: it's John's 3.5 mg, possibly 10,000 km²")
    ['u.', 'patient', 'cat', "aren't", 'run', 'john', '3.5', 'mg', 'possibl', '10,000', 'km']
    """
    words = (POSSESSIVE.sub("", word) for word in WORD.findall(text.lower()))
    return [_stem(word) for word in words if word not in STOP_WORDS and word.strip("_")]


def retrieve(
    index: Bm25Index, queries: Mapping[str, str], k: int, ignore_identical_ids: bool = False
) -> Iterator[ScoredDoc]:
    """Yields the best k passages of each query, in the order of the queries; without that of the query's own id."""
    for query_id, query in queries.items():
        found = index.search(query_id, query, k + ignore_identical_ids)
        yield from [doc for doc in found if not (ignore_identical_ids and doc.doc_id == query_id)][:k]


@cache
def _stem(word: str) -> str:
    """The term that Lucene's English analyzer makes of a word (Porter).

    >>> [_stem(word) for word in ("us", "possibly", "technologies", "trekking")]
    ['us', 'possibl', 'technolog', 'trek']
    """
    if len(word) < 3:
        return word
    stem = _porter().stemWord(word)
    if INFLECTED.search(word) and stem.endswith("logi") and MEASURED.search(stem[:-4]):
        return stem[:-1]
    if INFLECTED.search(word) and stem.endswith("bli") and MEASURED.search(stem[:-3]):
        return _porter().stemWord(stem[:-1] + "e")
    return stem[:-1] if word.endswith(("ed", "ing")) and DOUBLED.search(stem) else stem


@cache
def _porter() -> Stemmer.Stemmer:
    return Stemmer.Stemmer("porter")
