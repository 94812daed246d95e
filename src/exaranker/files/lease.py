"""One writer holds a place in a store: an object that only one process can create, and that its owner must renew.

No kernel lets go of it when its owner dies: it ends LEASE seconds after it was last renewed, or at once if the owner
was a process of this machine that is no more.
"""

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from exaranker.errors import InputError
from exaranker.files.locks import holder
from exaranker.files.mirror import guards, is_mirror, named, opened, store_errors_named

LEASE = 120.0  # seconds; three renewals may fail
SETTLE = 1.0  # seconds in which two that take over one dead owner's lock overwrite each other


@contextmanager
def lease(lock: Path, output: Path, option: str = "output") -> Iterator[None]:
    """Holds the lock object of an output in a store until the block ends; does nothing for one on this disk.

    Raises:
        InputError: another process holds it (names it and when it ends), or lost it to another one meanwhile.
    """
    if not is_mirror(output):
        yield
        return
    with store_errors_named(output):
        held = _Lease(lock, output, option)
    renewing = threading.Thread(target=held.renew, name="lease", daemon=True)
    renewing.start()
    guards.append(held.check)
    try:
        yield
        held.check()
    finally:
        guards.remove(held.check)
        held.ended.set()
        if os.getpid() == held.pid:  # not in a forked child
            renewing.join()
            held.release()


class _Lease:
    """A lock object of ours."""

    def __init__(self, lock: Path, output: Path, option: str):
        self.ended, self.pid, self._output = threading.Event(), os.getpid(), output
        self._store, self._key = opened(lock)
        self._token = uuid4().hex
        try:
            self._store.pipe_file(self._key, self._contents(), mode="create")
        except FileExistsError:
            self._take_over(option)
        self._until = time.monotonic() + LEASE

    def renew(self) -> None:
        """Until the block ends; what fails is tried again, until the lock has ended."""
        while not self.ended.wait(LEASE / 4):
            with suppress(Exception):  # the network's; `check` says so once it lasts too long
                if not self._is_ours():
                    return
                self._store.pipe_file(self._key, self._contents())
                self._until = time.monotonic() + LEASE

    def check(self) -> None:
        """Whether nobody else can have written meanwhile.

        Raises:
            InputError: the lock ended, or another process has taken it.
        """
        if time.monotonic() > self._until:
            problem = "this process could not renew its lock here, and another may have written meanwhile"
            raise InputError(problem, path=named(str(self._output)), hint="run the same command again")

    def release(self) -> None:
        with suppress(Exception):  # it ends by itself
            if self._is_ours():
                self._store.rm_file(self._key)

    def _take_over(self, option: str) -> None:
        other = self._read()
        if other and not _is_dead(other):
            until = time.strftime("%H:%M:%SZ", time.gmtime(other.get("until", 0)))
            shown = {name: other.get(name) for name in holder()}
            problem = f"another process is writing here: {json.dumps(shown)}"
            hint = f"wait for it, or give another {option}; if it is dead, its lock ends at {until}"
            raise InputError(problem, path=named(str(self._output)), hint=hint)
        self._store.pipe_file(self._key, self._contents())
        time.sleep(SETTLE)
        if not self._is_ours():
            problem = "another process was faster to take over from one that died"
            raise InputError(problem, path=named(str(self._output)), hint="wait for it")

    def _is_ours(self) -> bool:
        return self._read().get("token") == self._token

    def _read(self) -> Mapping[str, Any]:
        try:
            value = json.loads(self._store.cat_file(self._key))
        except (FileNotFoundError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def _contents(self) -> bytes:
        own = {**holder(), "machine": _machine(), "token": self._token, "until": time.time() + LEASE}
        return json.dumps(own).encode()


def _is_dead(other: Mapping[str, Any]) -> bool:
    if other.get("machine") == _machine():
        return not Path(f"/proc/{other.get('pid')}").exists()
    return not isinstance(other.get("until"), int | float) or time.time() > other["until"]


def _machine() -> str:
    """Where a process id means one process: this boot of this machine, and this container's own processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return uuid4().hex
