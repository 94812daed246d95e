"""Gin as T5X has it: the flags --gin_file, --gin.NAME=VALUE, --gin_search_paths, and what they configure."""

import argparse
import logging
import re
from collections.abc import Sequence
from tokenize import TokenError
from typing import Any, TypeVar

from exaranker.errors import InputError, nearest, require
from exaranker.shipped import shipped

Config = TypeVar("Config")


def add_gin_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Adds T5X's gin flags to a verb; `--gin.NAME=VALUE` words are collected by the console script."""
    parser.add_argument(
        "--gin_file", action="append", default=[], required=required, metavar="FILE", help="gin file; may be repeated"
    )
    parser.add_argument(
        "--gin_search_paths",
        default="gin",
        metavar="DIRS",
        help="comma-separated folders that includes are looked up in, before the packaged ones (default: gin)",
    )
    parser.add_argument_group(
        "gin bindings", "--gin.NAME=VALUE sets a macro or parameter, for example --gin.BATCH_SIZE=8"
    )


def parse_gin(gin_files: Sequence[str], bindings: Sequence[str], search_paths: str) -> None:
    """Clears gin and parses files, then bindings (which win), as T5X does.

    Raises:
        InputError: a file is not found, gin rejects a statement, or a binding sets a macro that nothing reads.
    """
    gin = require("gin", "train")
    gin.clear_config()
    for folder in _search_path(search_paths):
        gin.add_config_file_search_path(folder)
    logging.disable(logging.ERROR)  # gin logs an error for each folder it looks in before the right one
    try:
        gin.parse_config_files_and_bindings(list(gin_files), None, finalize_config=False)
        _require_macros(gin.config_str(), bindings)
        gin.parse_config(list(bindings))
        gin.finalize()
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, AttributeError, ImportError, TokenError) as error:
        files = ", ".join(gin_files) or "command line"
        raise InputError(" ".join(str(error).split()), path=files, hint=f"looked in: {search_paths}") from error
    finally:
        logging.disable(logging.NOTSET)


def configured(kind: type[Config]) -> tuple[Config, str]:
    """Builds an entry point's configuration, and gives the gin text that would build it again.

    Raises:
        InputError: a macro that must be set is not, or a value is refused.
    """
    gin: Any = require("gin", "train")
    try:
        config: Any = gin.get_configurable(kind)()
    except InputError:
        raise
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(_reason(error)) from error
    return config, gin.operative_config_str()


def _require_macros(config: str, bindings: Sequence[str]) -> None:
    """Gin takes a mistyped macro for a new one: BATCHSIZE=8 would change nothing and say nothing."""
    known = re.findall(r"^(\w+) *=", config, re.MULTILINE)
    for name in re.findall(r"^(\w+) *=", "\n".join(bindings), re.MULTILINE):
        if name not in known and not any(f"%{name}" in binding for binding in bindings):
            raise InputError(f"--gin.{name}: the gin files have no macro of this name", hint=nearest(name, known))


def _search_path(search_paths: str) -> list[str]:
    given = [part for part in search_paths.split(",") if part]
    gin = shipped("gin")
    return [*given, str(gin), str(gin.parent)]


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())
