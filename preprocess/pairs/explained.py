"""Pairs whose explanations exist already: JSON Lines with an `explanation`, or the authors' released TSVs.

A released file is written by Python's csv module with a tab as delimiter, below a first line of names, `label`, `input`
and `output`; input and output are in the words of the template `exaranker`. Rows that cannot be taken apart again are
kept, with the reason, for the list of rejected rows.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from exaranker.errors import InputError
from exaranker.files import read_lines
from exaranker.preprocess.pairs.columns import Record, csv_records
from exaranker.preprocess.pairs.json_rows import OTHER_RANK, JsonRow, label_of, pair_of, read_rows
from exaranker.preprocess.pairs.text import InputConfig, grade, text_id
from exaranker.schema import Pair
from exaranker.templates import EXARANKER, Template, pieces

RELEASED_COLUMNS = ["label", "input", "output"]
NOT_TAKEN_APART = "not_taken_apart"  # the reason of a released row whose input or output has not the template's words
OTHER_VERDICT = "other_verdict"  # the reason of a released row whose output opens with the other label's word
NO_SOFT_LABEL = -1.0


class GivenPair(NamedTuple):
    """A pair with an explanation that exists; of a row that is not understood, the whole input is the passage."""

    query_id: str
    doc_id: str
    query: str
    passage: str
    label: int
    explanation: str
    explainer: str
    soft_label: float = NO_SOFT_LABEL  # P(relevant) by whoever explained it
    problem: str = ""  # the reason why the row is no explained pair

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing to train on; a row with a problem is not dropped but listed."""
        return not self.problem and not (self.query.strip() and self.passage.strip())


def read_explained(
    path: str | Path, config: InputConfig, texts: bool = True, left_out: Counter[str] | None = None
) -> Iterator[GivenPair]:
    """Yields the rows of a released TSV, or of JSON Lines as `read_jsonl` reads them with an `explanation` each.

    With `texts` false, JSON rows hold the ids of query and passage, not their texts. Rows that are left out are counted
    in `left_out`.

    Raises:
        InputError: a row has another form, has no label, or no explanation.
    """
    if is_released(path):
        yield from _read_released(path, config)
        return
    _refuse_other_table(path)
    left_out = Counter() if left_out is None else left_out
    left_out.clear()
    with_soft_labels: bool | None = None
    for row in read_rows(path):
        if (label := label_of(row, config)) is None:
            left_out[OTHER_RANK] += 1
            continue
        given = _given(row, pair_of(row, label, texts), config.explainer)
        has_one = given.soft_label != NO_SOFT_LABEL
        if with_soft_labels not in (None, has_one):
            raise row.error("some rows have a soft_label and others have not", "give all or none")
        with_soft_labels = has_one
        yield given


def is_released(path: str | Path) -> bool:
    """Whether the first line is that of a released file."""
    first = next(read_lines(path))[1]
    return [name.strip('"') for name in first.split("\t")] == RELEASED_COLUMNS


def _refuse_other_table(path: str | Path) -> None:
    """A file that is called a table and is no JSON either gets the remedy of a table."""
    _, first = next(read_lines(path))
    if ".tsv" in Path(path).suffixes and not first.lstrip().startswith(("{", "[")):
        problem = f"not the first line of a released file: {first[:60]!r}"
        raise InputError(problem, path=path, line=1, hint="expected label, input and output, separated by tabs")


def taken_apart(text: str, template: Template = EXARANKER) -> tuple[str, str] | None:
    """The (query, passage) that the template's input was filled with, or None if there is no single answer.

    >>> taken_apart('Is the question: "why" answered by the document: "so."? Give an explanation.')
    ('why', 'so.')
    """
    [before, between, after] = [literal for literal, _ in pieces(template.input)]
    if not (text.startswith(before) and text.endswith(after)) or len(text) < len(before) + len(after):
        return None
    parts = text[len(before) : len(text) - len(after)].split(between)
    return (parts[0], parts[1]) if len(parts) == 2 else None


def verdict_and_reason(output: str, template: Template = EXARANKER) -> tuple[bool, str] | None:
    """(relevant, explanation) of a target in the template's words, or None.

    >>> verdict_and_reason("false. Explanation: It names no year.")
    (False, 'It names no year.')
    """
    for relevant in (True, False):
        opening = template.target(relevant, "").rstrip()
        if output.startswith(opening):
            return relevant, output.removeprefix(opening).strip()
    return None


def _read_released(path: str | Path, config: InputConfig) -> Iterator[GivenPair]:
    if config.relevant_ranks:
        raise InputError("released files have no ranks", path=path, hint="leave out --relevant_ranks")
    for record in csv_records(read_lines(path), path):
        if record.columns == RELEASED_COLUMNS and record.line == 1:
            continue
        if len(record.columns) != len(RELEASED_COLUMNS):
            problem = f"expected 3 columns (label, input, output), got {len(record.columns)}"
            hint = "" if record.columns else "remove this blank line"
            raise InputError(problem, path=path, line=record.line, hint=hint)
        yield _released(record, path, config)


def _released(record: Record, path: str | Path, config: InputConfig) -> GivenPair:
    label, text, output = record.columns
    relevant = grade(label, record, path)
    if relevant not in (0, 1):
        raise InputError(f"label {label!r}, expected 0 or 1", path=path, line=record.line)
    judged = max(1, config.positive_grade) if relevant else min(0, config.positive_grade - 1)
    pair, answer = taken_apart(text), verdict_and_reason(output)
    if pair is None or answer is None:
        return GivenPair("", text_id(text), "", text, judged, output, config.explainer, problem=NOT_TAKEN_APART)
    problem = "" if answer[0] == bool(relevant) else OTHER_VERDICT
    ids = text_id(pair[0]), text_id(pair[1])
    return GivenPair(*ids, *pair, judged, answer[1], config.explainer, problem=problem)


def _given(row: JsonRow, pair: Pair, explainer: str) -> GivenPair:
    if "explanation" not in row.fields:
        hint = "--engine given takes explanations that exist; without it an LLM is asked"
        raise row.error("'explanation' is missing", hint)
    texts = {name: row.checked(name, _or_empty(row.fields.get(name))) for name in ("explanation", "explainer")}
    return GivenPair(*pair, texts["explanation"].strip(), texts["explainer"] or explainer, _soft_label(row))


def _or_empty(value: Any) -> Any:
    return "" if value is None else value


def _soft_label(row: JsonRow) -> float:
    value = row.fields.get("soft_label")
    if value is None:
        return NO_SOFT_LABEL
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise row.error(f"soft_label is {value!r}"[:80] + ", expected a probability from 0 to 1")
    return float(value)
