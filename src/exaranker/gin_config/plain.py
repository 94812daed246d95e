"""Gin's errors in plain words: file, line, what was read, what to write instead."""

import re
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

from exaranker.errors import InputError, nearest
from exaranker.files.shipped import shipped
from exaranker.gin_config.t5x import instead_of
from exaranker.moved import FORMER_GIN_FILES

# What gin, its parser and Python raise while statements are read.
GIN_ERRORS = (OSError, ValueError, SyntaxError, AttributeError, ImportError, TypeError, RuntimeError, RecursionError)
_PLACE = re.compile(r'In (?:file "(?P<path>[^"]+)",|bindings string) line (?P<line>\d+)\s*(?P<text>.*)')
_SPELLINGS = {"true": "True", "false": "False", "none": "None", "null": "None"}


class Place(NamedTuple):
    """The statement at fault; on the command line it has no path."""

    path: str | None
    line: int | None
    text: str


def plain(error: BaseException, file: str | None, binding: str, folders: Iterable[str]) -> InputError:
    """The error for a file that is being parsed or, without one, for a binding."""
    message = " ".join(str(error).split())
    place = _place(error, file, binding)
    problem, hint = _explained(error, message, place, folders)
    if place.path is None:
        return InputError(f"--gin.{binding}: {problem}" if binding else problem, hint=hint)
    return InputError(problem, path=place.path, line=place.line, hint=hint)


def _place(error: BaseException, file: str | None, binding: str) -> Place:
    if isinstance(error, SyntaxError):
        return Place(file and (error.filename or file), error.lineno, (error.text or binding).strip())
    if match := _PLACE.search(str(error)):
        return Place(file and (match["path"] or file), int(match["line"]), match["text"].strip())
    return Place(file, None, binding)


def _explained(error: BaseException, message: str, place: Place, folders: Iterable[str]) -> tuple[str, str]:
    """(what is wrong, what to do)."""
    for pattern, explain in _KINDS:
        if match := re.search(pattern, message):
            return explain(match, place, folders)
    if isinstance(error, RecursionError):
        return "the file includes itself", ""
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8 text", "a gin file is plain text"
    if isinstance(error, SyntaxError) and isinstance(error.msg, str):
        return f"cannot be read: {place.text!r}", "a statement is NAME = VALUE or include 'FILE'"
    return _PLACE.split(message)[0].strip(), ""


def _unquoted(match: re.Match[str], place: Place, folders: Iterable[str]) -> tuple[str, str]:
    name, _, value = (part.strip() for part in place.text.partition("="))
    token = match[1]
    if token in _SPELLINGS:
        return f"{token} is no value", f"write {_SPELLINGS[token]}"
    if not name.replace("_", "").replace(".", "").isalnum() or value[:1] in ("(", "[", "{"):
        return f"{token} is no value", f"a text needs quotes: '{token}'"
    quoted = f"{name} = '{value}'" if place.path else f"--gin.{name}=\"'{value}'\""
    return f"{value} is no value", f"a text needs quotes: {quoted}"


def _no_value(match: re.Match[str], place: Place, folders: Iterable[str]) -> tuple[str, str]:
    name = place.text.partition("=")[0].strip()
    return f"{name} has no value", "a number, True, False, None, 'text', %MACRO or @configurable()"


def _no_file(match: re.Match[str], place: Place, folders: Iterable[str]) -> tuple[str, str]:
    name = match[1]
    if Path(name).is_dir():
        return f"{name} is a folder, expected a gin file", ""
    if new := FORMER_GIN_FILES.get(name.removeprefix("gin/")):
        return f"no gin file {name}", f"it is {new} now"
    known = (path.relative_to(shipped("gin")) for path in shipped("gin").rglob("*.gin"))
    close = nearest(name, map(str, known))
    looked = ", ".join(("this folder", *dict.fromkeys(folders)))
    return f"no gin file {name}", close if close.startswith("did") else f"looked in {looked}"


def _no_configurable(match: re.Match[str], place: Place, folders: Iterable[str]) -> tuple[str, str]:
    name = match[1]
    hint = instead_of(place.text.partition("=")[0].strip()) or nearest(name.rpartition(".")[2], _configurables())
    return f"there is no {name}", hint


def _no_parameter(match: re.Match[str], place: Place, folders: Iterable[str]) -> tuple[str, str]:
    kind, parameter = match[1], match[2]
    import gin

    configurable = gin.get_configurable(kind)
    known = [field.name for field in fields(configurable)] if is_dataclass(configurable) else []
    return f"{kind} has no parameter {parameter}", instead_of(f"{kind}.{parameter}") or nearest(parameter, known)


def _configurables() -> list[str]:
    """The names that gin files may bind, as short as they can be."""
    import gin

    registry = gin.config._REGISTRY
    return [registry.minimal_selector(name) for name, _ in registry.items() if not name.startswith("gin.")]


def _no_module(match: re.Match[str], place: Place, folders: Iterable[str]) -> tuple[str, str]:
    module = match[1]
    if module.partition(".")[0] in ("t5x", "t5"):
        return f"there is no module {module}", "T5X's names and ours: docs/upstream_t5x.md"
    return f"there is no module {module}", "check its name, or add its folder to PYTHONPATH"


def _no_name(match: re.Match[str], place: Place, folders: Iterable[str]) -> tuple[str, str]:
    return f"{match[2]} has no {match[1]}", "check the import's name"


def _not_set(match: re.Match[str], place: Place, folders: Iterable[str]) -> tuple[str, str]:
    return f"{match[1]} is not set", f"add --gin.{match[1]}=VALUE; a text needs quotes: --gin.{match[1]}=\"'TEXT'\""


def _not_bound(match: re.Match[str], place: Place, folders: Iterable[str]) -> tuple[str, str]:
    included = "include a models/FAMILY/SIZE.gin" if match[1] == "MODEL" else f"add --gin.{match[1]}=VALUE"
    return f"{match[1]} is read but not set", included


_KINDS: tuple[tuple[str, Any], ...] = (
    (r"malformed node .*Failed to parse token '(.*?)' \(", _unquoted),
    (r"Unable to parse value", _no_value),
    (r"EOF in multi-line statement", lambda *_: ("ends within a value", "close its brackets")),
    (r"Unable to open file: (.*?)\. Searched config paths", _no_file),
    (r"No configurable matching(?: reference)? '@?(.*?)(?:\(\))?'", _no_configurable),
    (r"Configurable '(.*?)' doesn't have a parameter named '(.*?)'", _no_parameter),
    (r"No module named '(.*?)'", _no_module),
    (r"cannot import name '(.*?)' from '(.*?)'", _no_name),
    (r"(\w+)/macro\.value set to `%gin\.REQUIRED`", _not_set),
    (r"No bindings specified for '(.*?)/gin\.macro'", _not_bound),
)
