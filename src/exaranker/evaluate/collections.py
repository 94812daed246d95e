"""Collections by name: where their texts and judgements come from, and how they are measured. The table is data."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from exaranker.errors import InputError, nearest, require
from exaranker.files import open_output

TABLE = "collections.yaml"


@dataclass(frozen=True)
class Collection:
    """A row of collections.yaml."""

    name: str
    title: str
    ir_datasets: str | None
    pyserini: Mapping[str, str] | None  # index, topics, qrels: names that pyserini downloads
    measure: str
    min_relevance: int
    bm25: Mapping[str, float]  # k1, b
    published: tuple[Mapping[str, Any], ...]  # system, measure, value, source
    ignore_identical_ids: bool = False


def collections() -> dict[str, Collection]:
    """All collections, by name."""
    table = yaml.safe_load((files("exaranker.evaluate") / TABLE).read_text())
    return {name: Collection(name=name, **{**row, "published": tuple(row["published"])}) for name, row in table.items()}


def collection(name: str) -> Collection:
    """The collection of this name.

    >>> collection("dl19").ir_datasets
    'msmarco-passage/trec-dl-2019/judged'

    Raises:
        InputError: there is none.
    """
    known = collections()
    if name not in known:
        raise InputError(f"no collection {name!r}", hint=nearest(name, known))
    return known[name]


def queries(of: Collection) -> Path:
    """A TSV of the queries, fetched once."""
    return _kept(of, "queries.tsv", lambda data: (_row(q.query_id, q.default_text()) for q in data.queries_iter()))


def passages(of: Collection) -> Path:
    """A TSV of the passages, fetched once."""
    return _kept(of, "passages.tsv", lambda data: (_row(d.doc_id, d.default_text()) for d in data.docs_iter()))


def qrels(of: Collection) -> Path:
    """TREC qrels, fetched once."""
    return _kept(
        of, "qrels.txt", lambda data: (f"{q.query_id} 0 {q.doc_id} {q.relevance}\n" for q in data.qrels_iter())
    )


def _kept(of: Collection, name: str, lines: Callable[[Any], Iterable[str]]) -> Path:
    """A file of the collection below ir_datasets' home; it is downloaded if it is not there yet.

    Raises:
        InputError: ir_datasets does not have the collection, or it cannot be downloaded here.
    """
    if of.ir_datasets is None:
        hint = f"its owners license it: give --queries, --passages and --qrels{_pyserini(of)}"
        raise InputError(f"collection {of.name!r} cannot be downloaded", hint=hint)
    datasets = require("ir_datasets", "datasets")
    path = Path(datasets.util.home_path()) / "exaranker" / of.name / name
    if path.is_file():
        return path
    try:
        data = datasets.load(of.ir_datasets)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_output(path) as stream:
            stream.writelines(lines(data))
    except Exception as error:  # ir_datasets raises what its readers raise: requests', zip's, RuntimeError, ...
        what = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        hint = f"it is downloaded once, which needs a network; or give --queries, --passages and --qrels{_pyserini(of)}"
        raise InputError(f"{name} of collection {of.name!r} ({of.ir_datasets}): {what}", hint=hint) from error
    return path


def _row(identifier: str, text: str) -> str:
    return f"{identifier}\t{' '.join(text.split())}\n"


def _pyserini(of: Collection) -> str:
    return f"; pyserini has it as {of.pyserini['index']}, {of.pyserini['topics']}" if of.pyserini else ""
