"""Which script and which language a short text is in, as far as its letters and function words tell."""

import re
import unicodedata

# Words that other languages of the Latin script use in nearly every sentence, and English does not.
FUNCTION_WORDS: dict[str, frozenset[str]] = {
    "de": frozenset("der die das und ist nicht ein eine den dem mit von für auf werden wird sich auch".split()),
    "fr": frozenset("le la les des est et une un dans pour que qui pas sur avec au du par".split()),
    "es": frozenset("el la los las es y una un en por que con para del se como su".split()),
    "pt": frozenset("o os as é e uma um em por que com para do da não se como".split()),
    "it": frozenset("il lo gli è e una un di per che con del della non si come sono".split()),
    "nl": frozenset("de het een en niet van dat die voor met zijn wordt ook aan naar".split()),
    "en": frozenset("the is of and to that it in for with not are this which about because does".split()),
}
MIN_WORDS_OF_A_LANGUAGE = 8  # fewer tell nothing
MIN_FUNCTION_WORDS = 0.2  # of a text's words; running English has about 0.4 of those above


def language_of(text: str) -> str:
    """The language of the Latin script whose function words stand out in the text, or "" if none does.

    >>> language_of("Der Text ist nicht relevant, weil er die Frage mit keinem Wort beantwortet.")
    'de'
    """
    tokens = re.findall(r"\w+", text.lower())
    if len(tokens) < MIN_WORDS_OF_A_LANGUAGE:
        return ""
    shares = {name: sum(token in known for token in tokens) for name, known in FUNCTION_WORDS.items()}
    best = max(shares, key=lambda name: shares[name])
    clear = shares[best] >= MIN_FUNCTION_WORDS * len(tokens) and shares[best] > 1.5 * shares["en"]
    return best if clear or (best == "en" and shares[best]) else ""


def script(char: str) -> str:
    """The script of a letter, as the first word of its Unicode name: LATIN, CYRILLIC, CJK, ..."""
    return unicodedata.name(char, "").partition(" ")[0] if char.isalpha() else ""
