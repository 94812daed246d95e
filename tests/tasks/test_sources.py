"""Reading: splits by query, order, shards, rows that are left out, and plain tf.data on the same files."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from exaranker import schema
from exaranker.tasks import get_task_or_mixture
from exaranker.tasks.reading import input_error
from exaranker.tasks.sources import partners


def test_plain_tf_data_reads_the_same_rows(dataset, read):
    records = tf.data.TFRecordDataset(schema.shard_paths(dataset))
    rows = records.map(lambda record: tf.io.parse_single_example(record, schema.feature_description()))
    explanations = [row["explanation"].decode() for row in rows.as_numpy_iterator()]
    assert len(explanations) == 60
    for number, example in read("exaranker_sample_label_explanation").items():
        assert example["targets_pretokenized"].endswith(explanations[number])


def test_splits_are_by_query_and_share_none(read):
    rows = {split: list(read("exaranker_sample_label", split)) for split in ("train", "validation", "test")}
    assert rows["validation"] == [12, 13, 20, 21]
    assert rows["test"] == []
    assert sorted(rows["train"] + rows["validation"]) == list(range(60))


def test_ids_and_labels_pass_through(read):
    example = read("exaranker_sample_label_explanation")[7]
    names = ("query_id", "doc_id", "query", "label", "relevant", "row")
    assert [example[name] for name in names] == ["q3", "d7", "what is a stone", 3, 1, 7]


def test_the_order_is_the_same_every_time(read):
    plain = list(read("exaranker_sample_label"))
    # SeqIO takes 16 records of each shard of 20 in turn; 12, 13, 20 and 21 are held out.
    first = [*range(12), 14, 15, *range(22, 36), *range(40, 56)]
    assert plain == [*first, *range(16, 20), *range(36, 40), *range(56, 60)]
    assert list(read("exaranker_sample_label")) == plain
    shuffled = list(read("exaranker_sample_label", shuffle=True, seed=3))
    assert shuffled != plain
    assert list(read("exaranker_sample_label", shuffle=True, seed=3)) == shuffled
    assert list(read("exaranker_sample_label", shuffle=True, seed=4)) != shuffled


@pytest.mark.parametrize("num_shards", [1, 2, 3, 5])
def test_shards_are_disjoint_and_whole(read, num_shards):
    """Up to three are whole files; of five each takes every fifth row."""
    infos = [seqio.ShardInfo(index, num_shards) for index in range(num_shards)]
    rows = [number for info in infos for number in read("exaranker_sample_label", shard_info=info)]
    assert sorted(rows) == sorted(read("exaranker_sample_label"))


def test_epochs_repeat_every_row(read):
    once = list(read("exaranker_sample_label"))
    twice = get_task_or_mixture("exaranker_sample_label").get_dataset(None, seed=0, num_epochs=2)
    assert sorted(row["row"] for row in twice.as_numpy_iterator()) == sorted(2 * once)


def test_a_shard_without_rows(register_rows, make_row, read):
    register_rows([make_row(number) for number in range(2)])
    assert list(read("exaranker_sample_label")) == [0, 1]
    assert list(read("exaranker_sample_mismatched")) == []


class Latin1(str):
    """A text that is written in another encoding."""

    def encode(self) -> bytes:
        return super().encode("latin1")


@pytest.mark.parametrize(
    ("passage", "is_utf8"),
    [(Latin1("caf\xe9"), False), ("\ufeffcaf\xe9 \ufffd 日本 \U0001f98b\0", True)],
    ids=["latin1", "utf8"],
)
def test_a_text_that_is_not_utf8_is_named(register_rows, make_row, read_any, passage, is_utf8):
    rows = [make_row(number) for number in range(4)]
    register_rows([*rows[:3], rows[3]._replace(passage=passage)])
    if is_utf8:
        assert passage in read_any("exaranker_sample_label")[3]["inputs_pretokenized"]
        return
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        read_any("exaranker_sample_label")
    told = str(input_error(caught.value))
    assert told == "passage of row 3 is not UTF-8 (verify the dataset with: exaranker inspect DIR)"


def test_partners():
    groups, queries = np.array([1, 1, 1, 1, 0, 0, 2]), np.array(list("aabbabc"))
    assert partners(groups, queries).tolist() == [2, 3, 0, 1, 5, 4, -1]
