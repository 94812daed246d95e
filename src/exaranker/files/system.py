"""Errors of the operating system as one line: which path, what the system says, what to do."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exaranker.errors import InputError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REMEDIES = {
    errno.EACCES: "ask for the right to use it, or name another place",
    errno.EPERM: "ask for the right to use it, or name another place",
    errno.EROFS: "this disk is read-only: name a place on another one",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a part of this path is a file, expected a folder",
    errno.EEXIST: "a file is in the way: move it, or name another place",
    errno.EISDIR: "this is a folder, expected a file",
    errno.ENOENT: "check the path",
    errno.ELOOP: "symbolic links that point at each other: check them with ls -l",
    errno.EMFILE: "this process may open no more files: raise the limit with ulimit -n",
    errno.ENFILE: "this machine has too many open files: close some",
    errno.EIO: "the disk or the network behind it failed: check it, and run the same command again",
    errno.ESTALE: "the network file system changed under us: run the same command again",
    errno.EBUSY: "it is in use or a mount point: name a folder in it",
    errno.EXDEV: "it is a mount point: name a folder in it",
}


def system_error(error: OSError, path: str | Path | None = None) -> InputError:
    """An OSError as a line that names `path`, or the path that the system named.

    >>> str(system_error(OSError(errno.EROFS, "Read-only file system"), "/cdrom/run.trec"))
    '/cdrom/run.trec: Read-only file system (this disk is read-only: name a place on another one)'
    """
    path = path if error.filename is None else os.fsdecode(error.filename)
    if error.errno in NO_SPACE and path is not None:
        problem = f"no space left to write {Path(path).name}: {error.strerror}"
        return InputError(problem, path=Path(path).parent, hint="free some and run the same command again")
    reason = error.strerror or str(error) or type(error).__name__
    return InputError(reason, path=path, hint=REMEDIES.get(error.errno or 0, ""))


@contextmanager
def system_errors_named(path: str | Path, *own: Path) -> Iterator[None]:
    """Turns every OSError of the block into a line that names `path`, or another file that the system named.

    `own` are files that stand for `path` while it is written.

    Raises:
        InputError: the block raised an OSError.
    """
    try:
        yield
    except ConnectionError:  # the reader of stdout has gone, or a server: no error of a file
        raise
    except OSError as error:
        if error.errno is None:
            raise
        if error.filename is not None and Path(os.fsdecode(error.filename)) in own:
            error.filename = None
        if error.filename is None or error.errno in NO_SPACE:
            raise system_error(_unnamed(error), path) from error
        raise system_error(error) from error


def _unnamed(error: OSError) -> OSError:
    return OSError(error.errno, error.strerror or str(error))
