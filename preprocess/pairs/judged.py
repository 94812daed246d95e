"""Judged collections as folders: BEIR (corpus, queries, qrels/SPLIT.tsv) and TREC (passages, queries, qrels).

Corpora may hold millions of passages: they are streamed once, and only the judged ones are kept in memory (some 0.5 KB
each: 0.3 GB for the 530,000 judgements of MS MARCO's training set).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from exaranker.errors import InputError
from exaranker.schema import Pair
from exaranker.texts.folders import BEIR_NAMES, TREC_NAMES, found_in, needed_in
from exaranker.texts.rows import read_texts
from exaranker.trec import read_qrels

NUM_SHOWN = 3  # missing ids in an error


@dataclass(frozen=True)
class JudgedFiles:
    """A collection's three files, a reader of its pairs."""

    queries: Path
    passages: Path
    qrels: Path

    def __call__(self) -> Iterator[Pair]:
        """Yields one pair per judgement, in the order of the qrels, with the grade as judged.

        Raises:
            InputError: a file is not of its format, or a judged query or passage is missing.
        """
        queries, passages = self._texts
        for qrel in read_qrels(self.qrels):
            yield Pair(qrel.query_id, qrel.doc_id, queries[qrel.query_id], passages[qrel.doc_id], qrel.relevance)

    @cached_property
    def _texts(self) -> tuple[dict[str, str], dict[str, str]]:
        query_ids: dict[str, None] = {}
        doc_ids: dict[str, None] = {}
        for qrel in read_qrels(self.qrels):
            query_ids[qrel.query_id] = doc_ids[qrel.doc_id] = None
        return self._read("query", self.queries, query_ids), self._read("passage", self.passages, doc_ids)

    def _read(self, what: str, path: Path, wanted: dict[str, None]) -> dict[str, str]:
        texts = read_texts(path, wanted)
        missing = [identifier for identifier in wanted if identifier not in texts]
        if missing:
            shown = ", ".join(map(repr, missing[:NUM_SHOWN])) + (", ..." if len(missing) > NUM_SHOWN else "")
            problem = f"{len(missing)} of {len(wanted)} {what} ids judged in {self.qrels.name} are not here: {shown}"
            raise InputError(problem, path=path, hint=f"complete it, or take those lines out of {self.qrels}")
        return texts


def is_beir(folder: Path) -> bool:
    """Whether a folder is laid out as BEIR's collections: `qrels/` beside queries or a corpus."""
    return (folder / "qrels").is_dir() and any(found_in(folder, name) for name in BEIR_NAMES)


def beir_files(folder: Path, split: str) -> JudgedFiles:
    """The queries, corpus and qrels of a BEIR folder.

    Raises:
        InputError: the folder lacks the queries, the corpus or that split's qrels.
    """
    queries, corpus = (needed_in(folder, name) for name in BEIR_NAMES)
    qrels = found_in(folder / "qrels", f"{split}.tsv")
    if qrels is None:
        names = sorted(path.name.partition(".")[0] for path in (folder / "qrels").glob("*.tsv*"))
        hint = f"choose one with --gin.pairs.split=\"'{names[0]}'\"" if names else "a split is a file SPLIT.tsv"
        raise InputError(f"no {split}.tsv; there are: {', '.join(names) or 'none'}", path=folder / "qrels", hint=hint)
    return JudgedFiles(queries, corpus, qrels)


def trec_files(folder: Path) -> JudgedFiles:
    """The topics, passages and qrels of a TREC folder.

    Raises:
        InputError: the folder lacks one of the three files.
    """
    return JudgedFiles(*(needed_in(folder, name) for name in TREC_NAMES))
