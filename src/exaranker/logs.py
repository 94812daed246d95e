"""What a user sees while a verb works: answers on stdout, messages and progress on stderr, nothing of the libraries'.

With `--log_format json` each line of both streams is one JSON object; `--quiet` leaves answers, warnings and errors.
"""

import importlib.abc
import importlib.machinery
import io
import json
import logging
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TextIO

# What a reader does not see: zero-width characters hide a marker from a filter and tag characters carry hidden text
# (both are removed); overrides of the writing direction change what is seen (blanks, as control characters are).
# Joiners and direction marks that Persian, Indic scripts and emoji need are kept.
_INVISIBLE = re.compile("[\u00ad\u200b\u2060-\u2064\ufeff\U000e0000-\U000e007f]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

# Levels of libraries that print while they start; what the user has set is left.
_QUIET_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GRPC_VERBOSITY": "ERROR",
    "GLOG_minloglevel": "2",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


@dataclass(frozen=True)
class LogStyle:
    """How messages are shown; `verb` stands in each JSON line."""

    verb: str = ""
    quiet: bool = False
    verbose: bool = False
    json: bool = False


_style = LogStyle()


_wording: Callable[[str], str] = str


def configure(style: LogStyle, wording: Callable[[str], str] = str) -> None:
    """Sets how this process shows messages, and silences the libraries unless the user wants to hear them.

    `wording` is what turns a message into the user's words.
    """
    global _style, _wording
    _style, _wording = style, wording
    if not style.verbose:
        for name, value in _QUIET_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        if not any(isinstance(finder, _UnheardImport) for finder in sys.meta_path):
            sys.meta_path.insert(0, _UnheardImport())
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.INFO if style.verbose else logging.ERROR)
    if style.json:
        logging.captureWarnings(True)
        logging.basicConfig(handlers=[_JsonHandler()], force=True)


def show(answer: object) -> None:
    """Prints an answer: what the verb was run for."""
    _write(sys.stdout, "info", str(answer))


def say(message: str, **fields: Any) -> None:
    """Prints a message, such as progress; `fields` are its figures for programs that read JSON lines."""
    if not _style.quiet:
        _write(sys.stderr, "info", message, fields)


def warn(message: str) -> None:
    """Prints what a user should not miss, also under --quiet."""
    _write(sys.stderr, "warning", message)


def fail(program: str, message: str) -> None:
    """Prints an error as one line."""
    line = printable(message)
    _write(sys.stderr, "error", line if _style.json else f"{program}: error: {line}")


def progress(**options: Any) -> Any:
    """A tqdm bar of the whole job; under --log_format json a message every ten seconds, under --quiet nothing."""
    from tqdm import tqdm

    class JsonLines(tqdm):  # type: ignore[type-arg]
        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            state = self.format_dict
            say(str(self.desc), done=state["n"], total=state["total"], unit=state["unit"])

    if _style.json:
        return JsonLines(mininterval=10.0, disable=_style.quiet, file=io.StringIO(), **options)
    interval = 0.1 if sys.stderr.isatty() else 10.0  # seconds; a file keeps every state of a bar
    return tqdm(smoothing=0, mininterval=interval, disable=_style.quiet, **options)


def shows_bars() -> bool:
    """Whether there is a terminal on which a second bar can move."""
    return sys.stderr.isatty() and not _style.quiet and not _style.json


def is_verbose() -> bool:
    """Whether the user wants to hear the libraries."""
    return _style.verbose


def flags() -> list[str]:
    """The words that make another process of ours show messages in the same way."""
    words = {"--quiet": _style.quiet, "--verbose": _style.verbose, "--log_format=json": _style.json}
    return [word for word, given in words.items() if given]


def printable(text: str) -> str:
    r"""Control characters and direction overrides become blanks, invisible characters go.

    >>> printable("a\x1b[2Jb\u200bc")
    'a [2Jbc'
    """
    return _CONTROL.sub(" ", _INVISIBLE.sub("", text))


def printable_lines(text: str) -> str:
    r"""A text for a terminal: as `printable`, but its lines and tabs are kept.

    >>> printable_lines("a\tb\x1b]0;title\x07\nc")
    'a\tb ]0;title \nc'
    """
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def _write(stream: TextIO, level: str, message: str, fields: dict[str, Any] | None = None) -> None:
    message = _wording(message)
    if _style.json:
        record = {"time": _now(), "level": level, "verb": _style.verb, "message": message, **(fields or {})}
        print(json.dumps(record, default=str), file=stream, flush=True)
    else:
        print(printable_lines(message), file=stream, flush=True)


class _UnheardImport(importlib.abc.MetaPathFinder):
    """Imports TensorFlow without what its C++ parts print before any of its settings can silence them."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name == "tensorflow" else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def unheard(module: ModuleType) -> None:
                with _stderr_kept():
                    execute(module)

            spec.loader.exec_module = unheard  # type: ignore[method-assign]
        return spec


@contextmanager
def _stderr_kept() -> Iterator[None]:
    """Keeps what is written to descriptor 2, by any language, and prints it only if the block fails."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(terminal, kept.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class _JsonHandler(logging.Handler):
    """Lines of libraries that log by Python's own means."""

    def emit(self, record: logging.LogRecord) -> None:
        _write(sys.stderr, record.levelname.lower(), record.getMessage(), {"logger": record.name})
