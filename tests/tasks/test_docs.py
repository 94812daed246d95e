"""The table of styles in docs/tasks.md is what the tasks make of one pair."""

from pathlib import Path

import pytest

from exaranker.tasks.styles import STYLES

DOCS = Path(__file__).parents[2] / "docs/tasks.md"
PAIR = {
    "query": "what is the shin bone",
    "passage": "The tibia, or shin bone, is the larger of the two bones below the knee.",
    "explanation": "The passage says that the tibia is the shin bone and where it lies.",
}
OTHER = {
    "query": "when was the bridge opened",
    "passage": "The bridge was opened in 1932.",
    "explanation": "The passage names the year in which the bridge was opened.",
}


@pytest.fixture
def table(register_rows, make_row, read_any) -> str:
    """One line a style: its input and its target."""
    rows = [make_row(1)._replace(**PAIR), make_row(3)._replace(**OTHER)]
    register_rows(rows, 1, settings={"relevance": {"name": "relevance"}})
    lines = ["| style | input | target |", "|---|---|---|"]
    for style in STYLES:
        row = read_any(f"exaranker_sample_{style}")[0]
        lines.append(f"| `{style}` | `{row['inputs_pretokenized']}` | `{row['targets_pretokenized']}` |")
    return "\n".join(lines) + "\n"


def test_every_style_has_its_worked_input_and_target(table):
    assert table in DOCS.read_text()
