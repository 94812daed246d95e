"""Macros that gin files and bindings set and read: gin itself takes a mistyped one for a new one and says nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from exaranker.errors import InputError, nearest, require
from exaranker.files.shipped import shipped
from exaranker.gin_config.t5x import instead_of


class Read(NamedTuple):
    """A `%NAME` in a value."""

    name: str


class Definition(NamedTuple):
    """A macro, or the `selector.parameter`, that a line sets; `path` is empty on the command line."""

    name: str
    value: Any
    path: Path | None
    line: int


class Statements(NamedTuple):
    """What all files and bindings say, in order."""

    definitions: list[Definition]
    read: set[str]  # macros

    def last(self, name: str) -> Definition | None:
        """Where a macro got its value: if that is another macro's, where that one did."""
        found = next((one for one in reversed(self.definitions) if one.name == name), None)
        if found is not None and isinstance(found.value, Read):
            return self.last(found.value.name) or found
        return found


def statements(files: Sequence[str], bindings: Sequence[str], folders: Sequence[str]) -> Statements:
    """Reads files, what they include, and bindings, all of which gin has parsed already."""
    found = Statements([], set())
    for file in files:
        _read_file(file, folders, found)
    for binding in bindings:
        _read(binding, None, folders, found)
    return found


def require_known(found: Statements) -> None:
    """Refuses macros that are set but not read; packaged files may set more than a run needs.

    Raises:
        InputError: there is one; the nearest names are offered.
    """
    own = {str(shipped("gin")), str(shipped("t5x_configs"))}
    packaged = {one.name for one in found.definitions if one.path and own & set(map(str, one.path.parents))}
    unknown = [one for one in found.definitions if _is_macro(one) and one.name not in found.read | packaged]
    if unknown:
        raise _error(list({one.name: one for one in unknown}.values()), found.read | packaged)


def find_file(name: str, folders: Sequence[str]) -> Path | None:
    """The file that gin opens under a name: as it is, else in the first of the folders that has it."""
    candidates = (Path(folder, name) for folder in ("", *folders))
    return next((path for path in candidates if path.is_file()), None)


def _read_file(name: str, folders: Sequence[str], found: Statements) -> None:
    path = find_file(name, folders)
    assert path is not None  # gin has opened it
    _read(path.read_text(encoding="utf-8"), path, folders, found)


def _read(text: str, path: Path | None, folders: Sequence[str], found: Statements) -> None:
    parser: Any = require("gin.config_parser", "train")

    class Delegate(parser.ParserDelegate):  # type: ignore[misc]
        def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> None:
            return None

        def macro(self, name: str) -> Read:
            found.read.add(name)
            return Read(name)

    for statement in parser.ConfigParser(text, Delegate()):
        if isinstance(statement, parser.IncludeStatement):
            _read_file(statement.filename, folders, found)
        elif isinstance(statement, parser.BindingStatement):
            name = ".".join(filter(None, (statement.selector, statement.arg_name)))
            place = path and path.resolve()
            found.definitions.append(Definition(name, statement.value, place, statement.location.line_num))


def _is_macro(definition: Definition) -> bool:
    return "." not in definition.name


def _error(unknown: Sequence[Definition], known: set[str]) -> InputError:
    first, *others = unknown
    also = "".join(f"; {one.name}: {_hint(one.name, known)}" for one in others)
    shown = first.name if first.path else f"--gin.{first.name}"
    problem = f"{shown}: nothing reads a macro of this name"
    where = {"path": first.path, "line": first.line} if first.path else {}
    return InputError(problem, hint=_hint(first.name, known) + also, **where)  # type: ignore[arg-type]


def _hint(name: str, known: set[str]) -> str:
    return instead_of(name) or nearest(name, known)
