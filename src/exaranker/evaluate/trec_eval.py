"""The same figures a second time, by pyserini's trec_eval, when there is a Java that can run it.

It reads copies in plain TREC form: it takes a run without the word Q0 in its first line for MS MARCO's. Query ids have
a mark before them there, since trec_eval prints its means as those of a query `all`.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from ir_measures.measures import Measure

from exaranker.errors import InputError
from exaranker.evaluate.measures import RunResult, docs_of_run, is_count
from exaranker.texts.pyserini_java import environment, find_jdk, unavailable
from exaranker.trec import Qrel

TIMEOUT = 1800  # seconds
MARK = "="  # before every query id

# ir-measures' name -> trec_eval's, with the suffix a cutoff takes.
NAMES = {
    "nDCG": ("ndcg", "ndcg_cut"),
    "AP": ("map", "map_cut"),
    "RR": ("recip_rank", None),
    "R": (None, "recall"),
    "P": (None, "P"),
    "Success": (None, "success"),
    "Rprec": ("Rprec", None),
    "Bpref": ("bpref", None),
    "NumQ": ("num_q", None),
    "NumRet": ("num_ret", None),
    "NumRel": ("num_rel", None),
}


class DisagreementError(InputError):
    """ir-measures and trec_eval give different figures for the same files."""


class Query(NamedTuple):
    """How trec_eval is asked for a measure: `-m name -l level -M depth`, with `-c` unless it is a count."""

    name: str
    level: int
    depth: int | None
    totals: bool = False  # a count, summed, over the answered queries

    @property
    def printed(self) -> str:
        """The name in trec_eval's output."""
        return self.name.replace(".", "_")


def check(
    qrels: Sequence[Qrel], runs: Sequence[RunResult], measures: Sequence[Measure], min_relevance: int
) -> list[dict[str, float]]:
    """Asks trec_eval for every measure it has and compares means and every query to 4 decimals.

    Returns:
        for each run, trec_eval's mean by our measure's name, as printed; measures it does not have are left out.

    Raises:
        DisagreementError: a figure differs.
    """
    queries = {str(m): query for m in measures if (query := as_query(m, min_relevance))}
    with tempfile.TemporaryDirectory() as folder:
        files = [_plain_copies(Path(folder) / str(number), qrels, run) for number, run in enumerate(runs)]
        answers = _trec_eval(list(queries.values()), files)
    for run, values in zip(runs, answers, strict=True):
        for name, query in queries.items():
            theirs = {key: value for (asked, key), value in values.items() if asked == query}
            ours = {} if query.name == "num_q" else run.per_query[name]  # it is printed for all queries alone
            marked = {MARK + query_id: value for query_id, value in ours.items()}
            _agree(run.path, name, {**marked, "all": run.means[name]}, theirs)
    return [{name: values[query, "all"] for name, query in queries.items()} for values in answers]


def as_query(measure: Measure, min_relevance: int) -> Query | None:
    """trec_eval's form of an ir-measures measure, or None if it has none.

    >>> from ir_measures import RR
    >>> as_query(RR(rel=2) @ 10, min_relevance=1)
    Query(name='recip_rank', level=2, depth=10, totals=False)
    """
    parameters = dict(measure.params)
    cutoff, level = parameters.pop("cutoff", None), parameters.pop("rel", min_relevance)
    if parameters or measure.NAME not in NAMES:
        return None
    if is_count(measure):
        name = "num_rel_ret" if measure.NAME == "NumRet" and "rel" in measure.params else str(NAMES[measure.NAME][0])
        return Query(name, level, None, totals=True)
    whole, cut = NAMES[measure.NAME]
    if cutoff is None or measure.NAME == "RR":  # trec_eval cuts a reciprocal rank only by cutting the run
        return Query(whole, level, cutoff) if whole else None
    return Query(f"{cut}.{cutoff}", level, None) if cut else None


def describe() -> dict[str, Any]:
    """What stands in results.json about the second opinion."""
    reason = unavailable()
    return {"skipped": reason} if reason else {"pyserini": version("pyserini"), "java": str(find_jdk())}


def _plain_copies(folder: Path, qrels: Iterable[Qrel], run: RunResult) -> list[str]:
    folder.mkdir()
    qrels_file, run_file = folder / "qrels.txt", folder / "run.trec"
    lines = (f"{MARK}{qrel.query_id} 0 {qrel.doc_id} {qrel.relevance}\n" for qrel in qrels)
    qrels_file.write_text("".join(lines), encoding="utf-8")
    with run_file.open("w", encoding="utf-8") as stream:  # trec_eval sorts by score, whatever the rank says
        docs = docs_of_run(run.path, run.ignores_identical_ids)
        stream.writelines(f"{MARK}{doc.query_id} Q0 {doc.doc_id} 0 {doc.score!r} run\n" for doc in docs)
    return [str(qrels_file), str(run_file)]


def _trec_eval(queries: Sequence[Query], files: Sequence[list[str]]) -> list[dict[tuple[Query, str], float]]:
    """For each (qrels, run): values by measure and marked query id; the mean over judged queries has "all"."""
    groups: dict[tuple[int, int | None, bool], list[Query]] = {}
    for query in queries:
        groups.setdefault((query.level, query.depth, query.totals), []).append(query)
    calls = [[*_flags(group), *pair] for pair in files for group in groups.values()]
    outputs = iter(_run_child(calls))
    return [{k: v for group in groups.values() for k, v in _parse(next(outputs), group)} for _ in files]


def _run_child(calls: Sequence[Sequence[str]]) -> list[str]:
    """What trec_eval prints for each call."""
    child = subprocess.run(
        [sys.executable, "-P", "-c", _CHILD],
        input=json.dumps(calls),
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT,
    )
    if child.returncode:
        raise RuntimeError(f"pyserini's trec_eval failed: {child.stderr.strip()[-500:]}")
    return child.stdout.split(_END)[:-1]


def _flags(group: Sequence[Query]) -> list[str]:
    """The flags of one call; all queries of a group have the same level and depth, and count or do not."""
    complete = [] if group[0].totals else ["-c"]
    depth = [] if group[0].depth is None else ["-M", str(group[0].depth)]
    cutoffs: dict[str, list[str]] = {}  # of a measure that comes twice, trec_eval takes the first
    for name, _, cutoff in (query.name.partition(".") for query in group):
        cutoffs.setdefault(name, []).extend([cutoff] if cutoff else [])
    names = (word for name, cuts in cutoffs.items() for word in ("-m", f"{name}.{','.join(cuts)}" if cuts else name))
    return [*complete, "-q", "-l", str(group[0].level), *depth, *names]


def _parse(output: str, group: Sequence[Query]) -> Iterator[tuple[tuple[Query, str], float]]:
    asked = {query.printed: query for query in group}
    for line in output.splitlines():
        columns = [column.strip() for column in line.split("\t")]
        if len(columns) == 3 and columns[0] in asked:
            yield (asked[columns[0]], columns[1]), float(columns[2])


def _agree(path: str, measure: str, ours: Mapping[str, float], theirs: Mapping[str, float]) -> None:
    for key, value in ours.items():
        their = theirs.get(key, 0.0)  # trec_eval does not list the queries that a run leaves out
        if abs(value - their) > 0.5e-4 + 1e-6:  # it prints 4 decimals, and adds in another order
            query_id = key.removeprefix(MARK)
            raise DisagreementError(
                f"{path}: {measure} of {query_id!r} is {value:.6f} by ir-measures, {their:.4f} by trec_eval"
            )


_END = "-- end of call --"
_CHILD = f"""
import json, sys
from pyserini.eval.trec_eval import trec_eval
for arguments in json.load(sys.stdin):
    trec_eval(["trec_eval", *arguments])
    print({_END!r})
"""
