"""`--pairs FILE|DIR|ID`: which reader reads it."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

from exaranker.errors import InputError
from exaranker.preprocess.readers import InputConfig, Reader, read_jsonl, read_triples, read_tsv

FORMATS = ("jsonl", "tsv", "triples")


class Source(NamedTuple):
    """A reader, and the name that the manifest gives its input."""

    reader: Reader
    name: str


def open_source(pairs: str, form: str | None, config: InputConfig) -> Source:
    """Finds the reader for `--pairs`, by `--format` or by the path's name.

    Raises:
        InputError: there is no such file, or its name does not tell its format.
    """
    path = Path(pairs)
    if not path.exists():
        raise InputError("no such file", path=pairs, hint="check the path")
    readers: dict[str, Reader] = {
        "jsonl": partial(read_jsonl, path),
        "tsv": partial(read_tsv, path),
        "triples": partial(read_triples, path, config),
    }
    return Source(readers[form or _format_of(path)], path.name)


def _format_of(path: Path) -> str:
    """
    >>> _format_of(Path("triples.train.small.tsv.gz"))
    'triples'
    """
    if path.name.startswith("triples"):
        return "triples"
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    form = suffixes[-1].removeprefix(".") if suffixes else ""
    if form not in FORMATS:
        raise InputError("the name does not tell the format", path=path, hint=f"--format {'|'.join(FORMATS)}")
    return form
