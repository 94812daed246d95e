"""Figures of faithfulness over a run: means over queries, intervals, and paired tests of the explanation's choice."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from exaranker.evaluate.cells import p_text
from exaranker.evaluate.significance import bootstrap_intervals, compare, holm

MEASURES = ("comprehensiveness", "sufficiency", "agreement")
CHOICES = {  # how the sentences are chosen -> as a reader is told
    "explanation": "its explanation",
    "other_passage": "another passage's explanation",
    "other_query": "another query's explanation",
    "lead": "the first sentences",
    "bm25": "BM25's best sentences",
    "random": "random sentences",
    "occlusion": "sentences that count most",
}
CONTROLS = ("random", "other_passage", "other_query", "lead", "bm25")
WIDTH = 32  # columns of a table


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means per way of choosing, and the explanation's against each control's, query by query.

    A row is a passage: query_id and what `rank.faithfulness.measure` gives. The passages of a query are averaged first,
    as they are not independent.
    """
    used = [row for row in rows if "left_out" not in row]
    reasons = [row["left_out"] for row in rows if "left_out" in row]
    return {
        "passages": len(used),
        "queries": len({row["query_id"] for row in used}),
        "left_out": {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
        "measures": list(MEASURES),
        "choices": [_choice(used, name) for name in CHOICES],
        "comparisons": _comparisons(used),
    }


def table(summary: Mapping[str, Any]) -> str:
    """For a terminal: a line per way of choosing, and one per comparison."""
    lines = [_counts(summary), "", f"{'log-odds lost':{WIDTH}}{'without them':24}{'with them alone':24}agreement"]
    for choice in summary["choices"]:
        cells = [_cell(choice, measure) for measure in MEASURES]
        lines.append(f"{CHOICES[choice['name']]:{WIDTH}}{cells[0]:24}{cells[1]:24}{cells[2]}".rstrip())
    for measure in MEASURES:
        found = [one for one in summary["comparisons"] if one["measure"] == measure]
        lines += ["", f"{measure}: its explanation against", *map(_comparison, found)] if found else []
    return "\n".join(lines)


def query_means(rows: Sequence[Mapping[str, Any]], measure: str, choice: str) -> dict[str, float]:
    """The mean over each query's passages that have this figure.

    >>> rows = [{"query_id": "q1", "agreement": {"lead": value}} for value in (0.5, None, 1.0)]
    >>> query_means(rows, "agreement", "lead")
    {'q1': 0.75}
    """
    found: dict[str, list[float]] = {}
    for row in rows:
        if (value := row[measure].get(choice)) is not None:
            found.setdefault(row["query_id"], []).append(value)
    return {query_id: float(np.mean(values)) for query_id, values in found.items()}


def _choice(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    means: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for measure in MEASURES:
        if values := list(query_means(rows, measure, name).values()):
            lows, highs = bootstrap_intervals(np.array([values]))
            means[measure], intervals[measure] = float(np.mean(values)), (float(lows[0]), float(highs[0]))
    return {"name": name, "means": means, "intervals": intervals}


def _comparisons(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Over the queries that have both figures; `p_holm` corrects for the controls of a measure."""
    return [found for measure in MEASURES for found in _of_measure(rows, measure)]


def _of_measure(rows: Sequence[Mapping[str, Any]], measure: str) -> Iterator[dict[str, Any]]:
    ours = query_means(rows, measure, "explanation")
    found: list[dict[str, Any]] = []
    for control in CONTROLS:
        theirs = query_means(rows, measure, control)
        if both := [query_id for query_id in ours if query_id in theirs]:
            # `compare` gives the second minus the first
            compared = compare({q: theirs[q] for q in both}, {q: ours[q] for q in both})
            found.append({"measure": measure, "against": control, "queries": len(both), **compared._asdict()})
    for one, p_holm in zip(found, holm([one["p_t_test"] for one in found]), strict=True):
        yield one | {"p_holm": p_holm}


def _counts(summary: Mapping[str, Any]) -> str:
    told = f"{summary['passages']} passages of {summary['queries']} queries"
    reasons = ", ".join(f"{count} as {reason}" for reason, count in summary["left_out"].items())
    return f"{told} (left out: {reasons})" if reasons else told


def _cell(choice: Mapping[str, Any], measure: str) -> str:
    if measure not in choice["means"]:
        return ""
    low, high = choice["intervals"][measure]
    return f"{choice['means'][measure]:+.2f} [{low:+.2f}, {high:+.2f}]"


def _comparison(found: Mapping[str, Any]) -> str:
    return (
        f"  {CHOICES[found['against']]:{WIDTH - 2}}{found['difference']:+.2f} "
        f"[{found['low']:+.2f}, {found['high']:+.2f}]  p: t-test {p_text(found['p_t_test'])} "
        f"(Holm {p_text(found['p_holm'])}), randomisation {p_text(found['p_randomisation'])}"
    )
