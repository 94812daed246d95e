"""Tables of results: means with marks of significance, and every comparison."""

from itertools import groupby
from typing import Any

from exaranker.evaluate.cells import answered, cells, effect_text, letters, note, p_text
from exaranker.evaluate.markup import latex, markdown

FORMATS = ("text", "markdown", "latex")
MAX_LISTED = 60  # lines of comparisons in a terminal; 40 runs have 780 pairs


def table(results: dict[str, Any], form: str = "text") -> str:
    """Means per run, and what separates the runs, in one of FORMATS."""
    return {"text": text, "markdown": markdown, "latex": latex}[form](results)


def text(results: dict[str, Any]) -> str:
    """For a terminal: one line per run, below it one per comparison."""
    shown = cells(results)
    marked = any(cell.marks for row in shown for cell in row)
    names = [f"{letters(results)[run['name']]} {run['name']}" if marked else run["name"] for run in results["runs"]]
    room = max((len(cell.marks) for row in shown for cell in row), default=0)
    columns = [f"{cell.value:>12}{cell.marks:{room}}" for row in shown for cell in row]
    count = len(results["measures"])
    rows = [columns[start : start + count] for start in range(0, len(columns), count)]
    width = max(map(len, ["run", *names]))
    header = [f"{'run':{width}}", *(f"{m:>12}{'':{room}}" for m in results["measures"]), f"{'answered':>10}"]
    lines = [" ".join(header)]
    for name, row, run in zip(names, rows, results["runs"], strict=True):
        lines.append(" ".join([f"{name:{width}}", *row, f"{answered(results, run):>10}"]))
    return "\n".join([*lines, *_listed(results), *(["", note(results)] if note(results) else [])])


def _listed(results: dict[str, Any]) -> list[str]:
    """Comparisons grouped by pair, as many as a terminal holds."""
    found = results["comparisons"]
    if len(found) > MAX_LISTED:
        return ["", f"{len(found):,} comparisons: --output keeps them all, --baseline RUN makes fewer"]
    lines = []
    for (run, first), group in groupby(found, key=lambda c: (c["run"], c["against"])):
        lines += ["", f"{run} against {first}", *(f"  {c['measure']:>12} {_comparison(c)}" for c in group)]
    return lines


def _comparison(found: dict[str, Any]) -> str:
    return (
        f"{found['difference']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]  "
        f"d_z {effect_text(found['effect_size'])}  "
        f"p: t-test {p_text(found['p_t_test'])} (Holm {p_text(found['p_holm'])}), "
        f"randomisation {p_text(found['p_randomisation'])}  "
        f"better/worse/equal {found['better']}/{found['worse']}/{found['equal']}"
    )


def remarks(results: dict[str, Any]) -> str:
    """What a reader should know beside the figures: queries left out, and what trec_eval says."""
    lines = []
    for run in results["runs"]:
        name, missing, unjudged = run["name"], run["missing_queries"], run["unjudged_queries"]
        if missing:
            lines.append(f"{name}: {len(missing)} judged queries are not answered and score 0: {_some(missing)}")
        if unjudged:
            lines.append(f"{name}: {len(unjudged)} queries are not in the qrels and not counted: {_some(unjudged)}")
    second = results["trec_eval"]
    if "skipped" in second:
        return "\n".join([*lines, f"trec_eval was not asked: {second['skipped']}"])
    asked = ", ".join(second["means"][0])
    agreed = f"agrees to 4 decimals on {asked}" if asked else "has none of these measures"
    return "\n".join([*lines, f"trec_eval (pyserini {second['pyserini']}, {second['java']}) {agreed}"])


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
