"""Runs of different queries, such as the shards of a job, joined into one."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from exaranker.errors import InputError
from exaranker.files import open_output, read_lines
from exaranker.rank.outputs import EXPLANATIONS, explanations_of, say_what_is_there
from exaranker.rank.shards import JobShard
from exaranker.trec import read_run

SHARD = re.compile(r"(?P<job>.*)\.shard-(?P<index>\d{5})-of-(?P<count>\d{5})")


def merge(runs: Sequence[Path], output: Path) -> list[Path]:
    """Writes the runs' lines one after the other, and those of their explanations; returns what was written.

    Shards of a job come in their order, whatever the order given; explanations given with them are not runs.

    Raises:
        InputError: there is no run, a shard is missing or of another job, a query is in two runs, or only some are
            explained.
    """
    ordered = _in_order([path for path in runs if not path.name.endswith((EXPLANATIONS, ".partial"))])
    if not ordered:
        hint = "give the runs: their explanations are found beside them"
        raise InputError("this is no run", path=runs[0], hint=hint)
    _refuse_shared_queries(ordered)
    explained = [path for path in map(explanations_of, ordered) if path.is_file()]
    if explained and len(explained) < len(ordered):
        missing = next(path for path in map(explanations_of, ordered) if path not in explained)
        raise InputError("no such file, but other runs are explained", path=missing, hint="run that shard again")
    say_what_is_there(output, is_explained=bool(explained))
    _join(ordered, output)
    if explained:
        _join(explained, explanations_of(output))
    return [output, *([explanations_of(output)] if explained else [])]


def _in_order(runs: Sequence[Path]) -> list[Path]:
    """Shards by their index, all of one job; runs that are no shards as they are given."""
    named = {path: found for path in runs if (found := SHARD.fullmatch(path.name))}
    if not named:
        return list(runs)
    jobs = {(path.parent / found["job"], int(found["count"])) for path, found in named.items()}
    if len(jobs) > 1 or len(named) < len(runs):
        raise InputError("these runs are not the shards of one job", path=runs[0], hint="merge one job at a time")
    job, count = jobs.pop()
    every = [job.with_name(job.name + JobShard(index, count).suffix) for index in range(count)]
    if missing := [path for path in every if path not in named]:
        raise InputError(f"this shard is missing ({len(missing)} of {count} are)", path=missing[0], hint="give all")
    return every


def _refuse_shared_queries(runs: Iterable[Path]) -> None:
    found: dict[str, Path] = {}
    for path in runs:
        queries = {doc.query_id for doc in read_run(path)}
        if shared := sorted(queries & found.keys()):
            problem = f"query {shared[0]!r} is in {found[shared[0]]} too ({len(shared)} such queries)"
            raise InputError(problem, path=path, hint="merge runs of different queries")
        found |= dict.fromkeys(queries, path)


def _join(parts: Iterable[Path], output: Path) -> None:
    with open_output(output) as stream:
        for path in parts:
            stream.writelines(f"{line}\n" for _, line in read_lines(path))
