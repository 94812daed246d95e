"""What makes an explanation useless for training. Each filter is a function of the pair and the LLM's text.

Filters run in the order of `FILTERS`; the first that objects gives the reason.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from exaranker.preprocess.filters.languages import language_of, script
from exaranker.preprocess.prompts.neutralise import TURN_MARKERS

# A copy shares nearly all its 5-grams with the passage.
MAX_COPIED = 0.8
COPY_NGRAM = 5
# An answer that has half of its 5-grams from the instruction or a worked example repeats the prompt.
MAX_LEAKED = 0.5
# A text repeats itself when this share of its 4-grams came before in it; "a a a a a a a a" has 0.8.
MAX_REPEATED = 0.3
REPEAT_NGRAM = 4
# Letters of scripts that neither the question nor the passage has.
MAX_FOREIGN_LETTERS = 0.2

_DENIES = re.compile(
    r"\b(?:is|are|was|seems|appears)(?:\s+not|n't)\s+(?:(?:directly|really|at all)\s+)?(?:relevant|related|about)\b"
    r"|\b(?:is|are|was|seems|appears)\s+(?:completely|entirely|totally|therefore|also)\s+not\s+(?:relevant|related)\b"
    r"|(?<!not )\b(?:irrelevant|unrelated)\s+to\s+(?:the|this)\s+(?:question|query)\b"
    r"|\b(?:passage|it|this|text|document)\s+is\s+(?:\w+ly\s+)?(?:irrelevant|unrelated)\b"
    r"|\bdoes(?:\s+not|n't)\s+(?:\w+ly\s+)?(?:answer|address|mention|provide|contain|specify|state|discuss)\b"
    r"|\b(?:provides?|contains?|gives?|offers?|has)\s+no\s+(?:\w+\s+)?(?:information|answer|details?)\b",
    re.IGNORECASE,
)
_AFFIRMS = re.compile(
    r"\b(?:passage|it|this|text|document)\s+(?:is|seems|appears)\s+(?:to be\s+)?"
    r"(?:(?:directly|highly|clearly|very|also|therefore)\s+)?relevant\b"
    r"|\b(?:directly|clearly|fully)\s+(?:answers|addresses)\b"
    r"|\b(?:passage|it|this|text|document)\s+(?:\w+ly\s+)?(?:answers|addresses)\s+the\s+(?:question|query)(?!\s+of)\b",
    re.IGNORECASE,
)
# The prompt's headings at the start of a sentence only ("answers the question: ..." is good English); phrases about the
# task itself unless the pair speaks of them too.
_CONTROL = re.compile("|".join(TURN_MARKERS), re.IGNORECASE)
_HEADINGS = re.compile(r"(?:^|[.!?]\s+)(?:Question|Passage|Explanation|Final Answer)\s*:")
_TASK_WORDS = re.compile(
    r"\bfinal answer\b|\bas an ai\b|\b(?:ai|language model) assistant\b|\bworked examples?\b"
    r"|\b(?:as|per|following|given) (?:the|these|your) instructions?\b",
    re.IGNORECASE,
)
# Thai, Lao, Burmese, Khmer, kana and Chinese characters are words of their own.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORDS = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
# The words that open an explanation whatever the passage says, such as those a prompt gives: no copy of anything.
_FRAME = re.compile(r"^(?:\w+\s+){1,8}?because\s+")


class Candidate(NamedTuple):
    """What a filter looks at."""

    query: str
    passage: str
    relevant: bool
    text: str
    finish_reason: str
    prompts: tuple[str, ...] = ()  # the prompt's own texts: the instruction and each worked example's


def empty(candidate: Candidate) -> bool:
    """No word at all."""
    return not any(char.isalpha() for char in candidate.text)


def cut_off(candidate: Candidate) -> bool:
    """The token limit ended it, not the LLM."""
    return candidate.finish_reason == "length"


def leak(candidate: Candidate) -> bool:
    """The prompt's own words, headings or control tokens are in it.

    >>> leak(Candidate("q", "p", True, "It names the place. Question: where do whales live", "stop"))
    True
    """
    if _CONTROL.search(candidate.text) or _HEADINGS.search(candidate.text):
        return True
    answer = _FRAME.sub("", candidate.text)
    if any(copied_share(answer, text) > MAX_LEAKED for text in candidate.prompts):
        return True
    own = f"{candidate.query} {candidate.passage}".lower()
    return any(found.lower() not in own for found in _TASK_WORDS.findall(candidate.text))


def contradiction(candidate: Candidate) -> bool:
    """It argues in so many words for the other label; of several verdicts the last counts ("although ..., it does").

    >>> contradiction(Candidate("q", "p", True, "The passage is not relevant: it names no year.", "stop"))
    True
    """
    own, other = (_AFFIRMS, _DENIES) if candidate.relevant else (_DENIES, _AFFIRMS)
    return _last(other, candidate.text) > _last(own, candidate.text)


def repetition(candidate: Candidate) -> bool:
    """It says the same words again and again."""
    grams = ngrams(words(candidate.text), REPEAT_NGRAM)
    return bool(grams) and 1 - len(set(grams)) / len(grams) > MAX_REPEATED


def copy(candidate: Candidate) -> bool:
    """It is the passage's own words."""
    return copied_share(_FRAME.sub("", candidate.text), candidate.passage) > MAX_COPIED


def language(candidate: Candidate) -> bool:
    """It is in a script that neither question nor passage uses, or in a language that is neither theirs nor English."""
    known = set(map(script, candidate.query + candidate.passage)) | {"LATIN"}
    letters = Counter(script(char) for char in candidate.text if char.isalpha())
    foreign = sum(count for name, count in letters.items() if name not in known)
    if foreign > MAX_FOREIGN_LETTERS * max(1, letters.total()):
        return True
    return language_of(candidate.text) not in ("", "en", language_of(f"{candidate.query} {candidate.passage}"))


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


def words(text: str) -> list[str]:
    """Lower-cased words; of scripts that put no blanks between words, characters.

    >>> words("The 塔 is 高い")
    ['the', '塔', 'is', '高', 'い']
    """
    return _WORDS.findall(text.lower())


def ngrams(tokens: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """All runs of `size` neighbouring tokens, in order."""
    return [tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)]


def copied_share(text: str, passage: str) -> float:
    """The share of the text's 5-grams that the passage has, in [0, 1]; 0 for texts of fewer words."""
    grams = ngrams(words(text), COPY_NGRAM)
    known = set(ngrams(words(passage), COPY_NGRAM))
    return sum(gram in known for gram in grams) / len(grams) if grams else 0.0


def _last(pattern: re.Pattern[str], text: str) -> int:
    """Where the pattern's last match begins, or -1."""
    return max((found.start() for found in pattern.finditer(text)), default=-1)
