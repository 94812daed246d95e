"""What the report shows beside results.json: scores by judgement, gains and losses, explanations with their grades."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from exaranker.errors import InputError
from exaranker.files import parse_json, read_lines, require_fields, sha256_file
from exaranker.trec import by_query, ranked, read_qrels, read_run

EXPLANATION_FIELDS = {"query_id": str, "doc_id": str, "rank": int, "score": float, "label": str, "explanation": str}
LOG_ODDS_TAG = "exaranker-"  # the run tag of `exaranker rerank`, whose scores are log-odds of relevance
BINS = 10  # of a reliability diagram, with equally many passages each
EXTREMES = 5  # queries that gain, and that lose, most

Grades = Mapping[tuple[str, str], int]


class Judged(NamedTuple):
    """A run's scores by kind of judgement, and its reliability where they are log-odds."""

    name: str
    scores: dict[str, list[float]]
    reliability: list[tuple[float, float, int]]  # mean probability, share of relevant passages, passages


def read_explanations(path: str | Path) -> list[dict[str, Any]]:
    """Reads the JSONL that `exaranker rerank --explain_top_k` writes.

    Raises:
        InputError: a line is not such an object, or its score is not finite.
    """
    rows = list(_json_rows(path, EXPLANATION_FIELDS))
    for number, row in enumerate(rows, start=1):
        if not math.isfinite(row["score"]):
            raise InputError(f"score is {row['score']}, expected a finite number", path=path, line=number)
    return rows


def read_curves(path: str | Path) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Reads a metrics.jsonl of `exaranker train`: by figure and split, (step, value).

    Raises:
        InputError: a line is not an object with step and split.
    """
    series: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in _json_rows(path, {"step": int, "split": str}):
        for name, value in row.items():
            if name not in ("step", "split") and isinstance(value, int | float) and math.isfinite(value):
                series.setdefault(name, {}).setdefault(row["split"], []).append((row["step"], value))
    return series


def _json_rows(path: str | Path, fields: Mapping[str, type]) -> Iterator[dict[str, Any]]:
    for number, line in read_lines(path):
        yield require_fields(parse_json(line, path=path, line=number), fields, path=path, line=number)


def unchanged(entry: Mapping[str, Any]) -> bool:
    """Whether a file that results.json names is still there as it was."""
    return Path(entry["file"]).is_file() and sha256_file(entry["file"]) == entry["sha256"]


def grades(results: Mapping[str, Any]) -> Grades:
    """Grade by (query id, passage id), where the qrels are still there."""
    entry = results["qrels"]
    rows = read_qrels(entry["file"]) if unchanged(entry) else ()
    return {(qrel.query_id, qrel.doc_id): qrel.relevance for qrel in rows}


def judged_scores(results: Mapping[str, Any], grade: Grades) -> Iterator[Judged]:
    """The scores of every run whose file is still there."""
    least = results["qrels"]["min_relevance"]
    for run in results["runs"]:
        if not (grade and unchanged(run)):
            continue
        scores: dict[str, list[float]] = {"relevant": [], "not relevant": [], "not judged": []}
        for doc in read_run(run["file"]):
            known = grade.get((doc.query_id, doc.doc_id))
            scores["not judged" if known is None else "relevant" if known >= least else "not relevant"].append(
                doc.score
            )
        yield Judged(run["name"], scores, reliability_bins(scores) if _has_log_odds(run["file"]) else [])


def reliability_bins(scores: Mapping[str, Sequence[float]]) -> list[tuple[float, float, int]]:
    """Judged passages in BINS groups by their probability.

    >>> reliability_bins({"relevant": [0.0], "not relevant": [0.0]})
    [(0.5, 0.0, 1), (0.5, 1.0, 1)]
    """
    pairs = [(score, True) for score in scores["relevant"]] + [(score, False) for score in scores["not relevant"]]
    pairs.sort()
    edges = [len(pairs) * number // BINS for number in range(BINS + 1)]
    groups = [pairs[low:high] for low, high in pairwise(edges) if low < high]
    return [
        (sum(_probability(s) for s, _ in group) / len(group), sum(r for _, r in group) / len(group), len(group))
        for group in groups
    ]


def extremes(results: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """The queries that gain most and those that lose most in a comparison: (query id, before, after)."""
    values = {run["name"]: run["per_query"][found["measure"]] for run in results["runs"]}
    before, after = values[found["against"]], values[found["run"]]
    rows = sorted(((q, before[q], after[q]) for q in before), key=lambda row: row[2] - row[1])
    return [row for row in rows[::-1][:EXTREMES] if row[2] > row[1]], [
        row for row in rows[:EXTREMES] if row[2] < row[1]
    ]


def explained(
    rows: Sequence[Mapping[str, Any]], results: Mapping[str, Any], grade: Grades
) -> dict[str, list[dict[str, Any]]]:
    """Explanations by query, in the order of the file, with grade and first-stage rank, and where they disagree."""
    first = _first_stage_ranks(results)
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        key = (row["query_id"], row["doc_id"])
        known, before = grade.get(key), first.get(key)
        relevant = None if known is None else known >= results["qrels"]["min_relevance"]
        more = {
            "grade": known,
            "first_rank": before,
            "movement": None if before is None else before - row["rank"],
            "disagrees": relevant is not None and relevant != (row["score"] > 0),
        }
        groups.setdefault(row["query_id"], []).append({**row, **more})
    return groups


def _first_stage_ranks(results: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    """Rank by (query id, passage id) in the first run, where it is still there."""
    run = results["runs"][0]
    docs = by_query(read_run(run["file"])) if unchanged(run) else {}
    return {
        (query_id, doc.doc_id): rank
        for query_id, rows in docs.items()
        for rank, doc in enumerate(ranked(rows), start=1)
    }


def _has_log_odds(path: str | Path) -> bool:
    _, line = next(read_lines(path))
    return line.split()[-1].startswith(LOG_ODDS_TAG)


def _probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, log_odds))))
