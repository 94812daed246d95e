"""Files that are either whole or not there: written aside, synced, renamed."""

import codecs
import errno
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from exaranker.errors import InputError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; renames it into place if the block succeeds.

    A killed process leaves at most `path` + ".tmp", which no reader takes for `path` and the next writer overwrites.

    Raises:
        InputError: `path` cannot be written, or the disk or a quota is full.
    """
    path = prepare_output(path)
    aside = path.with_name(path.name + ".tmp")
    try:
        with full_disk_named(path):
            yield aside
            _sync(aside)
            os.replace(aside, path)
            _sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def prepare_output(path: str | Path) -> Path:
    """Makes the folder of an output file; called before hours of work, so that they are not in vain.

    Raises:
        InputError: `path` is a folder, or its own folder cannot be made.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError("is a folder, expected a file to write", path=path, hint="name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make this folder: {error.strerror}", path=path.parent) from error
    return path


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Reports a full disk, which the block may meet, as bad input.

    Raises:
        InputError: the block ran out of space or quota; names the folder.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        problem = f"no space left to write {path.name}: {error.strerror}"
        raise InputError(problem, path=path.parent, hint="free some and run the same command again") from error


def write_bytes(path: str | Path, data: bytes) -> None:
    """Replaces a file at once: a reader sees the former bytes or these."""
    with atomic_path(path) as aside:
        aside.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Replaces a file by UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Writes indented JSON with sorted keys: the same value gives the same bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Reads a JSON file.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    with open_input(path) as stream:
        try:
            return json.load(stream)
        except ValueError as error:
            raise InputError(f"not valid JSON: {error}", path=path) from error


def open_input(path: str | Path) -> BinaryIO:
    """Opens a file for reading bytes, gunzipping `*.gz`.

    Raises:
        InputError: there is no such file, or it is empty.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder, expected a file" if path.is_dir() else "no such file"
        raise InputError(what, path=path, hint="check the path")
    if path.stat().st_size == 0:
        raise InputError("the file is empty", path=path)
    if path.suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return path.open("rb")


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    r"""Yields (line number from 1, line without its newline), streaming; only "\n" and "\r\n" end a line.

    Raises:
        InputError: the file is missing or empty, a line is not UTF-8, or a gzip file is truncated or damaged.
    """
    number = 0
    with open_input(path) as stream:
        for number, raw in enumerate(_raw_lines(stream, path), start=1):
            if number == 1:
                raw = raw.removeprefix(codecs.BOM_UTF8)  # some editors write it; it would become part of the first id
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"invalid UTF-8 at byte {error.start} of the line: 0x{raw[error.start]:02x}",
                    path=path,
                    line=number,
                    hint="convert the file with: iconv -f latin1 -t utf-8",
                ) from error
            yield number, line.rstrip("\r\n")
    if number == 0:  # gzip's own header is not content
        raise InputError("the file is empty", path=path)


def _raw_lines(stream: BinaryIO, path: str | Path) -> Iterator[bytes]:
    """The lines as bytes; a gzip file that is truncated or damaged says after which line, if there is one."""
    number = 0
    try:
        for raw in stream:
            number += 1
            yield raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        problem = f"the gzip file is truncated or damaged{' after this line' if number else ''}: {error}"
        hint = "check it with gzip -t, and fetch it again"
        raise InputError(problem, path=path, line=number or None, hint=hint) from error


def sha256_file(path: str | Path) -> str:
    """The hexadecimal sha256 of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """A digest of a JSON value that does not depend on key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
