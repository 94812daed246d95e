"""An explained dataset made of the sample's real pairs, with explanations that need no LLM."""

from pathlib import Path

import pytest

from exaranker.files import sha256_file, write_json
from exaranker.schema import MANIFEST, SCHEMA_VERSION, ExplainedPair, to_example

SAMPLE = Path(__file__).parents[2] / "examples/sample"
VOCABULARY = SAMPLE / "spiece.model"


def sample_rows(count: int) -> list[ExplainedPair]:
    """The first pairs; the explanation tells whether the passage has a word of the query."""
    rows = []
    for number, line in enumerate((SAMPLE / "pairs.tsv").read_text().splitlines()[:count]):
        label, query, passage = line.split("\t")
        shared = [word for word in query.split() if word in passage.lower()]
        why = f"The passage speaks of {' and '.join(shared[:4])}." if shared else "The passage speaks of other things."
        given = {"query_id": f"q{number}", "doc_id": f"d{number}", "query": query, "passage": passage}
        rows.append(_explained(given, int(label), why))
    return rows


def write_dataset(directory: Path, rows: list[ExplainedPair], num_shards: int) -> Path:
    """TFRecord shards and a complete manifest, as `exaranker explain` leaves them."""
    import tensorflow as tf

    directory.mkdir(parents=True, exist_ok=True)
    shards = []
    for index in range(num_shards):
        path = directory / f"explanations-{index:05}-of-{num_shards:05}.tfrecord"
        mine = rows[index::num_shards]
        with tf.io.TFRecordWriter(str(path)) as writer:
            for row in mine:
                writer.write(to_example(row))
        digest = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        shards.append({"file": path.name, "rows": len(mine), **digest})
    manifest = {"schema_version": SCHEMA_VERSION, "complete": True, "num_shards": num_shards, "shards": shards}
    write_json(directory / MANIFEST, manifest)
    return directory


def _explained(given: dict[str, str], label: int, why: str) -> ExplainedPair:
    values: dict[str, object] = {**given, "label": label, "relevant": int(label > 0), "explanation": why}
    values |= {"explainer": "test", "finish_reason": "stop"}
    rest = {name: kind() for name, kind in ExplainedPair.__annotations__.items() if name not in values}
    return ExplainedPair(**(values | rest))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """128 explained pairs in 4 shards."""
    return write_dataset(tmp_path_factory.mktemp("explanations"), sample_rows(128), 4)
