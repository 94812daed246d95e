"""The files of queries and of passages in folders of BEIR, TREC and pyserini."""

from collections.abc import Iterable
from pathlib import Path

from exaranker.errors import InputError
from exaranker.texts.rows import Part

TREC_NAMES = ("queries.tsv", "passages.tsv", "qrels.txt")
BEIR_NAMES = ("queries.jsonl", "corpus.jsonl")
PARTS: tuple[Part, Part] = ("queries", "passages")


def text_files(folder: Path) -> tuple[Path, Path]:
    """The files of queries and of passages of a BEIR or TREC folder.

    Raises:
        InputError: the folder lacks one of them.
    """
    names = BEIR_NAMES if any(found_in(folder, name) for name in BEIR_NAMES) else TREC_NAMES[:2]
    queries, passages = (needed_in(folder, name) for name in names)
    return queries, passages


def files_of(folder: Path, part: Part) -> tuple[Path, ...]:
    """The files of one part: BEIR's or TREC's, or every `*.jsonl` of a folder as pyserini indexes it, by name.

    Raises:
        InputError: there is no such file.
    """
    named = (found_in(folder, names[PARTS.index(part)]) for names in (BEIR_NAMES, TREC_NAMES))
    if file := next(filter(None, named), None):
        return (file,)
    others = [found_in(folder, name) for name in (*BEIR_NAMES, *TREC_NAMES)]
    shards = sorted(path for path in folder.iterdir() if path.name.lower().endswith((".jsonl", ".jsonl.gz")))
    if part == "passages" and shards and not any(others):
        return tuple(shards)
    raise _lacks(f"{BEIR_NAMES[PARTS.index(part)]} and no {TREC_NAMES[PARTS.index(part)]}", folder)


def needed_in(folder: Path, name: str) -> Path:
    """The file of this name, or the same gzipped.

    Raises:
        InputError: the folder lacks it; names what is there.
    """
    found = found_in(folder, name)
    if found is None:
        raise _lacks(name, folder)
    return found


def found_in(folder: Path, name: str) -> Path | None:
    """The file of this name, or the same gzipped, if it is there."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _lacks(name: str, folder: Path) -> InputError:
    there = _some(path.name for path in folder.iterdir())
    hint = f"a TREC folder has {', '.join(TREC_NAMES)}; a BEIR folder {', '.join(BEIR_NAMES)}, qrels/SPLIT.tsv"
    return InputError(f"no {name} in this folder, only {there}", path=folder, hint=hint)


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:8]) or "nothing"
