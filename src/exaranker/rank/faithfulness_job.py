"""The explanations of a reranked run in, figures of their faithfulness out; a killed job continues where it was."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from exaranker.errors import InputError
from exaranker.evaluate.faithfulness import CHOICES, summarise
from exaranker.evaluate.report_data import read_explanations
from exaranker.files import claim_outputs, sha256_file, sha256_json, write_json
from exaranker.logs import warn
from exaranker.rank.faithfulness import ExplainedPassage, measure
from exaranker.rank.inputs import check_query_lengths
from exaranker.rank.job import job_key
from exaranker.rank.reranker import RankingJob, Reranker
from exaranker.resume import Partial, chunked
from exaranker.texts.rows import read_texts

VERSION = 1  # of the measures: finished windows of another version are measured again
WINDOW = 32  # explanations between two saves
SEED = "explanations of other queries"
FOREIGN = 0.1  # median difference to the scores beside the explanations, beyond which they are another checkpoint's

Row = dict[str, Any]


@dataclass(frozen=True)
class FaithfulnessJob(RankingJob):
    """What `exaranker faithfulness` is given."""

    queries: Path
    passages: Path
    explanations: Path  # JSONL, as `exaranker rerank --explain_top_k` writes it
    output: Path
    plot: Path | None = None


def faithfulness(job: FaithfulnessJob) -> dict[str, Any]:
    """Measures every explanation, writes `job.output` (and `job.plot`) and returns what it holds.

    Raises:
        InputError: a file is bad, an id of the explanations is not in the queries or passages, a query does not fit,
            there is no checkpoint, or no explanation can be measured.
    """
    read = (job.queries, job.passages, job.explanations, job.checkpoint)
    with claim_outputs(job.output, job.plot, inputs=read):
        rows, pairs = _read(job)
        reranker = job.load()
        asked = {row["query_id"]: pair.query for row, pair in zip(rows, pairs, strict=True)}
        check_query_lengths(reranker.model, asked, reranker.max_length, job.queries)
        partial = Partial(job.output, sha256_json([VERSION, job_key(reranker)]))
        found = _measured(reranker, rows, pairs, partial)
        _check(job, rows, found)
        document = _document(job, reranker, found)
        if job.plot is not None:
            _plot(document, job.plot)
        write_json(job.output, document)
        partial.remove()
    return document


def controls(rows: Sequence[Row]) -> list[tuple[str | None, str | None]]:
    """For each row the explanation of the query's next passage, and one of another query, drawn; None without any."""
    by_query: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        by_query.setdefault(row["query_id"], []).append(index)
    rng = random.Random(SEED)
    found = []
    for index, row in enumerate(rows):
        mine = by_query[row["query_id"]]
        following = mine[(mine.index(index) + 1) % len(mine)]
        foreign = _drawn(rng, rows, row["query_id"]) if len(by_query) > 1 else None
        found.append((rows[following]["explanation"] if following != index else None, foreign))
    return found


def _drawn(rng: random.Random, rows: Sequence[Row], query_id: str) -> str:
    while (other := rng.choice(rows))["query_id"] == query_id:
        pass
    return str(other["explanation"])


def _read(job: FaithfulnessJob) -> tuple[list[Row], list[ExplainedPassage]]:
    rows = read_explanations(job.explanations)
    queries = read_texts(job.queries, part="queries")
    passages = read_texts(job.passages, wanted={row["doc_id"] for row in rows})
    for line, row in enumerate(rows, start=1):
        for name, known, path in (("query_id", queries, job.queries), ("doc_id", passages, job.passages)):
            if row[name] not in known:
                raise InputError(f"{name} {row[name]!r} is not in {path}", path=job.explanations, line=line)
    pairs = [
        ExplainedPassage(
            queries[row["query_id"]],
            _scored_text(row, passages[row["doc_id"]]),
            row["score"] > 0,
            row["explanation"],
            *others,
        )
        for row, others in zip(rows, controls(rows), strict=True)
    ]
    return rows, pairs


def _scored_text(row: Row, passage: str) -> str:
    """Of a long document the window that won, else all of it."""
    window = row.get("window")
    return str(window["text"]) if isinstance(window, dict) and "text" in window else passage


def _measured(
    reranker: Reranker, rows: Sequence[Row], pairs: Sequence[ExplainedPassage], partial: Partial
) -> list[Row]:
    figures = partial.map(
        lambda window, _: measure(reranker, window),
        chunked(pairs, WINDOW),
        identity=list,
        desc="measure",
        unit="passage",
        total=len(pairs),
    )
    names = ("query_id", "doc_id")
    return [{name: row[name] for name in names} | found for row, found in zip(rows, figures, strict=True)]


def _check(job: FaithfulnessJob, rows: Sequence[Row], found: Sequence[Row]) -> None:
    """Says if the explanations seem to be another checkpoint's.

    Raises:
        InputError: none can be measured.
    """
    differences = [abs(row["score"] - one["score"]) for row, one in zip(rows, found, strict=True) if "score" in one]
    if not differences:
        reasons = " or ".join(dict.fromkeys(one["left_out"] for one in found))
        raise InputError(f"none of {len(found)} explanations can be measured: {reasons}", path=job.explanations)
    if median(differences) > FOREIGN:
        warn(
            f"{job.explanations}: the scores differ from this checkpoint's by {median(differences):.2f} (median): "
            "give the checkpoint, --max_length and --dtype that wrote them"
        )


def _document(job: FaithfulnessJob, reranker: Reranker, found: Sequence[Row]) -> dict[str, Any]:
    return {
        "checkpoint": str(reranker.model.path),
        "explanations": {"file": str(job.explanations), "sha256": sha256_file(job.explanations)},
        **summarise(found),
        "per_passage": list(found),
    }


def _plot(document: Mapping[str, Any], path: Path) -> None:
    from exaranker.evaluate import plots

    runs = [choice | {"name": CHOICES[choice["name"]]} for choice in document["choices"] if choice["means"]]
    plots.save(plots.means({"runs": runs, "measures": ["comprehensiveness", "sufficiency"]}), path)
