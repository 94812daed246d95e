"""A complete explanation dataset of 60 rows in three shards, as `exaranker explain` writes them."""

from pathlib import Path

import pytest
import seqio
import tensorflow as tf

from exaranker import schema
from exaranker.files import sha256_file, write_json

SPIECE = Path(seqio.__file__).parent / "test_data/sentencepiece/sentencepiece.model"
WORDS = "bone heart river stone cloud metal music plant ocean light".split()


def row(number: int) -> schema.ExplainedPair:
    """Row 7: query "what is a light", relevant, explained by "The passage names the light and its colour 7."."""
    word, relevant = WORDS[number % 10], number % 2
    return schema.ExplainedPair(
        query_id=f"q{number // 2}",
        doc_id=f"d{number}",
        query=f"what is a {word}",
        passage=f"The {word} is old. It has the number {number} and a colour.",
        label=3 * relevant,
        relevant=relevant,
        explanation=f"The passage names the {word} and its colour {number}.",
        explainer="llm",
        finish_reason="stop",
        num_tokens=9,
        mean_logprob=-0.5,
        llm_relevance=number / 60,
    )


def write_dataset(directory: Path, rows: list[schema.ExplainedPair], num_shards: int = 3) -> Path:
    shards = []
    for shard in range(num_shards):
        path = directory / f"explanations-{shard:05d}-of-{num_shards:05d}.tfrecord"
        part = rows[shard * len(rows) // num_shards : (shard + 1) * len(rows) // num_shards]
        with tf.io.TFRecordWriter(str(path)) as writer:
            for pair in part:
                writer.write(schema.to_example(pair))
        shards.append({"file": path.name, "rows": len(part), "bytes": path.stat().st_size, "sha256": sha256_file(path)})
    manifest = {"schema_version": schema.SCHEMA_VERSION, "complete": True, "num_shards": num_shards, "shards": shards}
    write_json(directory / schema.MANIFEST, manifest)
    return directory


@pytest.fixture(scope="module")
def rows():
    return [row(number) for number in range(60)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, rows):
    return write_dataset(tmp_path_factory.mktemp("dataset"), rows)


@pytest.fixture(autouse=True)
def clean_registry():
    """Leaves no task behind."""
    before = set(seqio.TaskRegistry.names()), set(seqio.MixtureRegistry.names())
    yield
    for registry, names in zip((seqio.TaskRegistry, seqio.MixtureRegistry), before, strict=True):
        for name in set(registry.names()) - names:
            registry.remove(name)
