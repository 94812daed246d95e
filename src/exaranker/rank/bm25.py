"""The first stage: BM25 as Lucene computes it, without Java.

Text is analysed as by Lucene's EnglishAnalyzer (word breaks, lower case, possessives, 33 stop words, Porter stems),
term by term; only signs such as © and emoji, which Lucene indexes, are left out. What differs from Anserini is
Lucene's document length, which it rounds to one byte: docs/environment.md has figures of both.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

import bm25s
import numpy as np
import Stemmer
from bm25s.stopwords import STOPWORDS_EN
from jaxtyping import Float32

from exaranker.errors import InputError
from exaranker.trec import ScoredDoc, ranked


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


class Bm25Index:
    """An in-memory BM25 index over (doc id, text) pairs.

    A passage without a single term is left out, as Lucene leaves it out: it can never match.
    """

    def __init__(self, passages: Iterable[tuple[str, str]], params: Bm25Params):
        self.doc_ids: list[str] = []
        self.vocabulary: dict[str, int] = {}
        rows: list[list[int]] = []
        for doc_id, text in passages:
            if terms := analyze(text):
                self.doc_ids.append(doc_id)
                rows.append([self.vocabulary.setdefault(term, len(self.vocabulary)) for term in terms])
        if not rows:
            raise InputError("no passage has a single term to index", hint="check the passages file")
        self._bm25 = bm25s.BM25(k1=params.k1, b=params.b, method="lucene")
        self._bm25.index((rows, self.vocabulary), create_empty_token=False, show_progress=False)

    def search(self, query_id: str, query: str, k: int) -> list[ScoredDoc]:
        """The best k passages that share a term with the query, ties by doc id descending."""
        terms = [self.vocabulary[term] for term in analyze(query) if term in self.vocabulary]
        if not terms:
            return []
        scores: Float32[np.ndarray, " docs"] = self._bm25.get_scores_from_ids(terms)
        # Every doc as good as the k-th, so that the cut between ties does not depend on the order of the file.
        floor = np.partition(scores, -k)[-k] if k < len(scores) else 0.0
        best = np.flatnonzero((scores >= floor) & (scores > 0))
        return ranked(ScoredDoc(query_id, self.doc_ids[i], float(scores[i])) for i in best)[:k]


def analyze(text: str) -> list[str]:
    """Splits a text into index terms.

    >>> analyze("The U.S. patients' cats aren't running: it's John's 3.5 mg, possibly 10,000 km²")
    ['u.', 'patient', 'cat', "aren't", 'run', 'john', '3.5', 'mg', 'possibl', '10,000', 'km']
    """
    words = (POSSESSIVE.sub("", word) for word in WORD.findall(text.lower()))
    return [_stem(word) for word in words if word not in STOP_WORDS and word.strip("_")]


def retrieve(index: Bm25Index, queries: Mapping[str, str], k: int) -> Iterator[ScoredDoc]:
    """Yields the best k passages of each query, in the order of the queries."""
    for query_id, query in queries.items():
        yield from index.search(query_id, query, k)


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
