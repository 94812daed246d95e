"""TREC run in, reranked TREC run out, and explanations of the best passages beside it.

Pairs are scored window by window, and each finished window is kept on disk: a killed run continues where it was and
ends with the same bytes.
"""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from exaranker import __version__
from exaranker.errors import InputError
from exaranker.files import prepare_output, sha256_json, write_text
from exaranker.rank.reranker import Explanation, Reranker
from exaranker.resume import Partial
from exaranker.trec import ScoredDoc, by_query, ranked, read_run, read_run_rows, read_texts, write_run

EXPLAIN_WINDOW = 128  # pairs explained between two saves


@dataclass(frozen=True)
class RerankJob:
    """What `exaranker rerank` is given."""

    checkpoint: Path
    queries: Path
    passages: Path
    run: Path
    output: Path
    depth: int | None = None  # best passages of each query to rerank; the others are left out of the output
    explain_top_k: int = 0  # passages of each query to explain
    max_length: int = 512
    token_budget: int | None = None
    dtype: str | None = None

    @property
    def explanations(self) -> Path:
        return self.output.with_suffix(".explanations.jsonl")


class Inputs(NamedTuple):
    """The candidates to score, by query, and the texts they name."""

    candidates: list[ScoredDoc]
    queries: dict[str, str]
    passages: dict[str, str]

    def pairs(self, docs: Sequence[ScoredDoc]) -> list[tuple[str, str]]:
        return [(self.queries[doc.query_id], self.passages[doc.doc_id]) for doc in docs]


def rerank(job: RerankJob) -> None:
    """Reranks a run and writes `job.output`, and `job.explanations` if asked for.

    Raises:
        InputError: a file is bad, an id of the run is not in the queries or passages, there is no checkpoint, or it
            gives scores that are no numbers.
    """
    for output in (job.output, job.explanations):
        prepare_output(output)
    inputs = read_inputs(job)
    reranker = Reranker.from_checkpoint(
        job.checkpoint, max_length=job.max_length, token_budget=job.token_budget, dtype=job.dtype
    )
    key = job_key(reranker)
    scores = Partial(job.output, key)
    scored = _score(reranker, inputs, scores)
    _refuse_nan(job, scored)
    explanations = Partial(job.explanations, key) if job.explain_top_k else None
    if explanations is not None:
        best = [doc for docs in by_query(scored).values() for doc in ranked(docs)[: job.explain_top_k]]
        _write_explanations(job.explanations, best, _explain(reranker, inputs, best, explanations))
    write_run(job.output, scored, tag=f"exaranker-{reranker.model.card.template.name}")
    for partial in filter(None, (scores, explanations)):
        partial.remove()


def job_key(reranker: Reranker) -> str:
    """A digest of everything that the scores depend on, to the last bit, beside the pairs of their own window."""
    return sha256_json([__version__, reranker.max_length, reranker.token_budget, reranker.model.fingerprint()])


def read_inputs(job: RerankJob) -> Inputs:
    """Reads the run and only those passages that it names.

    Raises:
        InputError: an id is missing; names the run's line.
    """
    candidates = [doc for docs in by_query(read_run(job.run)).values() for doc in ranked(docs)[: job.depth]]
    queries = read_texts(job.queries)
    _require(job, "query", [doc.query_id for doc in candidates], queries, job.queries)
    passages = read_texts(job.passages, wanted={doc.doc_id for doc in candidates})
    _require(job, "passage", [doc.doc_id for doc in candidates], passages, job.passages)
    if without := queries.keys() - {doc.query_id for doc in candidates}:
        print(f"{len(without)} of {len(queries)} queries have no candidates in {job.run}", file=sys.stderr)
    return Inputs(candidates, queries, passages)


def _require(job: RerankJob, what: str, ids: Sequence[str], known: Mapping[str, str], path: Path) -> None:
    missing = [identifier for identifier in dict.fromkeys(ids) if identifier not in known]
    if not missing:
        return
    line = next(
        row.line
        for row in read_run_rows(job.run)
        if getattr(row.doc, "query_id" if what == "query" else "doc_id") == missing[0]
    )
    raise InputError(
        f"{what} id {missing[0]!r} is not in {path} ({len(missing)} such ids)",
        path=job.run,
        line=line,
        hint=f"give the {'queries' if what == 'query' else 'passages'} that this run was made from",
    )


def _score(reranker: Reranker, inputs: Inputs, partial: Partial) -> list[ScoredDoc]:
    def compute(docs: Sequence[ScoredDoc]) -> list[float]:
        return reranker.score_window(inputs.pairs(docs)).tolist()

    scores = partial.map(
        compute,
        inputs.candidates,
        size=reranker.window,
        identity=lambda doc: inputs.pairs([doc]),
        desc="score",
        unit="passage",
        total=len(inputs.candidates),
    )
    return [doc._replace(score=score) for doc, score in zip(inputs.candidates, scores, strict=True)]


def _refuse_nan(job: RerankJob, scored: Sequence[ScoredDoc]) -> None:
    for doc in scored:
        if not math.isfinite(doc.score):
            raise InputError(
                f"the score of passage {doc.doc_id!r} for query {doc.query_id!r} is {doc.score}",
                path=job.checkpoint,
                hint="the training diverged, or the weights overflow: try --dtype float32 or an earlier checkpoint_N",
            )


def _explain(reranker: Reranker, inputs: Inputs, docs: Sequence[ScoredDoc], partial: Partial) -> list[Explanation]:
    def compute(window: Sequence[ScoredDoc]) -> list[Explanation]:
        return reranker.explain(inputs.pairs(window), scores=[doc.score for doc in window])

    explained = partial.map(
        compute,
        docs,
        size=EXPLAIN_WINDOW,
        identity=lambda doc: [inputs.pairs([doc]), doc.score],
        desc="explain",
        unit="passage",
        total=len(docs),
    )
    return [Explanation(*fields) for fields in explained]


def _write_explanations(path: Path, docs: Sequence[ScoredDoc], explanations: Iterable[Explanation]) -> None:
    """One JSON object a line, best passage first within each query."""
    lines, ranks = [], dict.fromkeys((doc.query_id for doc in docs), 0)
    for doc, explanation in zip(docs, explanations, strict=True):
        ranks[doc.query_id] += 1
        row = {"query_id": doc.query_id, "doc_id": doc.doc_id, "rank": ranks[doc.query_id], **explanation._asdict()}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))
