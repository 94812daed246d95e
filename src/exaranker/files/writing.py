"""Outputs: checked, held by one writer, written aside, synced, renamed.

An output is never an input of the same command, a device, a pipe or another job's file; a symbolic link stays and
what it points at is replaced. While `run.trec` is written there are `.run.trec.writer` (the lock) and
`.run.trec.<8 digits>.aside`; what a killed writer left of these, the next writer of `run.trec` removes. An output in
a store is written to its mirror and uploaded once it is in place (`mirror.py`, `lease.py`).
"""

import errno
import gzip
import hashlib
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from exaranker.errors import InputError
from exaranker.files.lease import lease
from exaranker.files.locks import hold, is_held
from exaranker.files.mirror import fetch, local_path, push, push_whole
from exaranker.files.system import system_error, system_errors_named

AnyPath = str | Path

LOCK = ".writer"


@contextmanager
def claim_outputs(*outputs: AnyPath | None, inputs: Iterable[AnyPath | None] = ()) -> Iterator[None]:
    """Checks the output files of a command and holds them while it works; None is an option that was not given.

    Among `inputs`, what is no local file (a hub's id) is passed over, and a folder stands for every file below it.

    Raises:
        InputError: as `prepare_output`, an output is an input or comes twice, or another process is writing it.
    """
    given = [path for path in outputs if path is not None]
    read = [Path(path) for path in inputs if path is not None]
    targets = [prepare_output(path, read) for path in given]
    for number, target in enumerate(targets):
        if target in targets[:number]:
            raise InputError("two outputs of one command are this file", path=given[number], hint="name two files")
    with ExitStack() as stack:
        for target in targets:
            stack.enter_context(_claimed(target))
        yield


@contextmanager
def claim_folder(folder: AnyPath, *, option: str = "folder") -> Iterator[Path]:
    """Makes a folder if it is not there, holds it while the block fills it, and yields its path.

    `option` is what a user would give to name another one.

    Raises:
        InputError: another process is writing there, it is a file, or nothing can be written there.
    """
    folder = real_path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = f"make room, or give another {option}"
        raise InputError(f"cannot write here: {error.strerror}", path=folder, hint=hint) from error
    with hold(folder / LOCK, folder, option), lease(folder / LOCK, folder, option):
        fetch(folder)
        try:
            yield folder
        finally:
            push(folder)


def prepare_output(path: AnyPath, inputs: Iterable[Path] = ()) -> Path:
    """Makes the folder of an output file, and returns where it will really be; called before hours of work.

    Raises:
        InputError: `path` is one of the inputs, a folder, a device, a pipe or write-protected, or its folder cannot
            be made or written.
    """
    target = real_path(path)
    with system_errors_named(path):
        _refuse_special(path, target)
        for read in inputs:
            if target.exists() and _is_among(target, read):
                problem = "this output is also an input of the command, which would be lost"
                raise InputError(problem, path=path, hint="name another output")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make this folder: {error.strerror}", path=target.parent) from error
    return target


def prepare_folder(path: AnyPath) -> Path:
    """Makes the parents of a folder that is to be written, and returns where it will really be.

    Raises:
        InputError: `path` is a file or has something in it, or its parents cannot be made.
    """
    target = real_path(path)
    with system_errors_named(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and any(target.iterdir()):
            hint = "name a folder that does not exist yet"
            raise InputError("already exists and is not empty", path=path, hint=hint)
    return target


@contextmanager
def atomic_path(path: AnyPath) -> Iterator[Path]:
    """Yields a new path beside `path` to write to; renames it into place if the block succeeds.

    Raises:
        InputError: as `prepare_output`, another process is writing `path`, or the disk or a quota is full.
    """
    target = prepare_output(path)
    with _claimed(target):
        aside = _aside(target)
        try:
            with system_errors_named(target, aside):
                yield aside
                if target.exists():
                    shutil.copymode(target, aside)
                _replace(aside, target)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: AnyPath) -> Iterator[Path]:
    """Yields a new folder beside `path` to fill; renames it into place if the block succeeds.

    Raises:
        InputError: `path` is a file or has something in it, another process is writing it, or the disk is full.
    """
    target = prepare_folder(path)
    with _claimed(target):
        aside = _aside(target)
        try:
            with system_errors_named(target, aside):
                aside.mkdir()
                yield aside
                for file in aside.rglob("*"):
                    if file.is_file():  # safetensors writes files that only their owner can read
                        file.chmod(file.stat().st_mode | aside.stat().st_mode & 0o666)
                    _sync(file)
                _replace(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def open_output(path: AnyPath) -> Iterator[TextIO]:
    """Opens a text file to write, whole or not at all; gzipped if it is called `*.gz`, always to the same bytes.

    Raises:
        InputError: as `atomic_path`, or a text has half of a surrogate pair.
    """
    with _open_bytes(path) as packed:
        stream = io.TextIOWrapper(packed, encoding="utf-8", newline="\n")
        try:
            yield stream
            stream.flush()
        except UnicodeEncodeError as error:
            code = ord(error.object[error.start])
            raise InputError(f"a text has half of a surrogate pair: \\u{code:04x}", path=path) from error
        finally:
            stream.detach()


def write_bytes(path: AnyPath, data: bytes) -> None:
    """Writes a file whole or not at all, gzipped if it is called `*.gz`."""
    with _open_bytes(path) as stream:
        stream.write(data)


def write_text(path: AnyPath, text: str) -> None:
    """Writes a text whole or not at all, as `open_output`."""
    with open_output(path) as stream:
        stream.write(text)


def write_json(path: AnyPath, value: Any) -> None:
    """Writes indented JSON with sorted keys: the same value gives the same bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def sha256_json(value: Any) -> str:
    """A digest of a JSON value that does not depend on key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def real_path(path: AnyPath) -> Path:
    """Where a path leads, `~` and symbolic links followed, also if nothing is there yet.

    Raises:
        InputError: it is empty, or has a character that no path can have.
    """
    if not str(path) or "\0" in str(path):
        raise InputError(f"{str(path)!r} is no path", hint="name a file or folder")
    real = Path(os.path.realpath(local_path(path).expanduser()))
    if os.path.islink(real):
        raise system_error(OSError(errno.ELOOP, os.strerror(errno.ELOOP)), path)
    return real


@contextmanager
def _open_bytes(path: AnyPath) -> Iterator[BinaryIO]:
    with atomic_path(path) as aside, aside.open("wb") as raw:
        if Path(path).suffix == ".gz":
            with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
                yield packed  # type: ignore[misc]
        else:
            yield raw


def _refuse_special(path: AnyPath, target: Path) -> None:
    """Nothing but a regular file can be replaced, and one that is write-protected is so for a reason."""
    if target.is_dir():
        raise InputError("is a folder, expected a file to write", path=path, hint="name a file in it")
    if target.exists() and not target.is_file():
        raise InputError("is a device or a pipe, which cannot be replaced", path=path, hint="name a file")
    if target.exists() and not os.access(target, os.W_OK):
        raise InputError("is write-protected", path=path, hint="name another output, or allow it with chmod u+w")


def _is_among(target: Path, read: Path) -> bool:
    """Whether the file is `read` itself, under whatever name, or a file of the folder `read`."""
    read = read.expanduser()
    files = read.rglob("*") if read.is_dir() else [read]
    return any(file.exists() and target.samefile(file) for file in files)


@contextmanager
def _claimed(target: Path) -> Iterator[None]:
    """Holds an output, unless this process does already; removes what a killed writer left."""
    lock = target.with_name(f".{target.name}{LOCK}")
    if is_held(lock):
        yield
        return
    with hold(lock, target), ExitStack() as stack:
        if not is_held(target.parent / LOCK):
            stack.enter_context(lease(lock, target))
            fetch(target)
        for left in target.parent.iterdir():
            if re.fullmatch(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.aside", left.name):
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        yield


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.aside")


def _replace(aside: Path, target: Path) -> None:
    _sync(aside)
    os.replace(aside, target)
    _sync(target.parent)
    push_whole(target) if target.is_dir() else push(target)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
