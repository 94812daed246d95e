"""Our explanations beside those that another LLM wrote for the same pairs: length, overlap, agreement with the label.

    exaranker explain --pairs reference.jsonl --output_dir out/ours --limit 64 --balance
    python benchmarks/compare_explanations.py out/ours --reference reference.jsonl [--json FILE]

The reference is JSONL pairs with an "explanation" each. Pairs are matched by their texts; those that our filters
rejected are compared too, from the rejected rows' files, since leaving them out would flatter ours.
Where "consistent" is 1, no text argues in so many words for the other label (the `contradiction` filter).
"""

import argparse
import json
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from exaranker.errors import InputError
from exaranker.files import read_lines, write_json
from exaranker.preprocess.filters.rules import FILTERS, Candidate, copied_share, reason_to_reject, words
from exaranker.preprocess.inspect.inspection import rejected_rows
from exaranker.preprocess.pairs.json_rows import read_jsonl
from exaranker.schema import read_shard, shard_paths, verify

Key = tuple[str, str]  # question and passage


class Figures(NamedTuple):
    """One column of the table; shares are means over texts, in [0, 1]."""

    texts: int
    words_median: float
    words_p90: float
    copied_5grams: float  # of the text's 5-grams, those that the passage has
    passage_words: float  # of the text's words, those that the passage has
    query_words: float  # of the question's words, those that the text has
    consistent: float
    passes_filters: float


def ours(directory: Path) -> dict[Key, Candidate]:
    """Every text of a dataset, kept or rejected, by its pair."""
    manifest = verify(directory)
    texts = {
        (row.query, row.passage): Candidate(
            row.query, row.passage, bool(row.relevant), row.explanation, row.finish_reason
        )
        for path in shard_paths(directory)
        for row in read_shard(path)
    }
    positive_grade = manifest["settings"]["positive_grade"]
    for row in rejected_rows(directory, manifest):
        finish = "length" if row["reason"] == "cut_off" else "stop"
        relevant = row["label"] >= positive_grade
        candidate = Candidate(row["query"], row["passage"], relevant, row["text"], finish)
        texts[row["query"], row["passage"]] = candidate
    return texts


def reference(path: Path, own: dict[Key, Candidate]) -> Iterator[Candidate]:
    """The reference's texts for the same pairs, with the label that ours were given.

    Raises:
        InputError: a line is no pair, or has no explanation.
    """
    for pair, (number, line) in zip(read_jsonl(path), read_lines(path), strict=True):
        text = json.loads(line).get("explanation")
        if not isinstance(text, str):
            raise InputError("the pair has no 'explanation'", path=path, line=number)
        if (known := own.get((pair.query, pair.passage))) is not None:
            yield known._replace(text=text, finish_reason="stop")


def figures(candidates: Sequence[Candidate]) -> Figures:
    lengths = [len(candidate.text.split()) for candidate in candidates]
    return Figures(
        texts=len(candidates),
        words_median=statistics.median(lengths),
        words_p90=sorted(lengths)[int(0.9 * (len(lengths) - 1))],
        copied_5grams=_mean(candidates, lambda one: copied_share(one.text, one.passage)),
        passage_words=_mean(candidates, lambda one: share(words(one.text), words(one.passage))),
        query_words=_mean(candidates, lambda one: share(words(one.query), words(one.text))),
        consistent=_mean(candidates, lambda one: reason_to_reject(one, ["contradiction"]) is None),
        passes_filters=_mean(candidates, lambda one: reason_to_reject(one, tuple(FILTERS)) is None),
    )


def share(tokens: Sequence[str], among: Sequence[str]) -> float:
    """The share of the tokens that are among the others.

    >>> share(["a", "b", "b", "c"], ["b", "d"])
    0.5
    """
    known = set(among)
    return sum(token in known for token in tokens) / len(tokens) if tokens else 0.0


def table(columns: dict[str, Figures]) -> str:
    lines = [f"{'':16}" + "".join(f"{name:>24}" for name in columns)]
    for field in Figures._fields:
        values = (getattr(column, field) for column in columns.values())
        lines.append(
            f"{field:16}" + "".join(f"{value:24.3f}" if field != "texts" else f"{value:24}" for value in values)
        )
    return "\n".join(lines)


def compare(directory: Path, path: Path) -> dict[str, Figures]:
    """Columns of figures, ours and theirs, over all pairs and by label.

    Raises:
        InputError: no pair of the dataset is in the reference.
    """
    own = ours(directory)
    theirs = list(reference(path, own))
    if not theirs:
        raise InputError("none of the dataset's pairs is in the reference", path=path, hint="explain its pairs first")
    matched = [own[one.query, one.passage] for one in theirs]
    columns = {"ours": matched, "reference": theirs}
    for name, relevant in (("relevant", True), ("irrelevant", False)):
        for who, column in (("ours", matched), ("reference", theirs)):
            columns[f"{who}, {name}"] = [one for one in column if one.relevant is relevant]
    return {name: figures(column) for name, column in columns.items() if column}


def _mean(candidates: Sequence[Candidate], value: Callable[[Candidate], float]) -> float:
    return statistics.fmean(map(value, candidates))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "directory", type=Path, help="a dataset that `exaranker explain` wrote from the reference's pairs"
    )
    parser.add_argument("--reference", type=Path, required=True, help="JSONL pairs with an explanation each")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    columns = compare(args.directory, args.reference)
    print(table(columns))
    if args.json:
        write_json(args.json, {name: column._asdict() for name, column in columns.items()})


if __name__ == "__main__":
    main()
