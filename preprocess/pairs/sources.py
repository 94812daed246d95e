"""`--pairs FILE|DIR|ID`: which reader reads it."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

from exaranker.errors import InputError
from exaranker.preprocess.pairs.ir_datasets import IrDataset, load
from exaranker.preprocess.pairs.judged import beir_files, is_beir, trec_files
from exaranker.preprocess.pairs.text import InputConfig, Reader, read_jsonl, read_tsv
from exaranker.preprocess.pairs.triples import read_triples

FILE_FORMATS = ("jsonl", "tsv", "triples")
FOLDER_FORMATS = ("beir", "trec")
FORMATS = (*FILE_FORMATS, *FOLDER_FORMATS, "ir_datasets")
_FILE_SUFFIXES = {".jsonl", ".json", ".tsv", ".csv", ".txt", ".gz"}


class Source(NamedTuple):
    """A reader, and the name that the manifest gives its input."""

    reader: Reader
    name: str


def open_source(pairs: str, form: str | None, config: InputConfig) -> Source:
    """Finds the reader for `--pairs`: a file or a folder if there is one of that name, else an ir_datasets id.

    Raises:
        InputError: there is no such file, folder or id, or `form` does not go with what it is.
    """
    path = Path(pairs)
    if path.is_dir() and form != "ir_datasets":
        return Source(
            _folder_reader(path, _allowed(form, FOLDER_FORMATS, "folder", pairs), config), path.resolve().name
        )
    if path.exists() and form != "ir_datasets":
        return Source(_file_reader(path, _allowed(form, FILE_FORMATS, "file", pairs), config), path.name)
    if form != "ir_datasets" and _is_path(pairs):
        raise InputError("no such file", path=pairs, hint="check the path")
    _allowed(form, ("triples", "ir_datasets"), "dataset id", pairs)
    load(pairs)  # a mistyped name is reported before anything is read
    return Source(IrDataset(pairs, config, as_triples=form == "triples"), pairs)


def _file_reader(path: Path, form: str | None, config: InputConfig) -> Reader:
    readers: dict[str, Reader] = {
        "jsonl": partial(read_jsonl, path),
        "tsv": partial(read_tsv, path),
        "triples": partial(read_triples, path, config),
    }
    return readers[form or _format_of(path)]


def _folder_reader(folder: Path, form: str | None, config: InputConfig) -> Reader:
    if form == "beir" or (form is None and is_beir(folder)):
        return beir_files(folder, config.split)
    return trec_files(folder)


def _format_of(path: Path) -> str:
    """The reader that a file's name asks for.

    >>> _format_of(Path("triples.train.small.tsv.gz"))
    'triples'
    """
    if path.name.startswith("triples"):
        return "triples"
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    form = suffixes[-1].removeprefix(".") if suffixes else ""
    if form not in FILE_FORMATS:
        raise InputError("the name does not tell the format", path=path, hint=f"--format {'|'.join(FILE_FORMATS)}")
    return form


def _allowed(form: str | None, forms: tuple[str, ...], what: str, pairs: str) -> str | None:
    if form is not None and form not in forms:
        raise InputError(f"--format {form} does not go with a {what}", path=pairs, hint=f"one of {', '.join(forms)}")
    return form


def _is_path(pairs: str) -> bool:
    """Whether it is spelt like a path rather than an id such as `beir/scifact/train`."""
    return pairs.startswith((".", "/", "~")) or Path(pairs).suffix in _FILE_SUFFIXES
