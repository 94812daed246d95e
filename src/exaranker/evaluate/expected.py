"""Expected figures: conditions of a YAML file are run where they can be, and compared with what they must give."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import Any

from exaranker.errors import InputError
from exaranker.evaluate.collections import collection
from exaranker.evaluate.measure_names import parse_measures
from exaranker.evaluate.measures import evaluate_run, load_qrels
from exaranker.files import read_yaml, require_shape
from exaranker.files.shipped import shipped

SHAPE: dict[str, Any] = {"name": str, "commands": [str], "run": str, "qrels": str, "collection": str, "measure": str}
SHAPE |= {"min_relevance": int, "expected": float, "tolerance": float}
REQUIRED = frozenset({"name", "run", "expected", "tolerance"})


@dataclass(frozen=True)
class Condition:
    """One expected figure. `{output}`, `{sample}`, `{data}` and `{weights}` in its words stand for folders."""

    name: str
    run: str
    expected: float
    tolerance: float
    commands: Sequence[str] = ()
    qrels: str | None = None  # or the collection's
    collection: str | None = None
    measure: str | None = None
    min_relevance: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a condition: a value, or why it was not run."""

    condition: Condition
    value: float | None = None
    skipped: str = ""

    @property
    def holds(self) -> bool:
        """Whether it was not run, or gave what it must."""
        condition = self.condition
        return self.value is None or abs(self.value - condition.expected) <= condition.tolerance + 1e-9

    def __str__(self) -> str:
        condition = self.condition
        if self.value is None:
            return f"not run  {condition.name}: {self.skipped}"
        found = f"{self.value:.4f}, expected {condition.expected:.4f} ± {condition.tolerance:g}"
        return f"{'ok' if self.holds else 'MISSED':7}  {condition.name}: {found}"


def read_conditions(path: str | Path | None) -> list[Condition]:
    """The conditions of a file, or those that the package ships.

    Raises:
        InputError: the file is not a list of conditions.
    """
    where = path or files("exaranker.evaluate") / "expected.yaml"
    rows = read_yaml(str(where))
    if not isinstance(rows, list) or not rows:
        raise InputError("expected a list of conditions", path=str(where), hint=f"each with {', '.join(sorted(SHAPE))}")
    return [_condition(row, number, str(where)) for number, row in enumerate(rows, start=1)]


def _condition(row: Any, number: int, path: str) -> Condition:
    if not isinstance(row, dict) or not REQUIRED <= row.keys() <= SHAPE.keys():
        needed, others = (", ".join(sorted(names)) for names in (REQUIRED, SHAPE.keys() - REQUIRED))
        raise InputError(f"condition {number}: expected {needed} and of {others} what it needs", path=path)
    if not {"qrels", "collection"} & row.keys():
        raise InputError(f"condition {number}: qrels or collection is missing", path=path)
    require_shape(row, {name: SHAPE[name] for name in row}, path=path, place=f"condition {number}")
    if problem := _problem(row):
        raise InputError(f"condition {number}: {problem}", path=path)
    return Condition(**row)


def _problem(row: Mapping[str, Any]) -> str:
    if not (isfinite(row["expected"]) and isfinite(row["tolerance"])):
        return "expected and tolerance are finite numbers"
    if row["tolerance"] < 0:
        return f"tolerance is {row['tolerance']}, expected at least 0"
    if (level := row.get("min_relevance", 1)) < 1:
        return f"min_relevance is {level}, expected at least 1"
    foreign = [command for command in row.get("commands", ()) if command.split()[:1] != ["exaranker"]]
    return f"command {foreign[0]!r}, expected exaranker VERB" if foreign else ""


def check(conditions: Sequence[Condition], folders: Mapping[str, str | None]) -> Iterator[Outcome]:
    """Runs each condition whose folders are known and whose files are there."""
    known = {name: folder for name, folder in folders.items() if folder} | {"sample": str(shipped("examples/sample"))}
    for condition in conditions:
        missing = next(
            (name for name in ("data", "weights") if f"{{{name}}}" in _words(condition) and name not in known), None
        )
        if missing:
            yield Outcome(condition, skipped=f"give --{missing} DIR")
            continue
        yield _outcome(condition, known)


def _outcome(condition: Condition, folders: Mapping[str, str]) -> Outcome:
    for command in condition.commands:
        words = [_filled(word, folders, condition) for word in command.split()]
        absent = [word for word in words if word.startswith(tuple(_inputs(folders))) and not Path(word).exists()]
        if absent:
            return Outcome(condition, skipped=f"{absent[0]} is not there")
        done = subprocess.run(
            [sys.executable, "-m", "exaranker.cli", *words[1:]], capture_output=True, text=True, env=os.environ
        )
        if done.returncode:
            raise InputError(f"{condition.name}: {' '.join(words)} failed: {done.stderr.strip()[-400:]}")
    run = Path(_filled(condition.run, folders, condition))
    if not run.is_file() and (condition.commands or condition.run.startswith("{output}")):
        raise InputError(f"{condition.name}: no command of it wrote {condition.run}", hint="they name it as --output")
    if not run.is_file():
        return Outcome(condition, skipped=f"{run} is not there")
    return Outcome(condition, _value(condition, run, folders))


def _filled(word: str, folders: Mapping[str, str], condition: Condition) -> str:
    try:
        return word.format(**folders)
    except (KeyError, IndexError, ValueError) as error:
        known = ", ".join(f"{{{name}}}" for name in sorted({"data", "weights", *folders}))
        raise InputError(f"{condition.name}: {word!r} has unknown braces", hint=f"known: {known}") from error


def _inputs(folders: Mapping[str, str]) -> Iterator[str]:
    return (f"{folder}/" for name, folder in folders.items() if name != "output")


def _value(condition: Condition, run: Path, folders: Mapping[str, str]) -> float:
    of = collection(condition.collection) if condition.collection else None
    measure = condition.measure or (of.measure if of else "nDCG@10")
    level = condition.min_relevance or (of.min_relevance if of else 1)
    if condition.qrels is None:
        from exaranker.evaluate.collections import qrels

        path = qrels(of)  # type: ignore[arg-type]  # one of the two is there
    else:
        path = Path(_filled(condition.qrels, folders, condition))
    measures = parse_measures([measure], level)
    same = of.ignore_identical_ids if of else False
    return evaluate_run(load_qrels(path), run, condition.name, measures, same).means[str(measures[0])]


def _words(condition: Condition) -> str:
    return " ".join([*condition.commands, condition.run, condition.qrels or ""])
