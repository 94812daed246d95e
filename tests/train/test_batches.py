"""Batches: what is in them packed or not, who reads what, and where they go on."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pytest
import tensorflow as tf

from exaranker.errors import InputError
from exaranker.files import write_json
from exaranker.files.shipped import shipped
from exaranker.schema import MANIFEST, read_manifest
from exaranker.tasks import get_task_or_mixture, register_dataset, register_mixture
from exaranker.templates import DECODER_ONLY, ENCODER_DECODER, TEMPLATES, encode_input, label_ids
from exaranker.tokenization import load_tokenizer
from exaranker.train.batches import Batches, BatchSpec

VOCABULARY = shipped("examples/sample") / "spiece.model"
LENGTHS = {"inputs": 256, "targets": 64}
ONCE = {"shuffle": False, "repeat": False}
SHARED = {"pack": False, "pairs_per_row": 4}


@pytest.fixture(autouse=True)
def registered(dataset):
    register_dataset("sample", dataset, VOCABULARY)
    register_dataset("prompted", dataset, VOCABULARY, "decoder")


def spec(family=ENCODER_DECODER, style="label_explanation", **options) -> BatchSpec:
    name = {ENCODER_DECODER: "sample", DECODER_ONLY: "prompted"}[family]
    given = {"split": "train", "lengths": LENGTHS, "batch_size": 4, "family": family}
    return BatchSpec(f"exaranker_{name}_{style}", **(given | options))


def examples(given: BatchSpec) -> list[dict[str, np.ndarray]]:
    task = get_task_or_mixture(given.task)
    return list(task.get_dataset(dict(given.lengths), given.split, shuffle=False).as_numpy_iterator())


def segments(batches, family):
    """The sequences of batches, one dict of trimmed arrays each; a row of an unpacked batch is one segment."""
    side = "encoder" if family == ENCODER_DECODER else "decoder"
    for batch in batches:
        for row in range(len(batch.arrays["decoder_target_tokens"])):
            arrays = {name: array[row] for name, array in batch.arrays.items()}
            one = (arrays["decoder_loss_weights"] + arrays.get("decoder_causal_attention", 0)) > 0
            decoder = arrays.get("decoder_segment_ids", one.astype(np.int32))
            encoder = arrays.get("encoder_segment_ids", (arrays.get(f"{side}_input_tokens") > 0).astype(np.int32))
            for number in range(1, decoder.max(initial=0) + 1):
                masks = {"decoder": decoder == number, "encoder": encoder == number}
                yield {name: array[masks[name.partition("_")[0]]].tolist() for name, array in arrays.items()}


CONTENT = ["decoder_target_tokens", "decoder_input_tokens", "decoder_loss_weights", "decoder_label_weights"]


@pytest.mark.parametrize("family", [ENCODER_DECODER, DECODER_ONLY])
def test_packed_and_unpacked_hold_the_same_sequences(family):
    names = [*CONTENT, "encoder_input_tokens" if family == ENCODER_DECODER else "decoder_causal_attention"]
    found = {}
    for how, options in {"packed": {}, "unpacked": {"pack": False}, "shared": SHARED}.items():
        batches = list(Batches(spec(family, **options, **ONCE)))
        found[how] = sorted([segment[name] for name in names] for segment in segments(batches, family))
    assert len(found["unpacked"]) == len(examples(spec(family)))
    assert found["packed"] == found["unpacked"] == found["shared"]


@pytest.mark.parametrize("family", [ENCODER_DECODER, DECODER_ONLY])
def test_rows_of_several_pairs_keep_the_pairs_of_a_step_and_have_little_padding(family):
    alone, shared = (
        list(Batches(spec(family, batch_size=16, **options, **ONCE))) for options in ({"pack": False}, SHARED)
    )
    side = "encoder" if family == ENCODER_DECODER else "decoder"
    used = {"alone": 0.0, "shared": 0.0}
    for one, several in zip(alone, shared, strict=True):
        assert several.ids == one.ids
        rows = several.arrays[f"{side}_segment_ids"]
        assert rows.shape[0] == 4
        used["alone"] += one.arrays[f"{side}_input_tokens"].size
        used["shared"] += rows.size
    assert used["shared"] < 0.8 * used["alone"]


def test_packing_leaves_little_padding():
    (packed, *_), (loose, *_) = (list(Batches(spec(pack=pack, trim=False, **ONCE))) for pack in (True, False))
    used = [np.mean(batch.arrays["encoder_input_tokens"] > 0) for batch in (packed, loose)]
    assert used[0] > 0.75
    assert used[0] > 1.2 * used[1]


def test_an_encoder_decoder_batch_shifts_the_targets():
    given = spec(pack=False, trim=False, batch_size=2, **ONCE)
    arrays, example = next(Batches(given)).arrays, examples(given)[0]
    targets = example["targets"].tolist()
    assert arrays["encoder_input_tokens"].shape == (2, 256)
    assert arrays["encoder_input_tokens"][0, : len(example["inputs"])].tolist() == example["inputs"].tolist()
    assert arrays["decoder_target_tokens"][0].tolist() == targets + [0] * (64 - len(targets))
    assert arrays["decoder_input_tokens"][0].tolist() == [0, *targets] + [0] * (63 - len(targets))
    assert arrays["decoder_loss_weights"][0].sum() == len(targets)
    assert np.flatnonzero(arrays["decoder_label_weights"][0]).tolist() == [0]


@pytest.mark.parametrize("style", ["label", "label_explanation"])
@pytest.mark.parametrize("pack", [True, False])
def test_a_decoder_learns_the_label_at_the_end_of_the_reranker_s_prompt(style, pack):
    tokenizer, template = load_tokenizer(VOCABULARY), TEMPLATES["decoder"]
    given = spec(DECODER_ONLY, style, pack=pack, **ONCE)
    rows = {tuple(row["inputs"].tolist()): row for row in examples(given)}
    found = list(segments(Batches(given), DECODER_ONLY))
    assert len(found) == len(rows)
    for segment in found:
        prompt = segment["decoder_input_tokens"][: sum(segment["decoder_causal_attention"])]
        row = rows[tuple(prompt)]
        assert prompt == encode_input(tokenizer, template, row["query"].decode(), row["passage"].decode(), 256)
        last = len(prompt) - 1
        assert segment["decoder_target_tokens"][last] == label_ids(tokenizer, template)[row["relevant"]]
        assert segment["decoder_target_tokens"][last:] == row["targets"].tolist()
        assert segment["decoder_loss_weights"] == [0] * last + [1] * len(row["targets"])
        assert np.flatnonzero(segment["decoder_label_weights"]).tolist() == [last]


def test_cut_prompts_are_the_reranker_s_too():
    tokenizer, template = load_tokenizer(VOCABULARY), TEMPLATES["decoder"]
    given = spec(DECODER_ONLY, "label", pack=False, lengths={"inputs": 64, "targets": 4}, **ONCE)
    for segment, row in zip(segments(Batches(given), DECODER_ONLY), examples(given), strict=True):
        prompt = segment["decoder_input_tokens"][: sum(segment["decoder_causal_attention"])]
        assert prompt == encode_input(tokenizer, template, row["query"].decode(), row["passage"].decode(), 64)


@pytest.mark.parametrize("options", [{}, {"pack": False}, {"pack": False, "pairs_per_row": 2}])
def test_global_batches_do_not_depend_on_who_reads_them(options):
    given = spec(num_streams=4, batch_size=8, trim=False, seed=3, **options)
    whole = list(islice(Batches(given, range(4)), 5))
    halves = [list(islice(Batches(given, streams), 5)) for streams in (range(2), range(2, 4))]
    for batch, *parts in zip(whole, *halves, strict=True):
        assert sorted(batch.ids) == sorted(parts[0].ids + parts[1].ids)
        for name, array in batch.arrays.items():
            np.testing.assert_array_equal(array, np.concatenate([part.arrays[name] for part in parts]))


@pytest.mark.parametrize("options", [{}, {"pack": False}, {"num_streams": 2}, {"style": "mixture"}, SHARED])
def test_state_goes_on_after_the_last_batch_delivered(options):
    given = spec(seed=5, **options)
    streams = range(given.num_streams)
    undisturbed = list(islice(Batches(given, streams), 60))  # several epochs
    first = Batches(given, streams)
    delivered = list(islice(first, 23))
    resumed = list(islice(Batches(given, streams, first.state()), 37))
    assert first.state() == {"batches": 23}
    for batch, again in zip(undisturbed, delivered + resumed, strict=True):
        assert batch.ids == again.ids
        for name, array in batch.arrays.items():
            np.testing.assert_array_equal(array, again.arrays[name])


def test_a_rewound_split_begins_again():
    given = spec(num_streams=2, pack=False, **ONCE)
    batches = Batches(given, range(2))
    first = list(batches)
    assert len(first) > 2
    for read in (0, 1, len(first)):  # before its end, and after it
        batches.rewind()
        assert [batch.ids for batch in islice(batches, read)] == [batch.ids for batch in first[:read]]
    batches.rewind()
    assert batches.state() == {"batches": 0}
    assert [batch.ids for batch in batches] == [batch.ids for batch in first]


@pytest.mark.parametrize("family", [ENCODER_DECODER, DECODER_ONLY])
def test_no_pipeline_has_a_tuner_that_would_outlive_it(family, monkeypatch):
    opened = []
    begin = tf.data.Dataset.as_numpy_iterator
    monkeypatch.setattr(tf.data.Dataset, "as_numpy_iterator", lambda self: opened.append(self) or begin(self))
    next(Batches(spec(family)))
    assert [dataset.options().autotune.enabled for dataset in opened] == [False]


def test_an_epoch_has_every_row_once_and_the_last_batch_is_filled_up():
    given = spec(pack=False, batch_size=50, **ONCE)
    batches = list(Batches(given))
    rows = len(examples(given))
    assert rows % 50
    assert {len(array) for batch in batches for array in batch.arrays.values()} == {50}
    assert sorted(number for batch in batches for number in batch.ids) == sorted(
        int(row["row"]) for row in examples(given)
    )
    assert batches[-1].arrays["decoder_loss_weights"].any(axis=1).sum() == rows % 50


@pytest.mark.parametrize("pack", [True, False])
def test_rows_of_a_mixture_say_whose_they_are(dataset, pack):
    """Both datasets have rows of the same numbers."""
    register_dataset("twin", dataset, VOCABULARY)
    register_mixture("exaranker_twins_label", {"exaranker_sample_label": 1.0, "exaranker_twin_label": 1.0})
    given = dataclasses.replace(spec(pack=pack, split="validation", **ONCE), task="exaranker_twins_label")
    found = [name for batch in Batches(given) for name in batch.rows]
    numbers = [int(row["row"]) for row in examples(spec(style="label", split="validation"))]
    assert {name.split()[0] for name in found} == {"sample", "twin"}
    assert set(found) <= {f"{name} {number}" for name in ("sample", "twin") for number in numbers}
    assert len(found) == len(set(found)) > len(numbers)  # the mixture ends with the first of its datasets
    alone = next(Batches(spec()))
    assert alone.rows == list(map(str, alone.ids))


def test_uneven_streams_end_with_the_longest():
    given = spec(pack=False, split="validation", num_streams=4, **ONCE)
    numbers = sorted(number for batch in Batches(given, range(4)) for number in batch.ids)
    assert numbers == sorted(int(row["row"]) for row in examples(given))


@pytest.mark.parametrize("family", [ENCODER_DECODER, DECODER_ONLY])
def test_unpacked_batches_come_in_at_most_eight_shapes(family):
    lengths = {"inputs": 250, "targets": 60}
    shapes, cut = set(), 0
    for size in (1, 2, 8):
        for batch in Batches(spec(family, pack=False, batch_size=size, lengths=lengths, **ONCE)):
            shapes.add(tuple(sorted((name, array.shape[1]) for name, array in batch.arrays.items())))
            weights, row = batch.arrays["decoder_loss_weights"], batch.arrays["decoder_target_tokens"]
            assert weights.shape == row.shape
            cut += weights.shape[1] < (60 if family == ENCODER_DECODER else 310)
    assert 2 <= len(shapes) <= 8
    assert cut > 20
    if family == ENCODER_DECODER:
        steps = {(dict(shape)["encoder_input_tokens"], dict(shape)["decoder_target_tokens"]) for shape in shapes}
        assert steps <= {(32 * step, 8 * step) for step in range(1, 8)} | {(250, 60)}


def test_trimming_cuts_nothing_but_padding():
    cut, whole = (list(Batches(spec(pack=False, trim=trim, **ONCE))) for trim in (True, False))
    for short, long in zip(cut, whole, strict=True):
        for name, array in short.arrays.items():
            np.testing.assert_array_equal(array, long.arrays[name][:, : array.shape[1]])
            assert not long.arrays[name][:, array.shape[1] :].any()


def in_lockstep(given, streams_of_all, count=None):
    """The batches of several readers that exchange lengths as processes do, each in a thread of its own."""
    barrier, said = threading.Barrier(len(streams_of_all), timeout=60), {}

    def read(streams):
        def agree(numbers):
            said[streams] = numbers
            barrier.wait()
            greatest = np.max(list(said.values()), axis=0)
            barrier.wait()
            return greatest

        return list(islice(Batches(given, streams, agree=agree), count))

    with ThreadPoolExecutor(len(streams_of_all)) as pool:
        return list(pool.map(read, streams_of_all))


@pytest.mark.parametrize("family", [ENCODER_DECODER, DECODER_ONLY])
@pytest.mark.parametrize("pairs_per_row", [1, 2])
def test_readers_that_agree_cut_batches_as_one_that_reads_all(family, pairs_per_row):
    shapes = {"lengths": {"inputs": 160, "targets": 64}, "pairs_per_row": pairs_per_row}
    given = spec(family, "mixture", num_streams=2, batch_size=2 * pairs_per_row, pack=False, seed=3, **shapes)
    whole = list(islice(Batches(given, range(2)), 40))
    readers = in_lockstep(given, [range(1), range(1, 2)], 40)
    assert 2 <= len({batch.arrays["decoder_target_tokens"].shape for batch in whole}) <= 8
    for batch, *parts in zip(whole, *readers, strict=True):
        for name, array in batch.arrays.items():
            np.testing.assert_array_equal(array, np.concatenate([part.arrays[name] for part in parts]))


@pytest.mark.parametrize("options", [{}, {"pack": False}, {"pack": False, "pairs_per_row": 2, "batch_size": 8}])
def test_readers_that_agree_end_together(options):
    """The first stream has fewer rows than the rest, which a batch of one row each shows best."""
    given = spec(split="validation", **{"num_streams": 4, "batch_size": 4, **options, **ONCE})
    alone = [len(list(Batches(given, [stream]))) for stream in range(4)]
    assert len(set(alone)) > 1
    whole, readers = list(Batches(given, range(4))), in_lockstep(given, [range(1), range(1, 2), range(2, 4)])
    assert [len(batches) for batches in readers] == [max(alone)] * 3 == [len(whole)] * 3
    for batch, *parts in zip(whole, *readers, strict=True):
        assert sorted(batch.ids) == sorted(number for part in parts for number in part.ids)
        for name, array in batch.arrays.items():
            np.testing.assert_array_equal(array, np.concatenate([part.arrays[name] for part in parts]))


def test_a_mixture_gives_both_kinds_of_target():
    batches = islice(Batches(spec(style="mixture", pack=False, batch_size=32)), 8)
    lengths = np.concatenate([batch.arrays["decoder_loss_weights"].sum(axis=1) for batch in batches])
    # The label and its end; three standard deviations of 256 rows.
    assert np.mean(lengths == 2) == pytest.approx(0.5, abs=3 * (0.5 * 0.5 / 256) ** 0.5)


@pytest.mark.slow
def test_a_stream_without_rows_is_an_error_only_if_it_is_to_be_repeated():
    given = spec(split="test", num_streams=16, batch_size=16)
    rows = examples(given)
    assert 0 < len(rows) < 16
    message = r"split 'test' of exaranker_sample_label_explanation has no rows in stream \d+ of 16 \(explain more"
    with pytest.raises(InputError, match=message):
        next(Batches(given, range(16)))
    batches = list(Batches(dataclasses.replace(given, repeat=False), range(16)))
    assert sorted(number for batch in batches for number in batch.ids) == sorted(int(row["row"]) for row in rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"lengths": {"inputs": 9, "targets": 64}},
            r"^the question '.*' alone needs \d+ tokens, the inputs are given",
        ),
        ({"lengths": {"inputs": 64, "targets": 1}}, r"targets of 1 tokens cannot hold a label and its end"),
        ({"lengths": {"inputs": 64}}, r"TASK_FEATURE_LENGTHS {'inputs': 64} lacks targets \(for example"),
        ({"split": "dev"}, r"has no split 'dev' \(it has: .*train"),
        ({"style": "lable"}, r"unknown task or mixture 'exaranker_sample_lable' \(did you mean exaranker_sample_label"),
        ({"num_streams": 3}, r"BATCH_SIZE 4 is not a multiple of the 3 data streams"),
        (SHARED | {"num_streams": 2}, r"BATCH_SIZE 4 is not a multiple of the 2 data streams x 4 pairs of a row"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(InputError, match=message):
        next(Batches(spec(**options)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda shard: shard.write_bytes(shard.read_bytes()[:-9]), r"a shard is damaged: .*truncated"),
        (lambda shard: shard.unlink(), r"a shard is missing: .*explanations-0000\d-of-00004\.tfrecord"),
    ],
    ids=["broken off", "gone"],
)
def test_a_damaged_shard_names_the_remedy(tmp_path, dataset, damage, message):
    for path in dataset.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    register_dataset("damaged", tmp_path, VOCABULARY)
    for shard in tmp_path.glob("*.tfrecord"):
        damage(shard)
    given = dataclasses.replace(spec(**ONCE), task="exaranker_damaged_label")
    with pytest.raises(InputError, match=message + r".* \(verify it with: exaranker inspect DIR\)"):
        list(Batches(given))


def test_an_empty_split_is_over_at_once_or_an_error(tmp_path, dataset):
    (part,) = read_manifest(dataset)["shards"][3:]  # none of its queries is in the validation split
    (tmp_path / part["file"]).write_bytes((dataset / part["file"]).read_bytes())
    write_json(tmp_path / MANIFEST, read_manifest(dataset) | {"shards": [part], "num_shards": 1})
    register_dataset("one", tmp_path, VOCABULARY)
    given = dataclasses.replace(spec(split="validation"), task="exaranker_one_label")
    assert list(Batches(dataclasses.replace(given, repeat=False))) == []
    message = r"split 'validation' of exaranker_one_label has no rows \(explain more pairs\)"
    with pytest.raises(InputError, match=message):
        next(Batches(given))
