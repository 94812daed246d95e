"""results.json: values, intervals and comparisons of runs, with the digests of what they were computed from."""

import csv
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from ir_measures.measures import Measure

from exaranker.errors import InputError, nearest
from exaranker.evaluate.measures import RunResult, is_count
from exaranker.evaluate.significance import bootstrap_intervals, compare_all, holm
from exaranker.files import named, open_output, read_json, sha256_file, sha256_json
from exaranker.trec import Qrel

RESULTS_VERSION = 3
PACKAGES = ("exaranker", "ir-measures", "pytrec-eval-terrier", "scipy", "numpy")
LEVEL = 0.05  # of significance, for the corrected p-values


def summarise(
    command: str,
    qrels_path: str | Path,
    qrels: Sequence[Qrel],
    runs: Sequence[RunResult],
    measures: Sequence[Measure],
    baseline: RunResult | None,
    min_relevance: int,
    trec_eval: Any,
) -> dict[str, Any]:
    """The JSON document of results and its digest; every pair of runs is compared, or every run with the baseline."""
    compared = [str(measure) for measure in measures if not is_count(measure)]
    results = {
        "results_version": RESULTS_VERSION,
        "command": command,
        "qrels": {
            "file": named(str(qrels_path)),
            "sha256": sha256_file(qrels_path),
            "queries": len({qrel.query_id for qrel in qrels}),
            "judgements": len(qrels),
            "min_relevance": min_relevance,
        },
        "measures": [str(measure) for measure in measures],  # in the order asked for: JSON's keys are sorted
        "baseline": baseline.name if baseline else None,
        "runs": [_run_json(run, compared) for run in runs],
        "comparisons": comparisons(runs, compared, baseline),
        "trec_eval": trec_eval,
        "versions": {package: version(package) for package in PACKAGES},
    }
    return {**results, "sha256": sha256_json(results)}


def comparisons(
    runs: Sequence[RunResult], measures: Sequence[str], baseline: RunResult | None = None
) -> list[dict[str, Any]]:
    """Paired tests of every pair and measure; `p_holm` corrects the t-test's p for the number of all of them."""
    pairs = combinations(runs, 2) if baseline is None else ((baseline, run) for run in runs if run is not baseline)
    rows = [(first, run, measure) for first, run in pairs for measure in measures]
    if not rows:
        return []
    found = compare_all(np.array([_values(run, m) - _values(first, m) for first, run, m in rows]))
    corrected = holm([comparison.p_t_test for comparison in found])
    return [
        {"run": run.name, "against": first.name, "measure": measure, **comparison._asdict(), "p_holm": p_holm}
        for (first, run, measure), comparison, p_holm in zip(rows, found, corrected, strict=True)
    ]


def named_run(runs: Sequence[RunResult], name: str) -> RunResult:
    """The run of this name or file.

    Raises:
        InputError: there is none.
    """
    for run in runs:
        if name in (run.name, run.path):
            return run
    raise InputError(f"--baseline {name!r} is none of the runs", hint=nearest(name, [run.name for run in runs]))


def read_results(path: str | Path) -> dict[str, Any]:
    """Reads a results.json.

    Raises:
        InputError: it is not one, of another version, or not as it was written.
    """
    results = read_json(path)
    found = results.get("results_version") if isinstance(results, dict) else None
    if found != RESULTS_VERSION:
        raise InputError(f"results version {found!r}, expected {RESULTS_VERSION}", path=path, hint="evaluate again")
    if results.pop("sha256", None) != sha256_json(results):
        problem = "is not what `exaranker evaluate` wrote (its digest differs)"
        raise InputError(problem, path=path, hint="evaluate again")
    return results


def write_per_query(path: str | Path, results: dict[str, Any]) -> None:
    """A CSV with a row for every run and judged query, and a column for every measure."""
    with open_output(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["run", "query_id", *results["measures"]])
        writer.writerows(_per_query_rows(results))


def _per_query_rows(results: dict[str, Any]) -> Iterator[list[str]]:
    for run in results["runs"]:
        columns = [run["per_query"][measure] for measure in results["measures"]]
        for query_id in columns[0]:
            yield [run["name"], query_id, *(repr(values[query_id]) for values in columns)]


def _run_json(run: RunResult, compared: Sequence[str]) -> dict[str, Any]:
    return {
        "name": run.name,
        "file": named(run.path),
        "sha256": sha256_file(run.path),
        "means": run.means,
        "intervals": _intervals(run, compared),
        "per_query": run.per_query,
        "missing_queries": run.missing,
        "unjudged_queries": run.unjudged,
        "ignores_identical_ids": run.ignores_identical_ids,
    }


def _intervals(run: RunResult, measures: Sequence[str]) -> dict[str, tuple[float, float]]:
    """95 % bootstrap intervals of the means over queries."""
    if not measures:
        return {}
    lows, highs = bootstrap_intervals(np.array([_values(run, measure) for measure in measures]))
    return dict(zip(measures, zip(lows.tolist(), highs.tolist(), strict=True), strict=True))


def _values(run: RunResult, measure: str) -> np.ndarray:
    """By query, in the order of the qrels, which all runs share."""
    return np.array(list(run.per_query[measure].values()))
