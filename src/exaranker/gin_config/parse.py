"""One way from gin's files and words to a configuration, for every verb that gin drives."""

import argparse
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import cache
from tokenize import TokenError
from typing import Any, Generic, NamedTuple, TypeVar

from exaranker.errors import InputError, require
from exaranker.files import local_path, localised
from exaranker.files.shipped import shipped
from exaranker.gin_config.macros import Statements, require_known, statements
from exaranker.gin_config.plain import GIN_ERRORS, plain

Config = TypeVar("Config")


class Configured(NamedTuple, Generic[Config]):
    """A configuration, and the gin text that would build it again."""

    config: Config
    text: str


def configure(
    kind: type[Config], args: argparse.Namespace, *, first: str = "", names: Mapping[str, type] | None = None
) -> Configured[Config]:
    """Builds what a verb's `--gin_file`, `--gin.NAME=VALUE` and `--gin_search_paths` say, after the file `first`.

    Raises:
        InputError: as `parse_gin` and `build`.
    """
    files = [first, *args.gin_file] if first else args.gin_file
    return build(kind, parse_gin(files, args.gin_bindings, args.gin_search_paths, names))


def parse_gin(
    files: Sequence[str],
    bindings: Sequence[str] = (),
    search_paths: str = "gin",
    names: Mapping[str, type] | None = None,
) -> Statements:
    """Parses files, then bindings (which win), as T5X does; an earlier call's are forgotten.

    `names` are those of configurables that files name without importing them.

    Raises:
        InputError: a file is not found, a statement cannot be read, nothing reads a macro, or one that must be set is
            not.
    """
    gin: Any = require("gin", "train")
    folders = _search_path(search_paths)
    gin.clear_config()
    for name, configurable in (names or {}).items():
        _register(name, configurable)
    gin.config._LOCATION_PREFIXES[:] = ["", *folders]  # gin only adds to them: an earlier call's would come first
    with _quiet():
        _parse(gin, files, bindings, folders)
        found = statements(files, bindings, folders)
        require_known(found)
        try:
            gin.finalize()
        except GIN_ERRORS as error:
            raise plain(error, None, "", folders) from error
    return found


def build(kind: type[Config], found: Statements) -> Configured[Config]:
    """Builds a configuration of what was parsed last.

    Raises:
        InputError: a value is refused.
    """
    gin: Any = require("gin", "train")
    try:
        return Configured(_localised(gin.get_configurable(kind)()), gin.operative_config_str())
    except InputError as error:
        raise _located(str(error).partition("\n  In call to")[0], found) from error
    except GIN_ERRORS as error:
        raise InputError(" ".join(str(error).split())) from error


def _localised(value: Any) -> Any:
    """A configuration with the mirrors of its URLs and its `~` expanded; its gin text keeps them as they are."""
    if isinstance(value, str):
        return os.path.expanduser(value) if value.startswith("~/") else localised(value)
    if isinstance(value, tuple):
        return tuple(map(_localised, value)) if type(value) is tuple else value
    if not is_dataclass(value) or isinstance(value, type):
        return value
    before = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
    after = {name: _localised(inner) for name, inner in before.items()}
    return value if after == before else replace(value, **after)


def _parse(gin: Any, files: Sequence[str], bindings: Sequence[str], folders: Sequence[str]) -> None:
    for file in files:
        try:
            gin.parse_config_file(file)
        except (*GIN_ERRORS, TokenError) as error:
            raise plain(error, file, "", folders) from error
    for binding in bindings:
        try:
            gin.parse_config(binding)
        except (*GIN_ERRORS, TokenError) as error:
            raise plain(error, None, binding, folders) from error


def _located(message: str, found: Statements) -> InputError:
    """The error of a value with the file and the line that it comes from."""
    name = message.partition(" ")[0]
    definition = found.last(name)
    if definition is None or not message.startswith(f"{name} is {definition.value!r}"):
        return InputError(message)  # of no one line, or bound under the parameter's own name
    problem = message.replace(name, definition.name, 1)
    if definition.path is None:
        return InputError(problem)
    return InputError(problem, path=definition.path, line=definition.line)


@cache
def _register(name: str, configurable: type) -> None:
    require("gin", "train").external_configurable(configurable, name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Gin logs an error for each folder it looks in before the right one."""
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _search_path(search_paths: str) -> list[str]:
    given = [str(local_path(part)) for part in search_paths.split(",") if part]
    gin = shipped("gin")
    return [*given, str(gin), str(gin.parent)]
