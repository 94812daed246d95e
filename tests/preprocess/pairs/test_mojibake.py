from exaranker.preprocess.pairs.mojibake import is_mojibake
from exaranker.preprocess.pairs.selection import select
from exaranker.preprocess.pairs.text import with_text_ids


def twice(text, encoding="latin1"):
    return text.encode().decode(encoding)


def test_text_that_was_encoded_twice_is_told_from_text():
    for text in ("Let’s see", "“quoted”", "a\u00a0b", "café", "–"):
        assert is_mojibake(twice(text))
        assert not is_mojibake(text)
    assert is_mojibake("Letâ€™s")
    for text in ("voilà\u00a0!", "Ärger", "naïve", "日本語", "à «»", "Đà Nẵng", "plain"):
        assert not is_mojibake(text)


def test_it_is_counted_and_kept():
    pairs = [with_text_ids("why", twice("Let’s see"), 1), with_text_ids("why", "Let’s see", 0)]
    selection = select(lambda: iter(pairs), 1)
    assert selection.counts["mojibake"] == 1
    assert list(selection.pairs()) == pairs
