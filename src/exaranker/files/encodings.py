"""What the bytes of a file are when they are not UTF-8 text, and the command that makes them so."""

import codecs
from pathlib import Path
from typing import NamedTuple


class Reason(NamedTuple):
    """Why bytes are not text, and what to do."""

    problem: str
    remedy: str


# Of two marks that begin alike the longer one comes first.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_COMPRESSED = (
    (b"BZh", "bzip2", ".bz2", "bunzip2 -k"),
    (b"\xfd7zXZ\0", "xz", ".xz", "unxz -k"),
    (b"\x28\xb5\x2f\xfd", "zstd", ".zst", "unzstd"),
    (b"PK\x03\x04", "zip", ".zip", "unzip"),
)


def not_text(start: bytes, path: str | Path) -> Reason | None:
    """Why a file that begins like this is no UTF-8 text, or None if it may be.

    >>> not_text(b"BZh91AY&SY", "run.trec.bz2")
    Reason(problem='this is a bzip2 file, expected plain text or *.gz', remedy='decompress it: bunzip2 -k run.trec.bz2')
    """
    name = Path(path).name
    if start.startswith(b"\x1f\x8b"):
        return Reason("this is a gzip file, but its name does not end in .gz", f"rename it to {name}.gz")
    for magic, what, suffix, command in _COMPRESSED:
        if start.startswith(magic):
            file = name if name.endswith(suffix) else f"{name} (after renaming it to {name}{suffix})"
            return Reason(f"this is a {what} file, expected plain text or *.gz", f"decompress it: {command} {file}")
    for mark, encoding in _BYTE_ORDER_MARKS:
        if start.startswith(mark):
            return _encoded(encoding)
    guessed = _encoding_by_zeros(start)
    return _encoded(guessed) if guessed else None


def not_utf8(error: UnicodeDecodeError) -> Reason:
    r"""Why a line is not UTF-8: another encoding, or damaged bytes within UTF-8.

    >>> try: b"caf\xe9".decode()
    ... except UnicodeDecodeError as error: not_utf8(error).remedy
    'convert the file with: iconv -f latin1 -t utf-8'
    """
    line = error.object
    problem = f"invalid UTF-8 at byte {error.start} of the line: 0x{line[error.start]:02x}"
    rest = line.decode("utf-8", errors="ignore")
    if not rest.isascii():
        return Reason(
            problem, "the rest is UTF-8, so these bytes are damaged: drop them with iconv -c -f utf-8 -t utf-8"
        )
    # Latin-1 has no letters from 0x80 to 0x9f, where Windows has its quotes and dashes.
    encoding = "cp1252" if any(0x80 <= byte <= 0x9F for byte in line) else "latin1"
    return Reason(problem, f"convert the file with: iconv -f {encoding} -t utf-8")


def _encoded(encoding: str) -> Reason:
    command = f"iconv -f {encoding} -t utf-8"
    return Reason(f"the file is {encoding.upper()}, expected UTF-8", f"convert the file with: {command}")


def _encoding_by_zeros(start: bytes) -> str | None:
    """UTF-16 without a mark: in European text every other byte is zero, and none of the others."""
    even, odd = start[0::2], start[1::2]
    for encoding, zeros, letters in (("utf-16le", odd, even), ("utf-16be", even, odd)):
        if len(letters) > 1 and zeros.count(0) > 0.6 * len(zeros) and 0 not in letters:
            return encoding
    return None
