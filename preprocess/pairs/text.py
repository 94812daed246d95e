"""Labelled pairs from one file of texts, streaming in constant memory; every reader gives the same record.

The other readers: `triples` (MS MARCO triples), `judged` (BEIR and TREC folders), `ir_datasets`, `explained` (pairs
whose explanations exist).
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from exaranker.checks import NonEmpty, Positive, Seed, check, one_of
from exaranker.errors import InputError
from exaranker.files.numbers import integer, number
from exaranker.preprocess.pairs.columns import QUOTES, Record, read_columns
from exaranker.schema import Pair

Reader = Callable[[], Iterator[Pair]]  # called again, it reads again from the start

TRIPLE_RULES = ("sampled", "full")
MAX_GRADE = 2**31 - 1  # grades are small; this only keeps what an int64 feature cannot hold out of the shards
PAIR_COLUMNS = ("label", "query", "passage")
LABEL_HINT = "the label is the grade as judged, such as 0 or 1"


@dataclass(frozen=True)
class InputConfig:
    """How labelled data becomes pairs.

    `triples` says what a (query, positive, negative) line gives: "sampled" is the reference rule, one pair per
    chosen line, positives and negatives alternating, until there are `positives` different positives; "full" gives
    both pairs.
    `split` is the file of a BEIR folder's `qrels/`. `quotes` says whether quotation marks in a TSV are CSV's.
    Of rows that were ranked rather than labelled, `relevant_ranks` count as relevant, `irrelevant_ranks` as not, and
    the others are left out; without them the rows' own labels count.
    `explainer` names who wrote explanations that exist already, where their rows do not.
    """

    positive_grade: int = 1
    triples: Annotated[str, one_of(TRIPLE_RULES)] = "sampled"
    positives: Positive = 15_000
    seed: Seed = 2
    split: NonEmpty = "train"
    quotes: Annotated[str, one_of(QUOTES)] = "auto"
    relevant_ranks: tuple[int, ...] | list[int] = ()
    irrelevant_ranks: tuple[int, ...] | list[int] = ()
    explainer: NonEmpty = "unknown"

    def __post_init__(self) -> None:
        check(self, "pairs.")
        if both := sorted(set(self.relevant_ranks) & set(self.irrelevant_ranks)):
            raise InputError(f"ranks {both} are in pairs.relevant_ranks and in pairs.irrelevant_ranks")
        if bool(self.relevant_ranks) != bool(self.irrelevant_ranks):
            hint = "such as (1,) and (5,)"
            raise InputError("pairs.relevant_ranks and pairs.irrelevant_ranks go together", hint=hint)


def read_tsv(path: str | Path, config: InputConfig | None = None) -> Iterator[Pair]:
    r"""Yields the rows of the reference TSV, `label \t query \t passage`; ids are digests of the texts.

    Raises:
        InputError: as `read_columns`, or a label is not an integer.
    """
    for record in read_columns(path, PAIR_COLUMNS, (config or InputConfig()).quotes):
        label, query, passage = record.columns
        yield with_text_ids(query, passage, grade(label, record, path))


def with_text_ids(query: str, passage: str, label: int) -> Pair:
    """A pair from a format without ids: equal texts get equal ids, wherever they come from."""
    return Pair(text_id(query), text_id(passage), query, passage, label)


def text_id(text: str) -> str:
    """The first 12 hexadecimal digits of the text's sha256.

    >>> text_id("how tall is the eiffel tower")
    'a74d5ec31460'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def whole_grade(value: float) -> int | None:
    """The grade that a number is, or None.

    >>> whole_grade(1.0), whole_grade(1.5), whole_grade(True), whole_grade(float("nan"))
    (1, None, 1, None)
    """
    return int(value) if abs(value) <= MAX_GRADE and value == int(value) else None


def grade(text: str, record: Record, path: str | Path) -> int:
    """The grade that a column spells, `1` or `1.0`.

    Raises:
        InputError: it spells no integer.
    """
    value = number(text)
    found = whole_grade(value) if value is not None else None
    if found is None:
        raise InputError(
            f"label {text[:60]!r} is not an integer", path=path, line=record.line, hint=_label_remedy(record)
        )
    return found


def _label_remedy(record: Record) -> str:
    if integer(record.columns[2]) is not None:
        return "the columns seem to be query, passage, label: a first line 'query\\tpassage\\tlabel' says so"
    if record.line == 1:
        return f"{LABEL_HINT}; a first line of names is 'label\\tquery\\tpassage', in any order"
    return LABEL_HINT
