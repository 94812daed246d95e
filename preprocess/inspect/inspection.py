"""What an explanation dataset holds, counted in one pass over its shards."""

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from exaranker.files import parse_json, read_json, read_lines, require_fields, require_shape
from exaranker.preprocess.dataset.writer import RUN_FILE
from exaranker.schema import MANIFEST, ExplainedPair, read_shard, verify, verify_file

REJECTED_FIELDS = ("query", "passage", "label", "reason", "text")
ANYTHING = (dict, list, str, int, float, bool, type(None))  # the page escapes it
COUNTS = ("read", "duplicate", "conflicting_label", "repeated_ids", "blank")
RARE_COUNTS = {"mojibake": "encoded twice", "other_rank": "left out by rank"}
SHARD = {"pairs": int, "num_tokens": int, "engine": str, "repeatable": str, "rejected": {"reasons": {...: int}}}
LLM = {"llm": {"name": str, "digest": str}, "prompt": {"name": str}, "sampling": {"temperature": float}}
GIVEN = {"given": {"explainers": {...: int}, "file_sha256": str}}
BIN_WIDTH = 10  # words per bar of the length histogram


class Spent(NamedTuple):
    """What the shards cost whose times are known: those of other runs' folders may have lost their run.json."""

    seconds: float
    num_tokens: int
    pairs: int


@dataclass(frozen=True)
class Inspection:
    """A verified dataset's figures."""

    directory: Path
    manifest: dict[str, Any]
    examples: list[ExplainedPair]  # spread over the dataset
    lengths: Counter[int]  # explanations by length in words // BIN_WIDTH
    median_words: float
    labels: Counter[int]
    relevant: int
    spent: Spent

    @property
    def rows(self) -> int:
        return sum(shard["rows"] for shard in self.manifest["shards"])

    @property
    def pairs(self) -> int:
        return sum(shard["pairs"] for shard in self.manifest["shards"])

    @property
    def reasons(self) -> Counter[str]:
        counts = (Counter(shard["rejected"]["reasons"]) for shard in self.manifest["shards"])
        return sum(counts, Counter[str]())


def inspect(directory: str | Path, num_examples: int = 3) -> Inspection:
    """Verifies every checksum, those of the rejected rows' files too, then reads every row.

    Raises:
        InputError: the folder is not a complete dataset, or a file is not what the manifest says.
    """
    directory = Path(directory)
    manifest = verify(directory)
    require_shape(manifest, _shape_of(manifest), path=directory / MANIFEST)
    for record in _side_files(manifest):
        verify_file(directory, record)
    rows = sum(shard["rows"] for shard in manifest["shards"])
    wanted = {i * rows // num_examples for i in range(num_examples)} if num_examples else set()
    examples: list[ExplainedPair] = []
    words: Counter[int] = Counter()
    labels: Counter[int] = Counter()
    relevant = 0
    for number, row in enumerate(_rows(directory, manifest)):
        words[len(row.explanation.split())] += 1
        labels[row.label] += 1
        relevant += row.relevant
        if number in wanted:
            examples.append(row)
    lengths: Counter[int] = Counter()
    for count, times in words.items():
        lengths[count // BIN_WIDTH] += times
    median = statistics.median(words.elements()) if words else 0.0
    return Inspection(directory, manifest, examples, lengths, median, labels, relevant, _spent(directory, manifest))


def rejected_rows(directory: Path, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of the side files."""
    for record in _side_files(manifest):
        path = directory / record["file"]
        for number, line in read_lines(path):
            row = parse_json(line, path=path, line=number)
            yield require_fields(row, dict.fromkeys(REJECTED_FIELDS, ANYTHING), path=path, line=number)


def _shape_of(manifest: Any) -> dict[str, Any]:
    """What is shown of a manifest: whose explanations they are, counts, and each shard's."""
    settings, counts = (manifest.get(name) or () for name in ("settings", "input_counts"))
    source = GIVEN if "given" in settings else LLM if "llm" in settings else {}
    counted = dict.fromkeys((*COUNTS, *(name for name in RARE_COUNTS if name in counts)), int)
    return {"settings": {"input": {"name": str}, **source}, "input_counts": counted, "shards": [SHARD]}


def _side_files(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return [shard["rejected"] for shard in manifest["shards"] if "file" in shard["rejected"]]


def _rows(directory: Path, manifest: dict[str, Any]) -> Iterator[ExplainedPair]:
    for shard in manifest["shards"]:
        yield from read_shard(directory / shard["file"])


def _spent(directory: Path, manifest: dict[str, Any]) -> Spent:
    path = directory / RUN_FILE
    run = read_json(path) if path.is_file() else {"seconds": {}}
    require_shape(run, {"seconds": {...: float}}, path=path)
    seconds = run["seconds"]
    timed = [shard for shard in manifest["shards"] if shard["file"] in seconds]
    return Spent(
        sum(seconds[shard["file"]] for shard in timed),
        sum(shard["num_tokens"] for shard in timed),
        sum(shard["pairs"] for shard in timed),
    )
