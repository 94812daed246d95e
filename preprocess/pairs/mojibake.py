"""Text that was decoded as Latin-1 or Windows-1252 though it was UTF-8: MS MARCO has much of it."""

import re

# The bytes of a UTF-8 character as characters of their own: a lead byte before one of the control characters 0x80 to
# 0x9f, which no text has (`â\x80\x99`), or those of U+00A0 to U+00FF (`Â\xa0`, `Ã©`), or of quotes by way of
# Windows-1252 (`â€™`). A letter before a no-break space, as in French, is none of these.
_MOJIBAKE = re.compile(
    "[\u00c2-\u00f4][\u0080-\u009f]|[\u00c2\u00c3][\u00a0-\u00bf]|\u00e2\u20ac[\u0080-\u009f\u2018-\u203a\u02dc\u2122\u0153]"
)


def is_mojibake(text: str) -> bool:
    r"""Whether a part of the text was encoded twice.

    >>> is_mojibake("Let\u00e2\u0080\u0099s see"), is_mojibake("voil\u00e0\u00a0!"), is_mojibake("caf\u00c3\u00a9")
    (True, False, True)
    """
    return not text.isascii() and _MOJIBAKE.search(text) is not None
