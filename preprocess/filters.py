"""What makes an explanation useless for training. Each filter is a function of the pair and the LLM's text.

Filters run in the order of `FILTERS`; the first that objects gives the reason.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from exaranker.preprocess.engines import Completion

# A copy shares nearly all its 5-grams with the passage.
MAX_COPIED = 0.8
COPY_NGRAM = 5
# A text repeats itself when this share of its 4-grams came before in it; "a a a a a a a a" has 0.8.
MAX_REPEATED = 0.3
REPEAT_NGRAM = 4
# Letters of scripts that neither the question nor the passage has.
MAX_FOREIGN_LETTERS = 0.2

_DENIES = re.compile(
    r"\b(?:is|are|was|seems|appears)\s+(?:(?:completely|entirely|totally|therefore|also)\s+)?(?:not|n't)\s+"
    r"(?:directly\s+|really\s+)?(?:relevant|related)\b|\bisn't\s+(?:relevant|related|about)\b|\b(?:irrelevant|unrelated)\b"
    r"|\bdoes(?:\s+not|n't)\s+(?:directly\s+|actually\s+)?(?:answer|address)\b",
    re.IGNORECASE,
)
_AFFIRMS = re.compile(
    r"\b(?:passage|it|this|text|document)\s+(?:is|seems|appears)\s+(?:to be\s+)?"
    r"(?:(?:directly|highly|clearly|very|also)\s+)?relevant\b"
    r"|\b(?:directly|clearly|fully)\s+(?:answers|addresses)\b",
    re.IGNORECASE,
)
_LEAKS = re.compile(
    r"<\|[a-z_]+\|>|\[/?INST\]|</?s>|<</?SYS>>|(?:start|end)_of_turn|\bfinal answer\b|\bas an ai\b|\bai assistant\b"
    r"|\b(?:question|passage|explanation)\s*:|\b(?:the|these) instructions?\b",
    re.IGNORECASE,
)


class Candidate(NamedTuple):
    """What a filter looks at."""

    query: str
    passage: str
    relevant: bool
    text: str
    finish_reason: str


def empty(candidate: Candidate) -> bool:
    """No word at all."""
    return not any(char.isalpha() for char in candidate.text)


def cut_off(candidate: Candidate) -> bool:
    """The token limit ended it, not the LLM."""
    return candidate.finish_reason == "length"


def leak(candidate: Candidate) -> bool:
    """The prompt's own parts or control tokens are in it."""
    return bool(_LEAKS.search(candidate.text))


def contradiction(candidate: Candidate) -> bool:
    """It argues in so many words for the other label.

    >>> contradiction(Candidate("q", "p", True, "The passage is not relevant: it names no year.", "stop"))
    True
    """
    return bool((_DENIES if candidate.relevant else _AFFIRMS).search(candidate.text))


def repetition(candidate: Candidate) -> bool:
    """It says the same words again and again."""
    grams = ngrams(words(candidate.text), REPEAT_NGRAM)
    return bool(grams) and 1 - len(set(grams)) / len(grams) > MAX_REPEATED


def copy(candidate: Candidate) -> bool:
    """It is the passage's own words."""
    return copied_share(candidate.text, candidate.passage) > MAX_COPIED


def language(candidate: Candidate) -> bool:
    """It is written in a script that neither question nor passage uses."""
    known = set(map(script, candidate.query + candidate.passage)) | {"LATIN"}
    letters = Counter(script(char) for char in candidate.text if char.isalpha())
    foreign = sum(count for name, count in letters.items() if name not in known)
    return foreign > MAX_FOREIGN_LETTERS * max(1, letters.total())


FILTERS: dict[str, Callable[[Candidate], bool]] = {
    "empty": empty,
    "cut_off": cut_off,
    "leak": leak,
    "contradiction": contradiction,
    "repetition": repetition,
    "copy": copy,
    "language": language,
}


def reason_to_reject(candidate: Candidate, names: Sequence[str]) -> str | None:
    """The first of the named filters that objects, or None."""
    return next((name for name, objects in FILTERS.items() if name in names and objects(candidate)), None)


def candidate_of(query: str, passage: str, relevant: bool, completion: Completion) -> Candidate:
    return Candidate(query, passage, relevant, completion.text, completion.finish_reason)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def ngrams(tokens: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)]


def copied_share(text: str, passage: str) -> float:
    """The share of the text's 5-grams that the passage has, in [0, 1]; 0 for texts of fewer words."""
    grams = ngrams(words(text), COPY_NGRAM)
    known = set(ngrams(words(passage), COPY_NGRAM))
    return sum(gram in known for gram in grams) / len(grams) if grams else 0.0


def script(char: str) -> str:
    """The script of a letter, as the first word of its Unicode name: LATIN, CYRILLIC, CJK, ..."""
    return unicodedata.name(char, "").partition(" ")[0] if char.isalpha() else ""
