"""What `exaranker rerank` reads, checked before anything is scored."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from exaranker.errors import InputError, nearest
from exaranker.logs import warn
from exaranker.rank.engines import RankingModel
from exaranker.rank.long_documents import Window
from exaranker.templates import encode_input
from exaranker.texts.kept import KeptTexts
from exaranker.texts.sources import TextSource
from exaranker.tokenization import unknown_share
from exaranker.trec import ScoredDoc, by_query, ranked, read_run, read_run_rows

DEPTH_BY = ("score", "rank")
UNREADABLE = 0.2  # share of a text's characters that the vocabulary lacks, from which on its scores say little
LOOKED_AT = 10_000  # passages that are looked at for such characters: 1 or 2 seconds


class Inputs(NamedTuple):
    """The candidates to score, by query, and the texts they name; those of passages lie on disk."""

    candidates: list[ScoredDoc]
    queries: Mapping[str, str]
    passages: Mapping[str, str]
    windows: Mapping[tuple[str, str], Window] = {}  # of (query id, doc id): the part of a document that stands for it

    def pairs(self, docs: Sequence[ScoredDoc]) -> list[tuple[str, str]]:
        """Query and passage of each candidate."""
        return [(self.queries[doc.query_id], self._passage(doc)) for doc in docs]

    def within(self, windows: Mapping[tuple[str, str], Window]) -> "Inputs":
        """The same with a part of each document."""
        return self._replace(windows=windows)

    def _passage(self, doc: ScoredDoc) -> str:
        window = self.windows.get((doc.query_id, doc.doc_id))
        return self.passages[doc.doc_id][slice(*(window or (None,)))]


def read_candidates(
    run: Path, depth: int | None = None, depth_by: str = DEPTH_BY[0], ignore_identical_ids: bool = False
) -> list[ScoredDoc]:
    """The passages of a run to score: the best `depth` of each query by their score, or by the rank column.

    Says so if the two would not choose the same passages. Those with their query's id may be left out, as BEIR's
    ArguAna and Quora need.

    Raises:
        InputError: the run is bad, or a rank that is needed is not a whole number.
    """
    if depth_by not in DEPTH_BY:
        raise InputError(f"depth_by is {depth_by!r}", hint=nearest(depth_by, DEPTH_BY))
    found = by_query(doc for doc in read_run(run) if not (ignore_identical_ids and doc.doc_id == doc.query_id))
    if depth is None:
        return [doc for docs in found.values() for doc in ranked(docs)]
    ranks = _read_ranks(run, strict=depth_by == "rank")
    chosen: dict[str, list[list[ScoredDoc]]] = {}
    for query_id, docs in found.items():
        by_rank = sorted(docs, key=lambda doc: ranks.get((doc.query_id, doc.doc_id), 0))
        chosen[query_id] = [ranked(docs)[:depth], by_rank[:depth]]
    differing = [query_id for query_id, (scored, listed) in chosen.items() if set(scored) != set(listed)]
    if differing and ranks:
        warn(
            f"{run}: the best {depth} by score are not those by rank in {len(differing)} of {len(chosen)} queries, "
            f"such as {differing[0]!r}: those by {depth_by} are taken (--depth_by {' or '.join(DEPTH_BY)})"
        )
    return [doc for lists in chosen.values() for doc in lists[DEPTH_BY.index(depth_by)]]


def read_inputs(
    run: Path,
    candidates: list[ScoredDoc],
    queries: TextSource,
    passages: TextSource,
    folder: Path,
    *,
    are_all: bool = True,
) -> Inputs:
    """Reads the texts that the run's candidates name, in one pass; `folder` has room for those of the passages.

    Says how many queries have none, if the candidates are those of the whole run.

    Raises:
        InputError: an id is missing; names the run's line.
    """
    query_texts = dict(queries)
    _refuse_swapped(run, candidates, query_texts, passages)
    _require(run, "query", [doc.query_id for doc in candidates], query_texts, queries.name)
    passage_texts = KeptTexts(passages.select({doc.doc_id for doc in candidates}), folder)
    _require(run, "passage", [doc.doc_id for doc in candidates], passage_texts, passages.name)
    used = {query_id: query_texts[query_id] for query_id in dict.fromkeys(doc.query_id for doc in candidates)}
    if are_all and (without := len(query_texts) - len(used)):
        warn(f"{without} of {len(query_texts)} queries have no candidates in {run}")
    return Inputs(candidates, used, passage_texts)


def check_query_lengths(
    model: RankingModel, queries: Mapping[str, str], max_length: int, path: str | Path, window: int = 0
) -> None:
    """Checks that each query fits beside the template's words and a window of a document, before hours of work.

    Raises:
        InputError: one does not; names it, and the option that would let it in.
    """
    template = model.card.template
    needed = {
        query_id: len(encode_input(model.tokenizer, template, query, "", sys.maxsize))
        for query_id, query in queries.items()
    }
    if too_long := [query_id for query_id, tokens in needed.items() if tokens > max_length]:
        first = too_long[0]
        raise InputError(
            f"query {first!r} alone needs {needed[first]} tokens, --max_length is {max_length} "
            f"({len(too_long)} such queries)",
            path=path,
            hint=f"shorten them, or give --max_length {max(needed.values())} or more",
        )
    if window and (most := max(needed.values())) + window > max_length:
        raise InputError(
            f"a window of {window} tokens does not fit beside the longest query, which needs {most} of {max_length}",
            path=path,
            hint=f"give --max_length {most + window} or more, or a smaller --passage_length",
        )


def warn_of_unknown(model: RankingModel, inputs: Inputs) -> None:
    """Says how many texts are in characters that the vocabulary lacks: they become `<unk>`, and their scores ties."""
    passages = dict(islice(inputs.passages.items(), LOOKED_AT))
    for what, texts in (("queries", inputs.queries), ("passages", passages)):
        shares = {name: unknown_share(model.tokenizer, text) for name, text in texts.items()}
        if unreadable := [name for name, share in shares.items() if share > UNREADABLE]:
            first = unreadable[0]
            warn(
                f"{len(unreadable)} of {len(texts)} {what} ({len(unreadable) / len(texts):.0%}) are written in "
                f"characters that this checkpoint's vocabulary lacks, such as {first!r} "
                f"({shares[first]:.0%} of it is unknown): their scores say little, and many will be equal"
            )


def _read_ranks(run: Path, strict: bool) -> dict[tuple[str, str], int]:
    """The rank column by query and doc; nothing if it holds anything but whole numbers, unless they are needed."""
    ranks: dict[tuple[str, str], int] = {}
    for line, rank, doc in read_run_rows(run):
        if not (rank.isascii() and rank.removeprefix("-").isdigit()):
            if strict:
                raise InputError(f"rank {rank!r} is not a whole number", path=run, line=line)
            return {}
        ranks[doc.query_id, doc.doc_id] = int(rank)
    return ranks


def _refuse_swapped(
    run: Path, candidates: Sequence[ScoredDoc], queries: Mapping[str, str], passages: TextSource
) -> None:
    """Tells files that were swapped from ids that are missing: none fits as it is, the first ones do the other way."""
    if not candidates or any(doc.query_id in queries for doc in candidates):
        return
    query_ids = {doc.query_id for doc in candidates}
    if any(doc.doc_id in queries for doc in candidates) and next(iter(passages.select(query_ids)), None):
        problem = f"its query ids are in {passages.name}, its passage ids in the file of queries"
        raise InputError(problem, path=run, hint="--queries and --passages are swapped")


def _require(run: Path, what: str, ids: Iterable[str], known: Mapping[str, str], source: str) -> None:
    missing = [identifier for identifier in dict.fromkeys(ids) if identifier not in known]
    if not missing:
        return
    field = "query_id" if what == "query" else "doc_id"
    raise InputError(
        f"{what} id {missing[0]!r} is not in {source} ({len(missing)} such ids)",
        path=run,
        line=next(row.line for row in read_run_rows(run) if getattr(row.doc, field) == missing[0]),
        hint=f"give the {'queries' if what == 'query' else 'passages'} that this run was made from",
    )
