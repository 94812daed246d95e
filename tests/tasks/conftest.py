"""Explanation datasets as `exaranker explain` writes them, and their tasks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import seqio
import tensorflow as tf

from exaranker import schema
from exaranker.files import sha256_file, write_json
from exaranker.files.shipped import shipped
from exaranker.tasks import get_task_or_mixture, register_dataset

VOCABULARY = shipped("examples/sample") / "spiece.model"
WORDS = "bone heart river stone cloud metal music plant ocean light".split()

Row = dict[str, Any]
Read = Callable[..., dict[int, Row]]


def row(number: int) -> schema.ExplainedPair:
    """Two rows a query, the second relevant: row 7 is of q3, "what is a stone", and its passage names the number 7."""
    word, relevant = WORDS[number // 2 % 10], number % 2
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
        llm_relevance=number / 64,
    )


def write(directory: Path, rows: list[schema.ExplainedPair], num_shards: int = 3, **manifest: Any) -> Path:
    """TFRecord shards and a complete manifest, to which `manifest` is added."""
    directory.mkdir(parents=True, exist_ok=True)
    shards = []
    for shard in range(num_shards):
        path = directory / f"explanations-{shard:05d}-of-{num_shards:05d}.tfrecord"
        part = rows[shard * len(rows) // num_shards : (shard + 1) * len(rows) // num_shards]
        with tf.io.TFRecordWriter(str(path)) as writer:
            for pair in part:
                writer.write(schema.to_example(pair))
        shards.append({"file": path.name, "rows": len(part), "bytes": path.stat().st_size, "sha256": sha256_file(path)})
    whole = {"schema_version": schema.SCHEMA_VERSION, "complete": True, "num_shards": num_shards, "shards": shards}
    write_json(directory / schema.MANIFEST, whole | manifest)
    return directory


def read_task(name: str, split: str = "train", lengths: dict[str, int] | None = None, **options: Any) -> dict[int, Row]:
    """The examples of a task in the order read, by their row in the dataset; texts are `str`."""
    options = {"shuffle": False, "trim_output_features": False} | options
    examples = get_task_or_mixture(name).get_dataset(lengths, split=split, **options).as_numpy_iterator()
    plain = ({k: v.decode() if isinstance(v, bytes) else v for k, v in example.items()} for example in examples)
    return {int(example["row"]): example for example in plain}


@pytest.fixture(scope="session")
def make_row() -> Callable[[int], schema.ExplainedPair]:
    return row


@pytest.fixture(scope="session")
def write_dataset() -> Callable[..., Path]:
    return write


@pytest.fixture(scope="session")
def vocabulary() -> Path:
    return VOCABULARY


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 rows in 3 shards; rows 12, 13, 20 and 21 are the validation split, the test split is empty."""
    return write(tmp_path_factory.mktemp("dataset"), [row(number) for number in range(60)])


@pytest.fixture
def read_any() -> Read:
    """Reads registered tasks."""
    return read_task


@pytest.fixture
def read(dataset: Path) -> Read:
    """Reads tasks of "sample", the dataset above."""
    register_dataset("sample", dataset, VOCABULARY)
    return read_task


@pytest.fixture
def register_rows(tmp_path: Path) -> Callable[..., list[str]]:
    """Registers "sample" anew: a dataset of other rows."""

    def register(rows: list[schema.ExplainedPair], num_shards: int = 3, **manifest: Any) -> list[str]:
        return register_dataset("sample", write(tmp_path, rows, num_shards, **manifest), VOCABULARY)

    return register


@pytest.fixture(autouse=True)
def clean_registry():
    """Leaves no task behind."""
    before = set(seqio.TaskRegistry.names()), set(seqio.MixtureRegistry.names())
    yield
    for registry, names in zip((seqio.TaskRegistry, seqio.MixtureRegistry), before, strict=True):
        for name in set(registry.names()) - names:
            registry.remove(name)
