"""An inspected dataset's figures as lines of text."""

from collections import Counter
from typing import Any

from exaranker.logs import printable
from exaranker.preprocess.inspect.inspection import BIN_WIDTH, RARE_COUNTS, Inspection, Spent
from exaranker.schema import ExplainedPair

BAR = 40  # characters of the longest bar


def report(found: Inspection, usd_per_hour: float | None = None) -> str:
    """The figures as text; what a terminal would obey in the texts is taken out."""
    irrelevant = found.rows - found.relevant
    lines = [
        f"{found.directory}: {len(found.manifest['shards'])} shards, every checksum holds",
        f"explained   {found.rows} of {found.pairs} pairs ({found.relevant} relevant, {irrelevant} not)",
        f"labels      {_counts(found.labels)}",
        *_origin(found.manifest),
        f"rejected    {found.pairs - found.rows}{_because(found.reasons)}",
        f"speed       {_speed(found.spent)}{_cost(found.spent, usd_per_hour)}",
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


def _origin(manifest: dict[str, Any]) -> list[str]:
    settings, counts = manifest["settings"], manifest["input_counts"]
    return [
        f"input       {settings['input']['name']}: {counts['read']} rows, {counts['duplicate']} duplicates, "
        f"{counts['conflicting_label']} with another label, {counts['repeated_ids']} repeated ids, "
        f"{counts['blank']} blank{_extra(counts)}",
        f"LLM         {_llm(settings)}",
        f"engine      {_among_shards(manifest, 'engine')}",
        f"repeatable  {_among_shards(manifest, 'repeatable')}",
    ]


def _llm(settings: dict[str, Any]) -> str:
    if "given" in settings:
        names = ", ".join(f"{name} {count}" for name, count in settings["given"]["explainers"].items())
        return f"none was asked: explanations of {names}, file {settings['given']['file_sha256'][:12]}"
    if "llm" not in settings:
        return "none: pairs without explanations"
    llm, prompt, temperature = settings["llm"], settings["prompt"], settings["sampling"]["temperature"]
    return f"{llm['name']} ({llm['digest'][:19]}), prompt {prompt['name']}, temperature {temperature}"


def _extra(counts: dict[str, Any]) -> str:
    """Counts that are rarely there."""
    return "".join(f", {counts[name]} {what}" for name, what in RARE_COUNTS.items() if counts.get(name))


def _among_shards(manifest: dict[str, Any], name: str) -> str:
    """The different values that the shards have."""
    return "; ".join(sorted({shard[name] for shard in manifest["shards"]}))


def _speed(spent: Spent) -> str:
    if not spent.seconds:
        return "unknown: no times in run.json"
    per_thousand = 1000 * spent.seconds / spent.pairs
    return f"{spent.num_tokens / spent.seconds:.0f} tokens/s, {per_thousand:.0f} s per 1,000 pairs"


def _cost(spent: Spent, usd_per_hour: float | None) -> str:
    if usd_per_hour is None or not spent.seconds:
        return ""
    dollars = usd_per_hour / 3600 * 1000 * spent.seconds / spent.pairs
    return f", ${dollars:.2f} per 1,000 pairs at ${usd_per_hour:g} an hour"


def _counts(counts: Counter[Any]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))


def _because(reasons: Counter[str]) -> str:
    return f" ({', '.join(f'{name} {count}' for name, count in reasons.most_common())})" if reasons else ""


def _example(row: ExplainedPair) -> list[str]:
    verdict = "relevant" if row.relevant else "not relevant"
    query, passage, explanation = map(printable, (row.query, row.passage, row.explanation))
    return ["", f"  query        {query}", f"  passage      {passage}", f"  {verdict:12} {explanation}"]
