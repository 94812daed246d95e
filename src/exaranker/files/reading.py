"""Inputs: opened by their suffix, read strictly, named in every error."""

import codecs
import gzip
import hashlib
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import yaml

from exaranker.errors import InputError
from exaranker.files.encodings import not_text, not_utf8
from exaranker.files.json_shape import parse_json
from exaranker.files.mirror import local_path
from exaranker.files.system import system_error, system_errors_named

MERGE = "tag:yaml.org,2002:merge"  # `<<: *other`


class _DistinctKeys:
    """Beside a YAML loader: of a key given twice it would take the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        loader: Any = super()
        seen: list[Any] = []
        for key_node, _ in node.value:
            if key_node.tag == MERGE:
                continue
            key = loader.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} comes twice", problem_mark=key_node.start_mark)
            seen.append(key)
        return loader.construct_mapping(node, deep)


class _Values(_DistinctKeys, yaml.SafeLoader):
    pass


class _Texts(_DistinctKeys, yaml.BaseLoader):
    pass


def read_json(path: str | Path) -> Any:
    """Reads a JSON file.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    with open_input(path) as stream:
        contents = b"".join(_raw_lines(stream, path))
    return parse_json(contents.removeprefix(codecs.BOM_UTF8), path=path)


def read_yaml(path: str | Path, scalars: Literal["values", "texts"] = "values") -> Any:
    """Reads a YAML file, of plain values only; as "texts", a bare yes, true or 1 is the word that it seems.

    Raises:
        InputError: the file is missing, is not YAML, or has a key twice in one mapping; names the line.
    """
    text = "\n".join(line for _, line in read_lines(path))
    try:
        return yaml.load(text, _Values if scalars == "values" else _Texts)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InputError(f"not valid YAML: {error.problem}", path=path, line=mark.line + 1 if mark else None) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise InputError(f"not valid YAML: {' '.join(str(error).split())}", path=path) from error
    except RecursionError as error:
        raise InputError("this YAML is nested too deeply", path=path) from error


def open_input(path: str | Path) -> BinaryIO:
    """Opens a file for reading bytes, gunzipping `*.gz`.

    Raises:
        InputError: there is no such file, it is empty, it cannot be read, or it is compressed or encoded otherwise
            than its name says; names the command that mends it.
    """
    with system_errors_named(path):
        file = whole_file(path)
        if file.stat().st_size == 0:
            raise InputError("the file is empty", path=path)
        if Path(path).suffix == ".gz":
            return gzip.open(file, "rb")  # type: ignore[return-value]
        with file.open("rb") as stream:
            if reason := not_text(stream.read(64), path):
                raise InputError(reason.problem, path=path, hint=reason.remedy)
        return file.open("rb")


def whole_file(path: str | Path) -> Path:
    """The regular file behind a path; what comes through a pipe is kept in a temporary file until the process ends.

    Raises:
        InputError: there is no such file, or it is a folder or a device.
    """
    real = local_path(path).expanduser()
    if not real.exists():
        raise InputError("no such file", path=path, hint=_missing_remedy(path))
    if real.is_dir():
        raise InputError("is a folder, expected a file", path=path, hint="check the path")
    if stat.S_ISFIFO(real.stat().st_mode):
        return _spooled(real)
    if not real.is_file():
        raise InputError("is a device, expected a file", path=path, hint="check the path")
    return real


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
            yield number, _decoded(raw, path, number).rstrip("\r\n")
    if number == 0:  # gzip's own header is not content
        raise InputError("the file is empty", path=path)


def blank_line_hint(line: str) -> str:
    """The remedy for a line that does not parse because nothing is on it."""
    return "" if line.strip() else "remove this blank line"


def sha256_file(path: str | Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    with system_errors_named(path), whole_file(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _decoded(raw: bytes, path: str | Path, number: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = not_utf8(error)
        raise InputError(reason.problem, path=path, line=number, hint=reason.remedy) from error


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
    except OSError as error:
        raise system_error(error, path) from error


_spools: dict[tuple[str, int, int], Any] = {}  # temporary files, deleted when the process ends


def _spooled(pipe: Path) -> Path:
    """A pipe can be read once, an input is read for its rows, for its digest and for the line of an error."""
    status = pipe.stat()
    key = str(pipe), status.st_dev, status.st_ino
    if key not in _spools:
        _spools[key] = tempfile.NamedTemporaryFile(prefix="exaranker-pipe-")  # noqa: SIM115
        with pipe.open("rb") as stream:
            shutil.copyfileobj(stream, _spools[key])
        _spools[key].flush()
    return Path(_spools[key].name)


def _missing_remedy(path: str | Path) -> str:
    if str(path).startswith(("/dev/fd/", "/proc/self/fd/")):
        return "this process has no such descriptor: a shell's <(...) is not passed on by sudo or a script"
    return "check the path"
