"""Paths on object stores (`s3://`, `gs://`, any scheme that fsspec opens): each has a mirror, a copy on this disk.

A URL is fetched where it enters; what is written to its mirror is uploaded as soon as it is whole. A file is one PUT,
which replaces it or does not. A folder that is whole or not there at all, such as a checkpoint, has an object
`.incomplete` in it while its files come and go: with it the folder counts as absent. A process's mirrors are its own
and go with it; those of a killed process go when the next one makes its own.
"""

import atexit
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from exaranker.errors import InputError, require
from exaranker.files.locks import hold
from exaranker.redact import redacted

INCOMPLETE = ".incomplete"
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/(/?)(.*)", re.DOTALL)
_WORD = re.compile(r"((?:--\w+=)?(?:[^=:/]+=)?)((?!https?:)[A-Za-z][A-Za-z0-9+.-]*://[^,]+)")
# What is never uploaded: locks, files being written, Orbax's checkpoints being written.
_UNFINISHED = re.compile(r"\.writer$|\.aside(/|$)|\.orbax-checkpoint-tmp")
_NO_STORES = ("http", "https", "file", "local")  # schemes of fsspec's that are no stores, or this disk
_lock = threading.RLock()  # checkpoints are uploaded while training writes its log


class Seen(NamedTuple):
    """A file as it was when both sides were alike: size and time on this disk, and what the store said of it."""

    here: tuple[int, int]
    there: str | None  # None: it went up, and the store was not asked since


def local_path(path: str | Path) -> Path:
    """Where a path is on this disk: itself, or a URL's mirror, fetched the first time.

    Raises:
        InputError: the scheme is none that a path can have, its package is missing, or the store cannot be read.
    """
    match = _URL.match(str(path))
    if match is None or not _is_scheme(match[1], match[2]):
        return Path(path)
    scheme, slash, rest = match[1], match[2], match[3].rstrip("/")
    if scheme in _NO_STORES or not slash:
        raise InputError(f"{path} is no path", hint="name a local path, or a store's as scheme://bucket/name")
    if not rest or set(rest.split("/")) & {"", ".", ".."} or "\0" in rest:
        raise InputError(f"{path} names no place in a store", hint="scheme://bucket/name, without . and ..")
    mirror = _root() / scheme / rest
    if mirror not in _entered:
        fetch(mirror)
        _entered.add(mirror)
    return mirror


def localised(word: str) -> str:
    """A word of a command line with the URL in it, if there is one, replaced by its mirror: URL, --NAME=URL, NAME=URL.

    >>> localised("--pairs=pairs.tsv"), localised("--server_url=http://127.0.0.1:8000/v1")
    ('--pairs=pairs.tsv', '--server_url=http://127.0.0.1:8000/v1')
    """
    match = _WORD.fullmatch(word)
    return f"{match[1]}{local_path(match[2])}" if match else word


def named(text: str) -> str:
    """A text with mirrors called by their URLs."""
    if not _made:
        return text
    return re.sub(rf"{re.escape(str(_root()))}/([^/\s]+)/", r"\1://", text)


def is_mirror(path: Path) -> bool:
    """Whether a path stands for one in a store."""
    return bool(_made) and path.is_relative_to(_root()) and path != _root()


def fetch(path: Path) -> None:
    """Makes a mirror what the store has now: new and changed files come, those that went there go here too.

    Raises:
        InputError: the store cannot be read.
    """
    if not is_mirror(path):
        return
    with _lock, store_errors_named(path):
        store, key = opened(path)
        found = _complete(_listed(store, key, path))
        stale = {file: info for file, info in found.items() if _is_stale(file, info)}
        _download(store, {file: info["name"] for file, info in stale.items()})
        for file, info in stale.items():
            _note_fetched(file, _version(info))
        for file in [file for file in _seen if _is_in(file, path) and file not in found]:
            file.unlink(missing_ok=True)
            del _seen[file]


def push(path: Path, *, every: float = 0.0) -> None:
    """Uploads a file, or what changed in a folder; nothing if `path` is no mirror, or went up less than `every` s ago.

    In a folder, subfolders go first: a new one counts as absent until all of it is there, as one that goes.

    Raises:
        InputError: it cannot be written there, or another process took this one for dead and writes there.
    """
    if not is_mirror(path) or time.monotonic() - _pushed.get(path, -every) < every:
        return
    with _lock, store_errors_named(path):
        _check_guards()
        if path.is_dir():
            _push_folder(path)
        else:
            _upload(*opened(path), path, [path])
        _pushed[path] = time.monotonic()


def push_whole(folder: Path) -> None:
    """Uploads a folder in the place of all that is there, whole or not at all.

    Raises:
        InputError: as `push`.
    """
    if is_mirror(folder):
        with _lock, store_errors_named(folder):
            _check_guards()
            _replace(folder)


def remove(path: Path) -> None:
    """Deletes a file if it is there, in the store too.

    Raises:
        InputError: the store cannot be written.
    """
    path.unlink(missing_ok=True)
    if is_mirror(path):
        with _lock, store_errors_named(path):
            store, key = opened(path)
            _delete(store, {path: key} if store.exists(key) else {})


def opened(path: Path) -> tuple[Any, str]:
    """The fsspec file system that a mirror stands for, and the path's key in it."""
    url = named(str(path))
    fsspec = require("fsspec", "storage")
    try:
        store, key = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        problem = f"this needs a package: {' '.join(str(error).split())}"
        raise InputError(problem, path=url, hint="pip install 'exaranker[storage]'") from error
    return store, key


@contextmanager
def store_errors_named(path: Path) -> Iterator[None]:
    """Turns whatever a store's client raises, each in its own way, into one line.

    Raises:
        InputError: the block raised an exception.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = redacted(" ".join(str(error).split())[:200])
        hint = "check bucket, endpoint and credentials, and run the same command again"
        raise InputError(f"{type(error).__name__}: {reason}", path=named(str(path)), hint=hint) from error


guards: list[Callable[[], None]] = []  # raise an InputError when this process may not upload any more
_made: list[Path] = []  # the root, once there is one
_entered: set[Path] = set()
_seen: dict[Path, Seen] = {}
_pushed: dict[Path, float] = {}


def _check_guards() -> None:
    for guard in guards:
        guard()


def _root() -> Path:
    """The folder of this process's mirrors: ROOT/scheme/bucket/name."""
    if not _made:
        given = os.environ.get("EXARANKER_CACHE")
        home = Path(os.path.realpath(given or Path.home() / ".cache" / "exaranker")) / "mirrors"
        home.mkdir(parents=True, exist_ok=True)
        for lock in home.glob("*.lock"):
            with suppress(InputError), hold(lock, lock):
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
        root, held = home / uuid4().hex, ExitStack()
        held.enter_context(hold(root.with_suffix(".lock"), root))
        root.mkdir()
        _made.append(root)
        atexit.register(_clear, root, held, os.getpid())
    return _made[0]


def _clear(root: Path, held: ExitStack, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(root, ignore_errors=True)
        held.close()


@cache
def _is_scheme(scheme: str, slash: str) -> bool:
    """Whether `scheme:/...` is a URL: any with two slashes, one with a single slash if there is such a store."""
    if slash:
        known = scheme in _schemes()
        if not known:
            raise InputError(f"no store is called {scheme}://", hint="s3://, gs://, or another that fsspec knows")
        return known
    return scheme in ("s3", "gs", "gcs", "http", "https", "file")


def _schemes() -> Iterable[str]:
    return require("fsspec", "storage").available_protocols()


def _listed(store: Any, key: str, path: Path) -> dict[Path, Mapping[str, Any]]:
    """What the store has under a key, by mirror: the key's own file, or all files below it."""
    found: dict[Path, Mapping[str, Any]] = {}
    for name, info in store.find(key, detail=True).items():
        below = name[len(key) :].strip("/")
        if set(below.split("/")) & {".", ".."}:
            raise InputError(f"the store has a name that no folder can have: {name!r}", path=named(str(path)))
        if info["type"] == "file" and not name.endswith("/") and not _UNFINISHED.search(name):
            found[path / below if below else path] = {**info, "name": name}
    return found


def _complete(found: Mapping[Path, Any]) -> dict[Path, Any]:
    incomplete = {file.parent for file in found if file.name == INCOMPLETE}
    return {file: info for file, info in found.items() if not incomplete & set(file.parents)}


def _is_stale(file: Path, info: Mapping[str, Any]) -> bool:
    seen = _seen.get(file)
    return seen is None or seen.there != _version(info)


def _version(info: Mapping[str, Any]) -> str:
    """Which bytes an object holds, as its store tells: by sum, generation or time."""
    names = ("size", "ETag", "etag", "md5Hash", "content_settings", "generation", "mtime", "LastModified", "created")
    return sha256(repr([str(info.get(name)) for name in names]).encode()).hexdigest()


def _download(store: Any, keys: Mapping[Path, str]) -> None:
    for file in keys:
        file.parent.mkdir(parents=True, exist_ok=True)
    if keys:
        store.get(list(keys.values()), [str(file) for file in keys])


def _note_fetched(file: Path, version: str) -> None:
    """Its time on this disk stands for its version: jobs that know their inputs by size and time know it again."""
    stamp = int(version[:14], 16)  # ns, below 2^56
    os.utime(file, ns=(stamp, stamp))
    _seen[file] = Seen(_stamp(file), version)


def _push_folder(folder: Path) -> None:
    changed = [file for file in _files(folder) if file not in _seen or _seen[file].here != _stamp(file)]
    gone = [file for file in _seen if _is_in(file, folder) and not file.exists()]
    parts = {folder / file.relative_to(folder).parts[0] for file in (*changed, *gone)}
    # What comes before what goes, and of that the folders first: there is a whole checkpoint at every moment.
    for part in sorted(parts, key=lambda part: (not part.exists(), part.is_file(), part.name)):
        lost = [file for file in gone if _is_in(file, part)]
        is_new = part.is_dir() and not any(_is_in(file, part) for file in _seen)
        if part in _seen and not part.exists():
            remove(part)
        elif is_new or lost:
            _replace(part)
        else:
            _upload(*opened(part), part, [file for file in changed if _is_in(file, part)])


def _replace(part: Path) -> None:
    """Makes what the store has under a folder, or under one that is gone, what is here; absent until it is."""
    store, key = opened(part)
    files = _files(part)
    keys = {f"{key}/{file.relative_to(part)}" for file in files}
    store.pipe_file(f"{key}/{INCOMPLETE}", b"")
    _upload(store, key, part, files)
    there = {file: info["name"] for file, info in _listed(store, key, part).items()}
    _delete(store, {file: name for file, name in there.items() if name not in keys and file.name != INCOMPLETE})
    for file in [file for file in _seen if _is_in(file, part) and not file.exists()]:
        del _seen[file]
    _delete(store, {part / INCOMPLETE: f"{key}/{INCOMPLETE}"})


def _upload(store: Any, key: str, part: Path, files: list[Path]) -> None:
    """Files at or below `part`, whose key is `key`."""
    stamps = {file: _stamp(file) for file in files}
    if files:
        below = [file.relative_to(part).as_posix() for file in files]
        keys = [key if name == "." else f"{key}/{name}" for name in below]
        store.put([str(file) for file in files], keys)
    _seen.update({file: Seen(stamp, None) for file, stamp in stamps.items()})


def _delete(store: Any, keys: Mapping[Path, str]) -> None:
    for file, key in keys.items():
        store.rm_file(key)
        _seen.pop(file, None)


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not _UNFINISHED.search(str(path))]


def _is_in(file: Path, place: Path) -> bool:
    return file == place or place in file.parents


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns
