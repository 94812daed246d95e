"""Runs against qrels: measures over all judged queries.

Means follow `trec_eval -c`: every query of the qrels counts, one that a run leaves out scores 0. Docs are ranked as
trec_eval ranks them (single precision, ties by doc id descending), so that every provider of ir-measures sees the same
ranking; its own RR@10 would break ties the other way.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from subprocess import CalledProcessError
from typing import NamedTuple

import ir_measures
from ir_measures.measures import Measure
from ir_measures.measures.base import SumAgg

from exaranker.errors import InputError
from exaranker.trec import Qrel, ScoredDoc, by_query, ranked, read_qrels, read_run

MAX_GRADE = 4  # of measures with exponential gains, which gdeval.pl computes
QUERIES_AT_ONCE = 100  # ir-measures holds a run three times over; MS MARCO's has seven million lines

PerQuery = dict[str, float]  # query id -> value


class RunResult(NamedTuple):
    """One run's values; `per_query` and `means` are keyed by the measure's name, in the order asked for."""

    name: str
    path: str
    per_query: dict[str, PerQuery]
    means: dict[str, float]  # of counts (NumQ, NumRet, ...) the total over the answered queries, as trec_eval says it
    missing: list[str]  # judged queries the run does not answer
    unjudged: list[str]  # queries of the run that the qrels do not have
    ignores_identical_ids: bool = False


def load_qrels(path: str | Path) -> list[Qrel]:
    """Reads all judgements."""
    return list(read_qrels(path))


def evaluate_run(
    qrels: Sequence[Qrel], path: str | Path, name: str, measures: Sequence[Measure], ignore_identical_ids: bool = False
) -> RunResult:
    """Values of one run for every judged query.

    Raises:
        InputError: the run and the qrels have no query in common, or a grade is above what a measure takes.
    """
    _check_grades(qrels, measures)
    judged = dict.fromkeys(qrel.query_id for qrel in qrels)
    run = by_query(docs_of_run(path, ignore_identical_ids))
    unjudged = [query_id for query_id in run if query_id not in judged]
    if len(unjudged) == len(run):
        raise InputError(
            f"none of its {len(run)} queries is judged: the run has {next(iter(run), None)!r}, "
            f"the qrels {next(iter(judged))!r}",
            path=path,
            hint="do run and qrels belong to the same collection?",
        )
    per_query = _values(qrels, {query_id: run[query_id] for query_id in judged if query_id in run}, judged, measures)
    means = {str(measure): _summary(measure, per_query[str(measure)]) for measure in measures}
    missing = [query_id for query_id in judged if query_id not in run]
    return RunResult(name, str(path), per_query, means, missing, unjudged, ignore_identical_ids)


def docs_of_run(path: str | Path, ignore_identical_ids: bool) -> Iterator[ScoredDoc]:
    """A run's rows; without those whose passage is the query itself, as in BEIR's ArguAna and Quora, if so asked."""
    return (doc for doc in read_run(path) if not (ignore_identical_ids and doc.doc_id == doc.query_id))


def is_count(measure: Measure) -> bool:
    """Whether a measure counts queries or passages: its summary is a total, and runs are not compared by it."""
    return isinstance(measure.aggregator(), SumAgg)


def _check_grades(qrels: Iterable[Qrel], measures: Iterable[Measure]) -> None:
    exponential = next((m for m in measures if m.NAME == "ERR" or m.params.get("dcg") == "exp-log2"), None)
    for query_id, doc_id, relevance in qrels if exponential is not None else ():
        if relevance > MAX_GRADE:
            raise InputError(
                f"{exponential} takes grades of {MAX_GRADE} at most: the qrels have {relevance} for doc {doc_id!r} "
                f"of query {query_id!r}",
                hint="map the grades to 0 to 4, or leave the measure out",
            )


def _summary(measure: Measure, values: PerQuery) -> float:
    total = math.fsum(values.values())
    return int(total) if is_count(measure) else total / len(values)


def _values(
    qrels: Sequence[Qrel], run: Mapping[str, list[ScoredDoc]], judged: Iterable[str], measures: Sequence[Measure]
) -> dict[str, PerQuery]:
    per_query = {str(measure): dict.fromkeys(judged, 0.0) for measure in measures}
    judgements: dict[str, list[Qrel]] = {}
    for qrel in qrels:
        judgements.setdefault(qrel.query_id, []).append(qrel)
    waiting = iter(run)
    while query_ids := list(islice(waiting, QUERIES_AT_ONCE)):
        # Queries are numbered, since gdeval.pl, which computes ERR, takes no other ids.
        judged_here = [
            ir_measures.Qrel(str(number), *qrel[1:])
            for number, query_id in enumerate(query_ids)
            for qrel in judgements[query_id]
        ]
        docs_here = _strictly_ordered(run[query_id] for query_id in query_ids)
        for metric in _calculate(measures, judged_here, docs_here):
            per_query[str(metric.measure)][query_ids[int(metric.query_id)]] = float(metric.value)
    return per_query


def _strictly_ordered(docs_by_query: Iterable[Sequence[ScoredDoc]]) -> list[ir_measures.ScoredDoc]:
    """The docs of numbered queries, with scores that leave no tie to break."""
    return [
        ir_measures.ScoredDoc(str(number), doc.doc_id, -float(rank))
        for number, docs in enumerate(docs_by_query)
        for rank, doc in enumerate(ranked(docs))
    ]


def _calculate(
    measures: Sequence[Measure], qrels: list[ir_measures.Qrel], docs: list[ir_measures.ScoredDoc]
) -> Iterator[ir_measures.Metric]:
    try:
        yield from ir_measures.iter_calc(list(measures), qrels, docs)
    except (CalledProcessError, ArithmeticError) as error:
        names = ", ".join(map(str, measures))
        raise InputError(f"ir-measures cannot compute {names} on these files: {error}") from error
