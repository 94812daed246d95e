"""TREC run in, reranked TREC run out, and explanations of the best passages beside it.

Pairs are scored window by window, and each finished window is kept on disk: a killed run continues where it was and
ends with the same bytes.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from exaranker import __version__
from exaranker.errors import InputError
from exaranker.files import claim_outputs, sha256_json, write_text
from exaranker.logs import warn
from exaranker.rank.inputs import DEPTH_BY, Inputs, check_lengths, read_inputs, warn_of_unknown
from exaranker.rank.reranker import Explanation, Reranker
from exaranker.resume import Partial
from exaranker.trec import ScoredDoc, by_query, ranked, write_run

EXPLAIN_WINDOW = 128  # pairs explained between two saves
PROBED = 8  # pairs that are explained before anything is scored, to see whether the checkpoint can


@dataclass(frozen=True)
class RerankJob:
    """What `exaranker rerank` is given."""

    checkpoint: Path
    queries: Path
    passages: Path
    run: Path
    output: Path
    depth: int | None = None  # best passages of each query to rerank; the others are left out of the output
    depth_by: str = DEPTH_BY[0]  # "score" or "rank": which of the run's columns says what is best
    explain_top_k: int = 0  # passages of each query to explain
    max_length: int = 512
    token_budget: int | None = None
    dtype: str | None = None
    base: Path | None = None  # of an adapter, if it is not where it was in training

    @property
    def explanations(self) -> Path:
        """The file of the explanations: no two outputs share it."""
        return self.output.with_name(self.output.name + ".explanations.jsonl")


def rerank(job: RerankJob) -> None:
    """Reranks a run and writes `job.output`, and `job.explanations` if asked for.

    Raises:
        InputError: a file is bad or an output too, an id of the run is not in the queries or passages, a query does
            not fit, there is no checkpoint, or it gives no explanations or scores that are no numbers.
    """
    outputs = [job.output, *([job.explanations] if job.explain_top_k else [])]
    with claim_outputs(*outputs, inputs=(job.queries, job.passages, job.run, job.checkpoint)):
        inputs = read_inputs(job.run, job.queries, job.passages, job.depth, job.depth_by)
        reranker = Reranker.from_checkpoint(
            job.checkpoint, max_length=job.max_length, token_budget=job.token_budget, dtype=job.dtype, base=job.base
        )
        check_lengths(reranker.model, inputs.queries, job.max_length, job.queries)
        warn_of_unknown(reranker.model, inputs)
        _say_what_is_there(job)
        if job.explain_top_k:
            _require_explanations(job, reranker, inputs)
        _write(job, reranker, inputs)


def _write(job: RerankJob, reranker: Reranker, inputs: Inputs) -> None:
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


def _say_what_is_there(job: RerankJob) -> None:
    """Says which files of an earlier job are replaced, and which one stays beside a run it is not of."""
    if job.output.exists():
        warn(f"{job.output} is there already and will be replaced")
    if job.explanations.exists():
        fate = "will be replaced" if job.explain_top_k else "stays: it explains an earlier run, not this one"
        warn(f"{job.explanations} is there already and {fate}")


def _require_explanations(job: RerankJob, reranker: Reranker, inputs: Inputs) -> None:
    """Explains a few pairs first: a checkpoint that was trained on labels alone ends after the label.

    Raises:
        InputError: all of them are empty.
    """
    pairs = inputs.pairs(inputs.candidates[:PROBED])
    if not any(explained.explanation for explained in reranker.explain(pairs, scores=[1.0] * len(pairs))):
        raise InputError(
            f"this checkpoint writes no explanations: those of the first {len(pairs)} passages are empty",
            path=job.checkpoint,
            hint="it seems to be trained on labels alone: leave out --explain_top_k, or give one trained on "
            "label_explanation",
        )


def job_key(reranker: Reranker) -> str:
    """A digest of everything that the scores depend on, to the last bit, beside the pairs of their own window."""
    return sha256_json([__version__, reranker.max_length, reranker.token_budget, reranker.model.fingerprint()])


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
