"""Explanations that exist already: no LLM is asked, the filters, shards and manifest are those of one that was."""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from exaranker.files import sha256_file
from exaranker.preprocess.config import ExplainerConfig
from exaranker.preprocess.dataset.files import RejectedPair
from exaranker.preprocess.dataset.writer import Plan, ShardResult, open_dataset
from exaranker.preprocess.engines.base import EngineInfo
from exaranker.preprocess.engines.registry import GIVEN
from exaranker.preprocess.filters.rules import Candidate, reason_to_reject
from exaranker.preprocess.pairs.explained import NO_SOFT_LABEL, GivenPair
from exaranker.preprocess.pairs.selection import Selection, chunks
from exaranker.schema import ExplainedPair


class GivenJob(NamedTuple):
    """Selected rows with their explanations, the file they are from, and what is kept of them."""

    selection: Selection[GivenPair]
    path: Path
    config: ExplainerConfig
    left_out: dict[str, int]  # rows that are not among those read, by reason


def write_given(job: GivenJob, output_dir: str | Path) -> dict[str, Any]:
    """Fills `output_dir` with what is missing there and returns its complete manifest.

    Raises:
        InputError: another process is writing there, the folder was begun with other settings, or the input changes.
    """
    engine = EngineInfo(GIVEN, "always: the texts are those of the file")
    with open_dataset(output_dir, plan_of(job)) as dataset:
        for index, rows in enumerate(chunks(job.selection.pairs(), job.config.shard_size)):
            if index not in dataset.done:
                dataset.add(index, judged(rows, job.selection.positive_grade, job.config), engine, 0.0)
        return dataset.manifest()


def plan_of(job: GivenJob) -> Plan:
    """The settings that define the output's bytes; `given` says whose words the explanations are."""
    selection, config = job.selection, job.config
    explainers: Counter[str] = Counter()
    with_soft_labels = False
    for row in selection.pairs():
        explainers[row.explainer] += 1
        with_soft_labels = with_soft_labels or row.soft_label != NO_SOFT_LABEL
    settings = {
        "input": {"name": job.path.name, "pairs": selection.num_pairs, "sha256": selection.digest},
        "given": {"file_sha256": sha256_file(job.path), "explainers": dict(sorted(explainers.items()))},
        "filters": list(config.filters),
        "positive_grade": selection.positive_grade,
        "shard_size": config.shard_size,
        "engine": {"name": GIVEN},
        **({"relevance": {"name": GIVEN}} if with_soft_labels else {}),
    }
    return Plan(
        settings, {"input_counts": {**selection.counts, **job.left_out}}, selection.num_pairs, config.shard_size
    )


def judged(rows: list[GivenPair], positive_grade: int, config: ExplainerConfig) -> ShardResult:
    """Keeps the rows that no filter objects to; the others go to the side file with the reason."""
    kept: list[ExplainedPair] = []
    rejected: list[RejectedPair] = []
    for row in rows:
        relevant = row.label >= positive_grade
        if reason := _reason(row, relevant, config):
            rejected.append(RejectedPair(*row[:5], reason, row.explanation))
        else:
            kept.append(_explained(row, relevant))
    return ShardResult(kept, rejected, 0)


def _reason(row: GivenPair, relevant: bool, config: ExplainerConfig) -> str | None:
    if row.problem:
        return row.problem
    candidate = Candidate(row.query, row.passage, relevant, row.explanation, "stop")
    return reason_to_reject(candidate, config.filters)


def _explained(row: GivenPair, relevant: bool) -> ExplainedPair:
    return ExplainedPair(
        *row[:5],
        relevant=int(relevant),
        explanation=row.explanation,
        explainer=row.explainer,
        finish_reason="stop",
        num_tokens=0,
        mean_logprob=0.0,
        llm_relevance=row.soft_label,
    )
