"""TREC run in, reranked TREC run out, and explanations of the best passages beside it.

Pairs are scored window by window, and each finished window is kept on disk: a killed run continues where it was and
ends with the same bytes.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax

from exaranker import __version__
from exaranker.errors import InputError
from exaranker.files import claim_outputs, sha256_json, write_text
from exaranker.rank.inputs import DEPTH_BY, Inputs, check_query_lengths, read_candidates, read_inputs, warn_of_unknown
from exaranker.rank.long_documents import LONG, BestWindow, LongDocuments, Window, best_windows
from exaranker.rank.outputs import explanations_of, say_what_is_there
from exaranker.rank.reranker import Explanation, RankingJob, Reranker, default_token_budget, pairs_at_once
from exaranker.rank.shards import JobShard, Sizes, explanation_windows, of_shard, scoring_windows
from exaranker.resume import Advance, Partial
from exaranker.texts.rows import Title
from exaranker.texts.sources import open_texts
from exaranker.trec import ScoredDoc, by_query, ranked, write_run

EXPLAIN_WINDOW = 64  # pairs explained between two saves: some 16 of each label are decoded side by side
PROBED = 8  # pairs that are explained before anything is scored, to see whether the checkpoint can


@dataclass(frozen=True)
class RerankJob(RankingJob):
    """What `exaranker rerank` is given."""

    queries: str | Path  # what `open_texts` reads: files, folders, ir_datasets ids, Lucene indexes
    passages: str | Path
    run: Path
    output: Path
    depth: int | None = None  # best passages of each query to rerank; the others are left out of the output
    depth_by: str = DEPTH_BY[0]  # "score" or "rank": which of the run's columns says what is best
    ignore_identical_ids: bool = False  # leave out passages with their query's own id
    explain_top_k: int = 0  # passages of each query to explain
    title: Title = "first"  # where a passage's title is put
    long: str = LONG[0]  # how a document is scored that is longer than an input
    passage_length: int = LongDocuments.length  # tokens of its windows
    passage_stride: int = LongDocuments.stride
    shard_index: int = 0  # which of `num_shards` processes this one is
    num_shards: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.shard_index < self.num_shards:
            problem = f"--shard_index {self.shard_index} of --num_shards {self.num_shards}"
            raise InputError(problem, hint="expected 0 to num_shards - 1")

    @property
    def shard(self) -> JobShard:
        """The part of the job that this process does."""
        return JobShard(self.shard_index, self.num_shards)

    @property
    def target(self) -> Path:
        """The run that is written: the output, or this shard's part of it."""
        return self.output.with_name(self.output.name + self.shard.suffix)

    @property
    def explanations(self) -> Path:
        """The file of the explanations: no two outputs share it."""
        return explanations_of(self.target)

    @property
    def documents(self) -> LongDocuments:
        """How documents are cut."""
        return LongDocuments(self.long, self.passage_length, self.passage_stride)


def rerank(job: RerankJob) -> None:
    """Reranks a run, or a shard of it, and writes `job.target`, and `job.explanations` if asked for.

    Raises:
        InputError: a file is bad or an output too, an id of the run is not in the queries or passages, a query does
            not fit, there is no checkpoint, or it gives no explanations or scores that are no numbers.
    """
    outputs = [job.target, *([job.explanations] if job.explain_top_k else [])]
    with claim_outputs(*outputs, inputs=(job.queries, job.passages, job.run, job.checkpoint)):
        inputs = _read(job)
        reranker = job.load()
        window = job.passage_length if job.documents.has_windows else 0
        check_query_lengths(reranker.model, inputs.queries, reranker.max_length, job.queries, window)
        warn_of_unknown(reranker.model, inputs)
        say_what_is_there(job.target, is_explained=bool(job.explain_top_k))
        if job.explain_top_k:
            _require_explanations(job, reranker, inputs)
        _write(job, reranker, inputs)


def _read(job: RerankJob) -> Inputs:
    candidates = read_candidates(job.run, job.depth, job.depth_by, job.ignore_identical_ids)
    queries, passages = open_texts(job.queries, "queries"), open_texts(job.passages, "passages", job.title)
    budget = (job.token_budget or default_token_budget()) * jax.local_device_count()
    candidates = of_shard(candidates, job.shard, _sizes(job, pairs_at_once(budget)))
    folder = job.output.parent
    return read_inputs(job.run, candidates, queries, passages, folder, are_all=job.num_shards == 1)


def _sizes(job: RerankJob, window: int) -> Sizes:
    return Sizes(window, EXPLAIN_WINDOW, job.explain_top_k)


def _write(job: RerankJob, reranker: Reranker, inputs: Inputs) -> None:
    key = job_key(reranker, asdict(job.documents))
    scores = Partial(job.target, key)
    found = _score(job, reranker, inputs, scores)
    scored = [doc._replace(score=best.score) for doc, best in zip(inputs.candidates, found, strict=True)]
    _refuse_nan(scored, reranker.model.path)
    explanations = Partial(job.explanations, key) if job.explain_top_k else None
    if explanations is not None:
        best = [doc for docs in by_query(scored).values() for doc in ranked(docs)[: job.explain_top_k]]
        windows = {doc[:2]: one.window for doc, one in zip(scored, found, strict=True)}
        _explain(job, reranker, inputs.within(windows) if job.documents.has_windows else inputs, best, explanations)
    write_run(job.target, scored, tag=f"exaranker-{reranker.model.card.template.name}")
    for kept in filter(None, (scores, explanations)):
        kept.remove()


def _require_explanations(job: RerankJob, reranker: Reranker, inputs: Inputs) -> None:
    """Explains a few pairs first: a checkpoint that was trained on labels alone ends after the label.

    Raises:
        InputError: all of them are empty.
    """
    pairs = inputs.pairs(inputs.candidates[:PROBED])
    if not any(explained.explanation for explained in reranker.explain(pairs, scores=[1.0] * len(pairs))):
        raise InputError(
            f"this checkpoint writes no explanations: those of the first {len(pairs)} passages are empty",
            path=reranker.model.path,
            hint="it seems to be trained on labels alone: leave out --explain_top_k, or give one trained on "
            "label_explanation",
        )


def job_key(reranker: Reranker, *settings: Any) -> str:
    """A digest of everything that the scores depend on, to the last bit, beside the pairs of their own window."""
    settings = (reranker.max_length, reranker.token_budget, *settings)
    return sha256_json([__version__, settings, reranker.model.fingerprint()])


def _score(job: RerankJob, reranker: Reranker, inputs: Inputs, kept: Partial) -> list[BestWindow]:
    def compute(docs: Sequence[ScoredDoc], advance: Advance) -> list[BestWindow]:
        pairs = inputs.pairs(docs)
        cut = [job.documents.windows(reranker.model.tokenizer, passage) for _, passage in pairs]
        return best_windows(pairs, cut, partial(reranker.score_window, advance=advance))

    found = kept.map(
        compute,
        scoring_windows(inputs.candidates, reranker.window),
        identity=lambda doc: inputs.pairs([doc]),
        desc="score",
        unit="passage",
        total=len(inputs.candidates),
    )
    return [BestWindow(score, Window(*window)) for score, window in found]


def _refuse_nan(scored: Sequence[ScoredDoc], checkpoint: Path) -> None:
    for doc in scored:
        if not math.isfinite(doc.score):
            raise InputError(
                f"the score of passage {doc.doc_id!r} for query {doc.query_id!r} is {doc.score}",
                path=checkpoint,
                hint="the training diverged, or the weights overflow: try --dtype float32 or an earlier checkpoint_N",
            )


def _explain(job: RerankJob, reranker: Reranker, inputs: Inputs, best: Sequence[ScoredDoc], kept: Partial) -> None:
    """Writes one JSON object a line, best passage first within each query."""

    def compute(docs: Sequence[ScoredDoc], advance: Advance) -> list[Explanation]:
        return reranker.explain(inputs.pairs(docs), scores=[doc.score for doc in docs], advance=advance)

    explained = kept.map(
        compute,
        explanation_windows(best, inputs.candidates, _sizes(job, reranker.window)),
        identity=lambda doc: [inputs.pairs([doc]), doc.score],
        desc="explain",
        unit="passage",
        total=len(best),
    )
    rows = zip(_ranks(best), best, explained, strict=True)
    lines = [json.dumps(_row(rank, doc, fields, inputs), ensure_ascii=False) + "\n" for rank, doc, fields in rows]
    write_text(job.explanations, "".join(lines))


def _row(rank: int, doc: ScoredDoc, explained: Sequence[Any], inputs: Inputs) -> dict[str, Any]:
    """A line of the explanations; of a document that was scored by windows it has the one that won."""
    row = {"query_id": doc.query_id, "doc_id": doc.doc_id, "rank": rank, **Explanation(*explained)._asdict()}
    if (window := inputs.windows.get(doc[:2])) is not None:
        [(_, text)] = inputs.pairs([doc])
        row["window"] = {"start": window.start, "end": window.end, "text": text}
    return row


def _ranks(docs: Iterable[ScoredDoc]) -> Iterator[int]:
    ranks: Counter[str] = Counter()
    for doc in docs:
        ranks[doc.query_id] += 1
        yield ranks[doc.query_id]
