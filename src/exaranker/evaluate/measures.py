"""Runs against qrels: measures over all judged queries, and how surely each run differs from the first.

Means follow `trec_eval -c`: every query of the qrels counts, one that a run leaves out scores 0. Docs are ranked as
trec_eval ranks them (single precision, ties by doc id descending), so that every provider of ir-measures sees the same
ranking; its own RR@10 would break ties the other way.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, NamedTuple

import ir_measures
from ir_measures.measures import Measure

from exaranker.errors import InputError, nearest
from exaranker.evaluate.significance import compare
from exaranker.files import sha256_file
from exaranker.trec import Qrel, ScoredDoc, by_query, ranked, read_qrels, read_run

RESULTS_VERSION = 1
KNOWN_MEASURES = ("nDCG@10", "RR@10", "MAP", "R@100", "P@10", "Success@5")  # offered for mistyped ones
QUERIES_AT_ONCE = 100  # ir-measures holds a run three times over; MS MARCO's has seven million lines
PACKAGES = ("exaranker", "ir-measures", "pytrec-eval-terrier", "scipy", "numpy")

PerQuery = dict[str, float]  # query id -> value


class RunResult(NamedTuple):
    """One run's values; `per_query` and `means` are keyed by the measure's name."""

    name: str
    path: str
    per_query: dict[str, PerQuery]
    means: dict[str, float]
    missing: list[str]  # judged queries the run does not answer
    unjudged: list[str]  # queries of the run that the qrels do not have


def parse_measures(names: Sequence[str], min_relevance: int) -> list[Measure]:
    """Reads ir-measures' names; binary measures without a `rel` of their own count grades >= min_relevance.

    >>> parse_measures(["nDCG@10", "MAP", "R(rel=3)@5"], min_relevance=2)
    [nDCG@10, AP(rel=2), R(rel=3)@5]

    Raises:
        InputError: there is no measure of that name, or nothing installed here computes it.
    """
    return [_parse_measure(name, min_relevance) for name in names]


def _parse_measure(name: str, min_relevance: int) -> Measure:
    try:
        measure = ir_measures.parse_measure(name)
        if min_relevance != 1 and "rel" in measure.SUPPORTED_PARAMS and "rel" not in measure.params:
            measure = measure(rel=min_relevance)
        supported = ir_measures.DefaultPipeline.supports(measure)  # also checks the parameters
    except (NameError, ValueError, SyntaxError, AssertionError, KeyError) as error:
        raise InputError(f"no measure {name!r}", hint=nearest(name, KNOWN_MEASURES)) from error
    if not supported:
        hint = f"it needs another of ir-measures' providers; computed here: {', '.join(KNOWN_MEASURES)} and others"
        raise InputError(f"measure {name!r} cannot be computed", hint=hint)
    return measure


def load_qrels(path: str | Path) -> list[Qrel]:
    """Reads all judgements."""
    return list(read_qrels(path))


def evaluate_run(qrels: Sequence[Qrel], path: str | Path, name: str, measures: Sequence[Measure]) -> RunResult:
    """Values of one run for every judged query.

    Raises:
        InputError: the run and the qrels have no query in common.
    """
    judged = dict.fromkeys(qrel.query_id for qrel in qrels)
    run = by_query(read_run(path))
    unjudged = [query_id for query_id in run if query_id not in judged]
    if len(unjudged) == len(run):
        raise InputError(
            f"none of its {len(run)} queries is judged: the run has {unjudged[0]!r}, the qrels {next(iter(judged))!r}",
            path=path,
            hint="do run and qrels belong to the same collection?",
        )
    per_query = _values(qrels, {query_id: run[query_id] for query_id in judged if query_id in run}, judged, measures)
    means = {measure: math.fsum(values.values()) / len(judged) for measure, values in per_query.items()}
    missing = [query_id for query_id in judged if query_id not in run]
    return RunResult(name, str(path), per_query, means, missing, unjudged)


def _values(
    qrels: Sequence[Qrel], run: Mapping[str, list[ScoredDoc]], judged: Iterable[str], measures: Sequence[Measure]
) -> dict[str, PerQuery]:
    per_query = {str(measure): dict.fromkeys(judged, 0.0) for measure in measures}
    judgements: dict[str, list[ir_measures.Qrel]] = {}
    for qrel in qrels:
        judgements.setdefault(qrel.query_id, []).append(ir_measures.Qrel(*qrel))
    waiting = iter(run)
    while query_ids := list(islice(waiting, QUERIES_AT_ONCE)):
        judged_here = list(chain.from_iterable(judgements[query_id] for query_id in query_ids))
        for metric in _calculate(measures, judged_here, _strictly_ordered(run[query_id] for query_id in query_ids)):
            per_query[str(metric.measure)][metric.query_id] = float(metric.value)
    return per_query


def _strictly_ordered(docs_by_query: Iterable[Sequence[ScoredDoc]]) -> list[ir_measures.ScoredDoc]:
    """The docs with scores that leave no tie to break."""
    return [
        ir_measures.ScoredDoc(doc.query_id, doc.doc_id, -float(rank))
        for docs in docs_by_query
        for rank, doc in enumerate(ranked(docs))
    ]


def _calculate(
    measures: Sequence[Measure], qrels: list[ir_measures.Qrel], docs: list[ir_measures.ScoredDoc]
) -> Iterator[ir_measures.Metric]:
    try:
        yield from ir_measures.iter_calc(list(measures), qrels, docs)
    except (CalledProcessError, ArithmeticError) as error:  # gdeval.pl (ERR) takes only numbers as query ids
        names = ", ".join(map(str, measures))
        raise InputError(f"ir-measures cannot compute {names} on these files: {error}") from error


def results(
    qrels_path: str | Path, qrels: Sequence[Qrel], runs: Sequence[RunResult], min_relevance: int, trec_eval: Any
) -> dict[str, Any]:
    """The JSON document of results: digests of the inputs, versions, values, comparisons with the first run."""
    return {
        "results_version": RESULTS_VERSION,
        "qrels": {
            "file": str(qrels_path),
            "sha256": sha256_file(qrels_path),
            "queries": len({qrel.query_id for qrel in qrels}),
            "judgements": len(qrels),
            "min_relevance": min_relevance,
        },
        "runs": [_run_json(run, None if run is runs[0] else runs[0]) for run in runs],
        "trec_eval": trec_eval,
        "versions": {package: version(package) for package in PACKAGES},
    }


def _run_json(run: RunResult, first: RunResult | None) -> dict[str, Any]:
    versus = None if first is None else {m: compare(first.per_query[m], run.per_query[m])._asdict() for m in run.means}
    return {
        "name": run.name,
        "file": run.path,
        "sha256": sha256_file(run.path),
        "means": run.means,
        "per_query": run.per_query,
        "missing_queries": run.missing,
        "unjudged_queries": run.unjudged,
        "versus_first": versus,
    }
