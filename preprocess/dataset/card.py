"""The Hugging Face dataset card of exported explanations: whose words they are, and of what."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exaranker.errors import require

CARD = "README.md"
TEMPLATE = Path(__file__).with_name("card.md.j2")
OURS = "<!-- written by exaranker export-explanations -->"
# https://huggingface.co/docs/hub/datasets-cards: size_categories.
SIZES = {"1K": 10**3, "10K": 10**4, "100K": 10**5, "1M": 10**6, "10M": 10**7, "100M": 10**8, "1B": 10**9}


def dataset_card(file: str, manifest: Mapping[str, Any], rows: int, relevant: int, explainers: Counter[str]) -> str:
    """The card's text: YAML for the hub, then what a reader wants to know.

    Raises:
        InputError: huggingface_hub is not installed.
    """
    hub: Any = require("huggingface_hub", "export")
    data = hub.DatasetCardData(
        license="other",
        task_categories=["text-ranking"],
        tags=["explanations", "reranking", "exaranker"],
        size_categories=[size_category(rows)],
        configs=[{"config_name": "default", "data_files": file}],
    )
    counts = {"rows": rows, "relevant": relevant, "rejected": sum(_rejected(manifest).values())}
    card = hub.DatasetCard.from_template(
        data,
        template_str=TEMPLATE.read_text(encoding="utf-8"),
        file=file,
        reader="parquet" if file.endswith(".parquet") else "csv" if ".tsv" in file else "json",
        counts=counts,
        explainers={code(name): count for name, count in explainers.most_common()},
        reasons={code(name): count for name, count in _rejected(manifest).most_common()},
        origin={name: code(value) for name, value in origin(manifest.get("settings", {})).items()},
        ours=OURS,
    )
    return f"{card}\n"


def is_ours(path: Path) -> bool:
    """Whether a file is a card that may be replaced."""
    return path.is_file() and OURS in path.read_text(encoding="utf-8", errors="replace")


def origin(settings: Mapping[str, Any]) -> dict[str, str]:
    """What the manifest says of where the explanations are from, by the name of the fact.

    >>> origin({"input": {"name": "pairs.tsv", "sha256": "1f"}, "engine": {"name": "none"}})
    {'pairs': 'pairs.tsv', 'sha256 of the selected pairs': '1f', 'engine': 'none'}
    """
    facts = {
        "pairs": ("input", "name"),
        "sha256 of the selected pairs": ("input", "sha256"),
        "LLM": ("llm", "name"),
        "digest of the LLM": ("llm", "digest"),
        "prompt": ("prompt", "name"),
        "sha256 of the prompt": ("prompt", "sha256"),
        "temperature": ("sampling", "temperature"),
        "sha256 of the file that the explanations were in": ("given", "file_sha256"),
        "engine": ("engine", "name"),
    }
    return {fact: str(settings[part][name]) for fact, (part, name) in facts.items() if name in settings.get(part, {})}


def size_category(rows: int) -> str:
    """The hub's category of a number of rows.

    >>> size_category(999), size_category(30_604)
    ('n<1K', '10K<n<100K')
    """
    bounds = list(SIZES.items())
    below = [name for name, bound in bounds if rows >= bound]
    if not below:
        return f"n<{bounds[0][0]}"
    return f"n>{bounds[-1][0]}" if len(below) == len(bounds) else f"{below[-1]}<n<{bounds[len(below)][0]}"


def code(text: object) -> str:
    """A name as Markdown shows it letter by letter, within a row of a table.

    >>> code("my`pairs|.tsv")
    '`my pairs .tsv`'
    """
    return f"`{' '.join(str(text).replace('`', ' ').replace('|', ' ').split())}`"


def _rejected(manifest: Mapping[str, Any]) -> Counter[str]:
    """Rows that filters objected to, by reason."""
    counts = (Counter(shard.get("rejected", {}).get("reasons", {})) for shard in manifest["shards"])
    return sum(counts, Counter[str]())
