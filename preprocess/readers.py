"""Labelled pairs from a file, streaming: one reader per format, the same record out of each."""

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exaranker.errors import InputError, nearest
from exaranker.files import read_lines
from exaranker.schema import Pair

MAX_SKIPPED_TRIPLES = 10  # the reference script skips 0 to 10 lines before each triple it takes


@dataclass(frozen=True)
class InputConfig:
    """How labelled data becomes pairs.

    `triples` says what a (query, positive, negative) line gives: "sampled" is the reference rule, one pair per
    chosen line, positives and negatives alternating, until there are `positives` of each; "full" gives both pairs.
    """

    positive_grade: int = 1
    triples: str = "sampled"
    positives: int = 15_000
    seed: int = 2

    def __post_init__(self) -> None:
        if self.triples not in ("sampled", "full"):
            raise InputError(f"pairs.triples is {self.triples!r}", hint=nearest(self.triples, ["sampled", "full"]))
        if self.positives < 1:
            raise InputError(f"pairs.positives is {self.positives}, expected at least 1")


def read_jsonl(path: str | Path) -> Iterator[Pair]:
    """Yields the rows of `{"query_id", "doc_id", "query", "passage", "label"}` lines; ids may be left out.

    Raises:
        InputError: a line is not such an object, or its label is not an integer.
    """
    for number, line in read_lines(path):
        yield _pair_of_json(line, path, number)


def read_tsv(path: str | Path) -> Iterator[Pair]:
    r"""Yields the rows of the reference TSV, `label \t query \t passage`; ids are digests of the texts.

    Raises:
        InputError: a line has another number of columns, or its label is not an integer.
    """
    for number, line in read_lines(path):
        label, query, passage = _columns(line, "label, query, passage", path, number)
        yield with_text_ids(query, passage, _integer(label, path, number))


def read_triples(path: str | Path, config: InputConfig) -> Iterator[Pair]:
    r"""Yields pairs of an MS MARCO triples file, `query \t positive \t negative`, by the rule of `config.triples`.

    Raises:
        InputError: a line has another number of columns, or the file has too few lines for `config.positives`.
    """
    rule = sampled_triples if config.triples == "sampled" else full_triples
    return rule(_triples(path), config, path)


def full_triples(triples: Iterator[tuple[str, str, str]], config: InputConfig, path: str | Path) -> Iterator[Pair]:
    for query, positive, negative in triples:
        yield with_text_ids(query, positive, config.positive_grade)
        yield with_text_ids(query, negative, 0)


def sampled_triples(triples: Iterator[tuple[str, str, str]], config: InputConfig, path: str | Path) -> Iterator[Pair]:
    """The reference rule: skip 0 to 10 lines, take one; its positive on even turns, its negative on odd ones."""
    rng = random.Random(config.seed)
    for turn in range(2 * config.positives):
        for _ in range(rng.randint(0, MAX_SKIPPED_TRIPLES)):
            next(triples, None)
        triple = next(triples, None)
        if triple is None:
            problem = f"ends after {(turn + 1) // 2} positives, pairs.positives asks for {config.positives}"
            raise InputError(problem, path=path, hint="ask for fewer, or use --gin.pairs.triples=\"'full'\"")
        query, positive, negative = triple
        is_positive = turn % 2 == 0
        yield with_text_ids(query, positive if is_positive else negative, config.positive_grade * is_positive)


def with_text_ids(query: str, passage: str, label: int) -> Pair:
    """A pair from a format without ids: equal texts get equal ids, wherever they come from."""
    return Pair(text_id(query), text_id(passage), query, passage, label)


def text_id(text: str) -> str:
    """
    >>> text_id("how tall is the eiffel tower")
    'a74d5ec31460'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _triples(path: str | Path) -> Iterator[tuple[str, str, str]]:
    for number, line in read_lines(path):
        yield _columns(line, "query, positive, negative", path, number)


def _columns(line: str, names: str, path: str | Path, number: int) -> tuple[str, str, str]:
    columns = line.split("\t")
    if len(columns) != 3:
        problem = f"expected 3 tab-separated columns ({names}), got {len(columns)}: {line[:60]!r}"
        raise InputError(problem, path=path, line=number)
    return columns[0], columns[1], columns[2]


def _integer(text: str, path: str | Path, number: int) -> int:
    try:
        return int(text)
    except ValueError as error:
        hint = "the label is the grade as judged, such as 0 or 1"
        raise InputError(f"label {text!r} is not an integer", path=path, line=number, hint=hint) from error


def _pair_of_json(line: str, path: str | Path, number: int) -> Pair:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"not a JSON object: {line[:60]!r}", path=path, line=number) from error
    if not isinstance(row, dict):
        raise InputError(f"expected a JSON object, got {line[:60]!r}", path=path, line=number)
    query, passage = (_text(row, field, path, number) for field in ("query", "passage"))
    label = row.get("label")
    if not isinstance(label, int) or isinstance(label, bool):
        raise InputError(f"label {label!r} is not an integer", path=path, line=number, hint="such as 0 or 1")
    query_id, doc_id = str(row.get("query_id") or text_id(query)), str(row.get("doc_id") or text_id(passage))
    return Pair(query_id, doc_id, query, passage, label)


def _text(row: dict[str, Any], field: str, path: str | Path, number: int) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        got = "is missing" if value is None else f"is {value!r}, expected a string"
        raise InputError(f"{field!r} {got}", path=path, line=number)
    return value


Reader = Callable[[], Iterator[Pair]]
