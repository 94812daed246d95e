"""What an explanation dataset holds, counted in one pass over its shards."""

import json
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exaranker.files import read_json
from exaranker.preprocess.dataset import RUN_FILE
from exaranker.schema import ExplainedPair, read_shard, verify

BIN_WIDTH = 10  # words per bar of the length histogram
BAR = 40  # characters of the longest bar


@dataclass(frozen=True)
class Inspection:
    """A verified dataset's figures. Seconds and tokens cover the shards whose times are known."""

    directory: Path
    manifest: dict[str, Any]
    examples: list[ExplainedPair]  # spread over the dataset
    lengths: Counter[int]  # explanations by length in words // BIN_WIDTH
    median_words: float
    labels: Counter[int]
    relevant: int
    seconds: float
    num_tokens: int

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
    """Verifies every checksum, then reads every row.

    Raises:
        InputError: the folder is not a complete dataset, or a shard is not what the manifest says.
    """
    directory = Path(directory)
    manifest = verify(directory)
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
    return Inspection(directory, manifest, examples, lengths, median, labels, relevant, *_spent(directory, manifest))


def report(found: Inspection, dollars_per_hour: float | None = None) -> str:
    """The figures as text."""
    irrelevant = found.rows - found.relevant
    lines = [
        f"{found.directory}: {len(found.manifest['shards'])} shards, every checksum holds",
        f"explained   {found.rows} of {found.pairs} pairs ({found.relevant} relevant, {irrelevant} not)",
        f"labels      {_counts(found.labels)}",
        *_origin(found.manifest),
        f"rejected    {found.pairs - found.rows}{_because(found.reasons)}",
        f"speed       {_speed(found)}{_cost(found, dollars_per_hour)}",
        f"length      median {found.median_words:.0f} words",
        *histogram(found.lengths),
    ]
    return "\n".join(lines + [block for row in found.examples for block in _example(row)])


def histogram(lengths: Counter[int]) -> list[str]:
    """One bar per BIN_WIDTH words."""
    top = max(lengths.values(), default=1)
    bars = ((i * BIN_WIDTH, lengths[i]) for i in range(max(lengths, default=-1) + 1))
    return [
        f"  {low:>4}-{low + BIN_WIDTH - 1:<4} {count:>7}  {'#' * round(BAR * count / top)}".rstrip()
        for low, count in bars
    ]


def rejected_rows(directory: Path, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of the side files."""
    for shard in manifest["shards"]:
        if "file" in shard["rejected"]:
            with (directory / shard["rejected"]["file"]).open(encoding="utf-8") as stream:
                yield from map(json.loads, stream)


def _origin(manifest: dict[str, Any]) -> list[str]:
    settings, counts = manifest["settings"], manifest["input_counts"]
    llm, prompt, temperature = settings["llm"], settings["prompt"], settings["sampling"]["temperature"]
    return [
        f"input       {settings['input']['name']}: {counts['read']} rows, {counts['duplicate']} duplicates, "
        f"{counts['conflicting_label']} with another label, {counts['repeated_ids']} repeated ids, "
        f"{counts['blank']} blank",
        f"LLM         {llm['name']} ({llm['digest'][:19]}), prompt {prompt['name']}, temperature {temperature}",
        f"engine      {', '.join(sorted({shard['engine'] for shard in manifest['shards']}))}",
    ]


def _rows(directory: Path, manifest: dict[str, Any]) -> Iterator[ExplainedPair]:
    for shard in manifest["shards"]:
        yield from read_shard(directory / shard["file"])


def _spent(directory: Path, manifest: dict[str, Any]) -> tuple[float, int]:
    path = directory / RUN_FILE
    seconds = read_json(path)["seconds"] if path.is_file() else {}
    timed = [shard for shard in manifest["shards"] if shard["file"] in seconds]
    return sum(seconds[shard["file"]] for shard in timed), sum(shard["num_tokens"] for shard in timed)


def _speed(found: Inspection) -> str:
    if not found.seconds:
        return "unknown: run.json is not here"
    per_thousand = 1000 * found.seconds / found.pairs
    return f"{found.num_tokens / found.seconds:.0f} tokens/s, {per_thousand:.0f} s per 1,000 pairs"


def _cost(found: Inspection, dollars_per_hour: float | None) -> str:
    if dollars_per_hour is None or not found.seconds:
        return ""
    dollars = dollars_per_hour / 3600 * 1000 * found.seconds / found.pairs
    return f", ${dollars:.2f} per 1,000 pairs at ${dollars_per_hour:g} an hour"


def _counts(counts: Counter[Any]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))


def _because(reasons: Counter[str]) -> str:
    return f" ({', '.join(f'{name} {count}' for name, count in reasons.most_common())})" if reasons else ""


def _example(row: ExplainedPair) -> list[str]:
    verdict = "relevant" if row.relevant else "not relevant"
    return ["", f"  query        {row.query}", f"  passage      {row.passage}", f"  {verdict:12} {row.explanation}"]
