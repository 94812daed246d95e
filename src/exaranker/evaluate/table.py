"""Tables of results as text: measures per run, and what separates each run from the first."""

from typing import Any


def table(results: dict[str, Any]) -> str:
    """One line per run and, below, one per run and measure with its paired tests against the first run."""
    runs, measures = results["runs"], list(results["runs"][0]["means"])
    width = max(len(run["name"]) for run in runs)
    lines = [" ".join([f"{'run':{width}}", *(f"{measure:>12}" for measure in measures), f"{'answered':>10}"])]
    total = results["qrels"]["queries"]
    for run in runs:
        values = (f"{run['means'][measure]:12.4f}" for measure in measures)
        lines.append(" ".join([f"{run['name']:{width}}", *values, f"{total - len(run['missing_queries']):>6}/{total}"]))
    for run in runs[1:]:
        lines += ["", f"{run['name']} against {runs[0]['name']}"]
        lines += [f"  {measure:>12} {_comparison(versus)}" for measure, versus in run["versus_first"].items()]
    return "\n".join(lines)


def _comparison(versus: dict[str, float]) -> str:
    return (
        f"{versus['difference']:+.4f} [{versus['low']:+.4f}, {versus['high']:+.4f}]  "
        f"t-test p={versus['p_t_test']:.4f}, randomisation p={versus['p_randomisation']:.4f}, "
        f"better/worse/equal {versus['better']}/{versus['worse']}/{versus['equal']}"
    )


def remarks(results: dict[str, Any]) -> str:
    """What a reader of the table has to know: queries without an answer, and passages that nobody judged."""
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
