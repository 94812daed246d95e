"""Sentence boundaries of a passage, by rules: no model, no download, and offsets that point into the passage.

A boundary is a full stop, question or exclamation mark before a blank and something that is no small letter, any such
mark of a script without capitals, or an empty line. What looks like a full stop but ends an abbreviation, an initial
or the number of a list is none.
"""

import re
from collections.abc import Container, Sequence
from typing import NamedTuple

# Of Chinese and Japanese, Arabic and Urdu, Hindi and its sisters, Amharic, Armenian, Khmer, Burmese, Tibetan.
UNMISTAKABLE = "。！？｡؟۔।॥።፧։។။།"
CLOSING = re.escape("\"'”’»)]}」』）】›")
OPENING = re.escape("\"'“‘«([{「『（【¿¡„‹")
MARK = re.compile(rf"(?:[{UNMISTAKABLE}]+|[.?!…]+)[{CLOSING}]*|\n\s*\n")
NEXT = re.compile(rf"\s+[{OPENING}]*(\w+|\S)")
LAST_WORD = re.compile(r"\S*$")
LONGEST_WORD = 30  # characters looked back for the word before a full stop

TITLES = frozenset("mr mrs ms dr prof rev gen col capt lt sgt sen gov st mt vs cf approx ca bzw mme mlle sra".split())
NUMBERED = frozenset("no nos fig figs eq sec ch vol p pp art nr".split())  # abbreviations where a number follows
ABBREVIATIONS = frozenset(
    "etc inc ltd co corp jr sr al dept est ave jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")  # J or U.S or e.g
UNIT = re.compile(r"\d\s*[A-Z]$")  # at 57 C. Then
LIST_NUMBER = re.compile(rf"[{OPENING}\s]*(?:\d{{1,3}}|[ivx]+|[a-zA-Z])")  # at the beginning
# What a sentence begins with far more often than a name that follows an initial or an abbreviation.
OPENERS = frozenset(
    "the a an it its he she they we you i this that these those there here in on at for from with if when while but "
    "and so or as to by his her their our my your what who how why where which is are was do does can most many some "
    "such no not all both each one after before since then also however".split()
)


class Sentence(NamedTuple):
    """Where a sentence begins and ends, in characters of its passage."""

    start: int
    stop: int


def sentences(text: str) -> list[Sentence]:
    """The sentences of a text, without the blanks between them.

    >>> text = "Dr. Wu lives in the U.S. Is it 3.5 km? 是的。不远。"
    >>> [text[start:stop] for start, stop in sentences(text)]
    ['Dr. Wu lives in the U.S.', 'Is it 3.5 km?', '是的。', '不远。']
    """
    found, start = [], 0
    for mark in MARK.finditer(text):
        if _ends_sentence(text, start, mark):
            found.append(_trimmed(text, start, mark.end()))
            start = mark.end()
    found.append(_trimmed(text, start, len(text)))
    return [sentence for sentence in found if sentence.start < sentence.stop]


def keep_sentences(text: str, found: Sequence[Sentence], kept: Container[int]) -> str:
    """The text with only the sentences of these numbers, each with the blanks after it; with all it is as it was.

    >>> text = "Cats purr.  Dogs bark. Cows moo. "
    >>> keep_sentences(text, sentences(text), {0, 1})
    'Cats purr.  Dogs bark. '
    """
    if not found:
        return text
    ends = [*(following.start for following in found[1:]), found[-1].stop]
    pieces = (text[found[index].start : end] for index, end in enumerate(ends) if index in kept)
    return text[: found[0].start] + "".join(pieces).rstrip() + text[found[-1].stop :]


def _ends_sentence(text: str, start: int, mark: re.Match[str]) -> bool:
    if mark[0][0] in UNMISTAKABLE or mark[0].isspace():
        return True
    following = NEXT.match(text, mark.end())
    if following is None or following[1][0].islower():
        return False
    return mark[0][0] != "." or _is_full_stop(text[start : mark.start()], following[1])


def _is_full_stop(before: str, following: str) -> bool:
    """Whether a point after `before`, with a capital or a number following, ends more than an abbreviation."""
    tail = before[-LONGEST_WORD:]
    word = (LAST_WORD.search(tail) or [""])[0].strip("\"'“‘«([{").lower()
    if word in TITLES or LIST_NUMBER.fullmatch(before):
        return False
    if word in NUMBERED:
        return not following[0].isdigit()
    if (INITIALS.fullmatch(word) and not UNIT.search(tail)) or word in ABBREVIATIONS:
        return following.lower() in OPENERS
    return True


def _trimmed(text: str, start: int, stop: int) -> Sentence:
    piece = text[start:stop]
    return Sentence(start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip()))
