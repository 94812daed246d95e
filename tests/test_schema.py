import pytest

from exaranker import schema
from exaranker.errors import InputError
from exaranker.files import sha256_file, write_json

ROW = schema.ExplainedPair("q1", "d1", "why is é", "because", 3, 1, "it says so", "llm", "stop", 4, -0.5)


@pytest.fixture
def dataset(tmp_path):
    """A complete dataset of two shards with three rows each."""
    import tensorflow as tf

    shards = []
    for number in range(2):
        path = tmp_path / f"explanations-{number:05d}-of-00002.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for row in range(3):
                writer.write(schema.to_example(ROW._replace(doc_id=f"d{number}{row}")))
        shards.append({"file": path.name, "rows": 3, "bytes": path.stat().st_size, "sha256": sha256_file(path)})
    write_json(
        tmp_path / schema.MANIFEST,
        {"schema_version": schema.SCHEMA_VERSION, "complete": True, "num_shards": 2, "shards": shards},
    )
    return tmp_path


def test_rows_survive_the_tfrecord(dataset):
    rows = [row for path in schema.shard_paths(dataset) for row in schema.read_shard(path)]
    assert rows[0] == ROW._replace(doc_id="d00")
    assert [row.doc_id for row in rows] == ["d00", "d01", "d02", "d10", "d11", "d12"]


def test_plain_tf_data_reads_the_shards(dataset):
    import tensorflow as tf

    features = {"explanation": tf.io.FixedLenFeature([], tf.string), "relevant": tf.io.FixedLenFeature([], tf.int64)}
    records = tf.data.TFRecordDataset(schema.shard_paths(dataset))
    examples = list(records.map(lambda record: tf.io.parse_single_example(record, features)).as_numpy_iterator())
    assert examples == [{"explanation": b"it says so", "relevant": 1}] * 6


def test_a_whole_dataset_verifies(dataset):
    assert schema.verify(dataset)["num_shards"] == 2


def test_a_text_that_is_not_utf8_is_named(dataset):
    import tensorflow as tf

    shard = dataset / "explanations-00001-of-00002.tfrecord"
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(shard))]
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for record in records:
            writer.write(record.replace(b"because", b"be\xffause"))
    with pytest.raises(InputError, match=r"00001-of-00002\.tfrecord: record 0 is not UTF-8: invalid start byte .*run"):
        list(schema.read_shard(shard))


def test_truncated_shard_is_named(dataset):
    shard = dataset / "explanations-00001-of-00002.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"00001-of-00002\.tfrecord: \d+ bytes, the manifest says \d+ .*run the same"):
        schema.verify(dataset)
    with pytest.raises(
        InputError, match=r"00001-of-00002\.tfrecord: cannot read record 2: truncated record at \d+' failed"
    ):
        list(schema.read_shard(shard))


def test_altered_shard_is_named(dataset):
    shard = dataset / "explanations-00000-of-00002.tfrecord"
    data = bytearray(shard.read_bytes())
    data[40] ^= 1
    shard.write_bytes(data)
    with pytest.raises(InputError, match=r"00000-of-00002\.tfrecord: sha256 .*, the manifest says"):
        schema.verify(dataset)


def test_missing_shard_is_named(dataset):
    (dataset / "explanations-00000-of-00002.tfrecord").unlink()
    with pytest.raises(InputError, match=r"00000-of-00002\.tfrecord: the manifest lists this file, but it is missing"):
        schema.verify(dataset)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"complete": False, "num_shards": 3}, "the dataset is unfinished: 2 of 3 shards"),
        ({"schema_version": 99}, "schema version 99, expected 1"),
        ({"num_shards": 3}, "lists 2 of 3 shards"),
        ({"shards": {}}, "shards is .*, expected a list"),
        ({"num_shards": "2"}, "num_shards is .*, expected an integer"),
        ({"complete": 1}, "complete is 1, expected true or false"),
        ({"shards": [1, 2]}, "expected an object with file"),
    ],
)
def test_unusable_manifest_is_refused(dataset, change, message):
    manifest = schema.read_manifest(dataset) | change
    write_json(dataset / schema.MANIFEST, manifest)
    with pytest.raises(InputError, match=message):
        schema.read_manifest(dataset)


def test_a_folder_without_manifest_is_no_dataset(tmp_path):
    with pytest.raises(InputError, match=r"no manifest\.json here, so this is not a dataset"):
        schema.read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 5000}, r"00000-of-00002\.tfrecord: 3 rows, the manifest says 5000"),
        ({"rows": -1}, r"manifest\.json: .* has -1 rows"),
        ({"rows": "3"}, r"manifest\.json: rows is \"3\", expected an integer"),
        ({"file": "/etc/passwd"}, r"lists '/etc/passwd', expected the name of a file in this folder"),
        ({"file": "../x.tfrecord"}, r"lists '\.\./x\.tfrecord', expected the name of a file"),
        ({"file": ".."}, r"lists '\.\.', expected the name of a file"),
        (
            {"file": "explanations-00001-of-00002.tfrecord"},
            r"lists explanations-00001-of-00002\.tfrecord more than once",
        ),
        ({"rejected": {"file": "../secret"}}, r"lists '\.\./secret', expected the name"),
    ],
)
def test_what_the_manifest_claims_is_checked(dataset, changes, message):
    manifest = schema.read_manifest(dataset)
    manifest["shards"][0] |= changes
    write_json(dataset / schema.MANIFEST, manifest)
    with pytest.raises(InputError, match=message):
        schema.verify(dataset)


@pytest.mark.parametrize("text", ["[]", "null", "3", "[" * 100_000, '{"a": '])
def test_a_manifest_of_another_shape(tmp_path, text):
    (tmp_path / schema.MANIFEST).write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json: "):
        schema.read_manifest(tmp_path)


def test_a_row_that_no_explanation_has(tmp_path):
    import tensorflow as tf

    path = tmp_path / "shard.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(schema.to_example(ROW._replace(relevant=7)))
    with pytest.raises(InputError, match=r"shard\.tfrecord: record 0: relevant is 7, expected 0 or 1"):
        list(schema.read_shard(path))
