"""`--pairs FILE|DIR|ID`: which reader reads it."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from exaranker.errors import InputError
from exaranker.preprocess.pairs.explained import GivenPair, is_released, read_explained
from exaranker.preprocess.pairs.ir_datasets import IrDataset
from exaranker.preprocess.pairs.joined import joined
from exaranker.preprocess.pairs.json_rows import read_jsonl
from exaranker.preprocess.pairs.judged import beir_files, is_beir, trec_files
from exaranker.preprocess.pairs.text import InputConfig, Reader, read_tsv
from exaranker.preprocess.pairs.triples import read_triples
from exaranker.texts.ir_datasets import load
from exaranker.texts.sources import is_path

FILE_FORMATS = ("jsonl", "tsv", "triples")
FOLDER_FORMATS = ("beir", "trec")
FORMATS = (*FILE_FORMATS, *FOLDER_FORMATS, "ir_datasets")


class Source(NamedTuple):
    """A reader, and the name that the manifest gives its input; `left_out` counts rows that the last reading did."""

    reader: Reader
    name: str
    left_out: Counter[str]


class GivenSource(NamedTuple):
    """A reader of pairs that are explained already, and as `Source`."""

    reader: Callable[[], Iterator[GivenPair]]
    path: Path
    left_out: Counter[str]


def open_given(pairs: str, config: InputConfig, texts: str | None = None) -> GivenSource:
    """The reader of a file of explained pairs; rows of ids find their texts in the folder or ir_datasets id `texts`.

    Raises:
        InputError: there is no such file, or `texts` does not go with it.
    """
    path = _file(pairs)
    left_out: Counter[str] = Counter()
    reader = partial(read_explained, path, config, texts is None, left_out)
    if texts is not None and is_released(path):
        raise InputError("rows of a released file have no ids", path=path, hint="leave out --texts")
    return GivenSource(reader if texts is None else joined(reader, texts), path, left_out)


def _file(pairs: str) -> Path:
    path = Path(pairs).expanduser()
    if not path.exists():
        raise InputError("no such file", path=pairs, hint="check the path")
    if path.is_dir():
        raise InputError("is a folder, expected a file of explained pairs", path=pairs, hint="name a file in it")
    return path


def open_source(pairs: str, form: str | None, config: InputConfig, texts: str | None = None) -> Source:
    """Finds the reader for `--pairs`: a file or a folder if there is one of that name, else an ir_datasets id.

    `texts` is the folder or the ir_datasets id that rows of ids are joined with; JSON Lines may be such rows.

    Raises:
        InputError: there is no such file, folder or id, or `form` does not go with what it is.
    """
    path, left_out = Path(pairs).expanduser(), Counter[str]()
    if texts is not None:
        if not path.is_file() or (form or _format_of(path)) != "jsonl":
            hint = "leave out --texts, or give rows with query_id, doc_id and label"
            raise InputError("--texts goes with JSON Lines of ids only", path=pairs, hint=hint)
        return Source(joined(partial(read_jsonl, path, config, False, left_out), texts), path.name, left_out)
    if path.is_dir() and form != "ir_datasets":
        reader = _folder_reader(path, _allowed(form, FOLDER_FORMATS, "folder", pairs), config)
        return Source(reader, path.resolve().name, left_out)
    if path.exists() and form != "ir_datasets":
        form = _allowed(form, FILE_FORMATS, "file", pairs) or _format_of(path)
        return Source(_file_reader(path, form, config, left_out), path.name, left_out)
    if form != "ir_datasets" and is_path(pairs):
        raise InputError("no such file", path=pairs, hint="check the path")
    _allowed(form, ("triples", "ir_datasets"), "dataset id", pairs)
    load(pairs)  # a mistyped name is reported before anything is read
    return Source(IrDataset(pairs, config, as_triples=form == "triples"), pairs, left_out)


def _file_reader(path: Path, form: str, config: InputConfig, left_out: Counter[str]) -> Reader:
    readers: dict[str, Reader] = {
        "jsonl": partial(read_jsonl, path, config, True, left_out),
        "tsv": partial(read_tsv, path, config),
        "triples": partial(read_triples, path, config),
    }
    if config.relevant_ranks and form != "jsonl":
        raise InputError("rows of this form have no ranks", path=path, hint="leave out --relevant_ranks")
    return readers[form]


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
    form = "jsonl" if form == "json" else form
    if form not in FILE_FORMATS:
        raise InputError("the name does not tell the format", path=path, hint=f"--format {'|'.join(FILE_FORMATS)}")
    return form


def _allowed(form: str | None, forms: tuple[str, ...], what: str, pairs: str) -> str | None:
    if form is not None and form not in forms:
        raise InputError(f"--format {form} does not go with a {what}", path=pairs, hint=f"one of {', '.join(forms)}")
    return form
