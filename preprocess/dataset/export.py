"""The rows of an explanation dataset as one file that other tools read: JSON Lines, Parquet, or the released TSV."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exaranker.errors import InputError, require
from exaranker.files import atomic_path, claim_outputs, open_output, write_text
from exaranker.preprocess.dataset.card import CARD, dataset_card, is_ours
from exaranker.preprocess.pairs.explained import NO_SOFT_LABEL, RELEASED_COLUMNS, taken_apart
from exaranker.preprocess.pairs.selection import chunks
from exaranker.schema import FIELD_TYPES, ExplainedPair, read_shard, verify
from exaranker.templates import EXARANKER

SOFT_LABEL = "soft_label"  # what `explain --engine given` calls the LLM's own P(relevant)
ROW_GROUP = 1_000  # rows of a Parquet file that are held in memory


@dataclass
class Exported:
    """What was written, counted while it went by."""

    rows: int = 0
    relevant: int = 0
    ambiguous: int = 0  # rows that nobody can take apart again if they are written in the released form
    explainers: Counter[str] = field(default_factory=Counter)

    def counted(self, rows: Iterable[ExplainedPair]) -> Iterator[ExplainedPair]:
        """Passes the rows on."""
        for row in rows:
            self.rows += 1
            self.relevant += row.relevant
            self.explainers[row.explainer] += 1
            self.ambiguous += taken_apart(EXARANKER.fill(row.query, row.passage)) is None
            yield row


def export_explanations(directory: str | Path, output: Path) -> Exported:
    """Writes a dataset's rows to `output`, by its suffix, and a Hugging Face dataset card beside it.

    Streaming; each file is written aside and renamed. JSON Lines and the TSV come back by `explain --engine given`.

    Raises:
        InputError: the folder is no complete dataset or a shard is damaged, the suffix is none of ours, or a README.md
            that is no card of ours lies beside the output.
    """
    write = _writer(output)
    card = output.parent / CARD
    if card.exists() and not is_ours(card):
        raise InputError("is not a card of ours", path=card, hint="give the output a folder of its own")
    with claim_outputs(output, card, inputs=[directory]):
        manifest = verify(directory)
        shards = (read_shard(Path(directory) / shard["file"]) for shard in manifest["shards"])
        exported = Exported()
        write(output, exported.counted(row for shard in shards for row in shard))
        write_text(card, dataset_card(output.name, manifest, exported.rows, exported.relevant, exported.explainers))
    return exported


Writer = Callable[[Path, Iterable[ExplainedPair]], None]


def _writer(output: Path) -> Writer:
    for suffix, write in WRITERS.items():
        if output.name.endswith(suffix):
            return write
    raise InputError("this suffix names no format", path=output, hint=f"one of {', '.join(WRITERS)}")


def plain(row: ExplainedPair) -> dict[str, Any]:
    """A row's fields as `explain --engine given` reads them; the soft label is None if the LLM was not asked."""
    fields = row._asdict()
    soft = fields.pop("llm_relevance")
    return fields | {SOFT_LABEL: None if soft == NO_SOFT_LABEL else soft}


def _write_jsonl(path: Path, rows: Iterable[ExplainedPair]) -> None:
    with open_output(path) as stream:
        for row in rows:
            stream.write(json.dumps(plain(row), ensure_ascii=False) + "\n")


def _write_released(path: Path, rows: Iterable[ExplainedPair]) -> None:
    """As the authors' scripts write it: Python's csv module with a tab, input and output in the reference's words."""
    with open_output(path) as stream:
        table = csv.writer(stream, delimiter="\t")
        table.writerow(RELEASED_COLUMNS)
        for row in rows:
            text = EXARANKER.fill(row.query, row.passage)
            table.writerow([row.relevant, text, EXARANKER.target(bool(row.relevant), row.explanation)])


def _write_parquet(path: Path, rows: Iterable[ExplainedPair]) -> None:
    arrow, parquet = require("pyarrow", "export"), require("pyarrow.parquet", "export")
    kinds = {str: arrow.string(), int: arrow.int64(), float: arrow.float32()}
    names = [name for name in FIELD_TYPES if name != "llm_relevance"]
    columns = [(name, kinds[FIELD_TYPES[name]]) for name in names]
    schema = arrow.schema([*columns, (SOFT_LABEL, arrow.float32())])
    with atomic_path(path) as aside, parquet.ParquetWriter(aside, schema) as writer:
        for group in chunks(rows, ROW_GROUP):
            writer.write_table(arrow.Table.from_pylist([plain(row) for row in group], schema=schema))


WRITERS: dict[str, Writer] = {
    ".jsonl": _write_jsonl,
    ".jsonl.gz": _write_jsonl,
    ".tsv": _write_released,
    ".tsv.gz": _write_released,
    ".parquet": _write_parquet,
}
