"""One writer holds an output: an flock, which the kernel lets go of however its holder dies."""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from exaranker.errors import InputError
from exaranker.files.system import system_errors_named

# Some network file systems (Lustre without -o flock) have no locks: there, writers must keep apart by themselves.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

_held: dict[Path, TextIO] = {}


@contextmanager
def hold(lock: Path, output: Path, option: str = "output", *, wait: bool = False) -> Iterator[None]:
    """Holds the lock file of an output until the block ends, then removes it; with `wait`, once it is free.

    Raises:
        InputError: another writer holds it (names the process), or nothing can be written there.
    """
    stream = _acquire(lock, output, option, wait)
    _held[lock] = stream
    try:
        yield
    finally:
        if _held.pop(lock, None) is stream:  # not in a forked child
            lock.unlink(missing_ok=True)
            stream.close()


def is_held(lock: Path) -> bool:
    """Whether this process holds it."""
    return lock in _held


def holder() -> dict[str, Any]:
    """Which process this is, as the lock file says it to others."""
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": started}


def _acquire(lock: Path, output: Path, option: str, wait: bool) -> TextIO:
    with system_errors_named(output, lock):
        while True:
            stream = lock.open("a+", encoding="utf-8")
            try:
                _lock(stream, output, option, wait)
                if not _is_removed(stream, lock):
                    stream.truncate(0)
                    stream.write(json.dumps(holder()))
                    stream.flush()
                    return stream
            except BaseException:
                stream.close()
                raise
            stream.close()  # its last holder removed it between our open and our lock


def _lock(stream: TextIO, output: Path, option: str, wait: bool) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        stream.seek(0)
        problem = f"another process is writing here: {stream.read().strip() or 'unknown'}"
        raise InputError(problem, path=output, hint=f"wait for it, or give another {option}") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _is_removed(stream: TextIO, lock: Path) -> bool:
    try:
        return not os.path.samestat(os.fstat(stream.fileno()), lock.stat())
    except FileNotFoundError:
        return True


def _forget() -> None:
    """A forked child, such as a worker of vLLM, would keep the lock of a parent that is killed."""
    for stream in _held.values():
        stream.close()
    _held.clear()


os.register_at_fork(after_in_child=_forget)
