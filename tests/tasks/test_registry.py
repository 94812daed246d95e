"""Names of tasks and mixtures, what registering refuses, and what the environment registers."""

import math

import numpy as np
import pytest
import seqio

from exaranker import schema
from exaranker.errors import InputError
from exaranker.files import write_json
from exaranker.tasks import (
    get_task_or_mixture,
    has_soft_labels,
    register_dataset,
    register_dataset_of,
    register_mixture,
    template_of,
)
from exaranker.tasks.registry import dataset_of, register_from_environment

STYLES = ["label", "label_explanation", "explanation_label", "shuffled", "mismatched", "keywords", "monot5"]
PARTIAL = [f"label_explanation_p{rate}" for rate in (10, 25, 50, 75, 90)]


def test_a_dataset_gives_a_task_per_style_and_a_mixture(dataset, vocabulary):
    names = register_dataset("sample", dataset, vocabulary)
    assert names == [f"exaranker_sample_{style}" for style in (*STYLES, *PARTIAL, "mixture")]
    assert set(names) <= set(seqio.TaskRegistry.names()) | set(seqio.MixtureRegistry.names())


def test_registering_a_name_again_replaces_it(make_row, register_rows, read):
    assert [len(read(f"exaranker_sample_{style}")) for style in ("label", "label_explanation_p33")] == [56, 56]
    register_rows([make_row(number) for number in range(6)])
    assert [len(read(f"exaranker_sample_{style}")) for style in ("label", "label_explanation_p33")] == [6, 6]


UNEXPLAINED = {"settings": {"engine": {"name": "none"}}}


def test_a_dataset_without_explanations_has_labels_only(register_rows, make_row, read):
    rows = [make_row(number)._replace(explanation="", explainer="") for number in range(6)]
    names = register_rows(rows, **UNEXPLAINED)
    assert names == ["exaranker_sample_label", "exaranker_sample_monot5"]
    assert set(names) == {name for name in seqio.TaskRegistry.names() if "_sample_" in name}
    assert {example["targets_pretokenized"] for example in read(names[0]).values()} == {"true", "false"}


@pytest.mark.parametrize("style", ["label_explanation", "keywords", "label_explanation_p33", "mixture"])
def test_styles_that_need_explanations_say_that_there_are_none(register_rows, make_row, style):
    register_rows([make_row(number) for number in range(6)], **UNEXPLAINED)
    message = (
        rf"exaranker_sample_{style} cannot be made: the dataset has no explanations \(make them: exaranker explain"
    )
    with pytest.raises(InputError, match=message):
        get_task_or_mixture(f"exaranker_sample_{style}")


def test_soft_labels_need_the_llm_s_own_judgement(register_rows, make_row):
    rows = [make_row(number) for number in range(6)]
    assert "exaranker_sample_soft_label" not in register_rows(rows)
    message = r"the dataset has no relevance by the LLM's own judgement \(make it: .*relevance_prompt="
    with pytest.raises(InputError, match=message):
        get_task_or_mixture("exaranker_sample_soft_label")
    names = register_rows(rows, settings={"relevance": {"name": "relevance"}})
    assert "exaranker_sample_soft_label" in names
    assert has_soft_labels("exaranker_sample_soft_label")
    assert not has_soft_labels("exaranker_sample_label")
    mixed = {"exaranker_sample_soft_label": 1.0, "exaranker_sample_label_explanation": 1.0}
    assert has_soft_labels(register_mixture("soft_and_explained", mixed))


def test_any_partial_rate_is_registered_when_asked_for(dataset, vocabulary):
    register_dataset("sample", dataset, vocabulary)
    assert get_task_or_mixture("exaranker_sample_label_explanation_p33").name.endswith("_p33")
    with pytest.raises(InputError, match="unknown task or mixture 'exaranker_sample_label_explanation_p101'"):
        get_task_or_mixture("exaranker_sample_label_explanation_p101")


def test_an_unknown_task_is_offered_near_names(dataset, vocabulary):
    register_dataset("sample", dataset, vocabulary)
    with pytest.raises(InputError, match=r"'exaranker_sampel_keywords' \(did you mean exaranker_sample_keywords or"):
        get_task_or_mixture("exaranker_sampel_keywords")
    with pytest.raises(
        InputError, match=r"'exaranker_sample_lable_explanation' \(did you mean exaranker_sample_label_"
    ):
        get_task_or_mixture("exaranker_sample_lable_explanation")


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("exaranker_sample_label", "sample"),
        ("exaranker_my_label_explanation", "my"),
        ("exaranker_my_data_explanation_label", "my_data"),
        ("exaranker_label_label_explanation_p5", "label"),
        ("exaranker_a_soft_label", "a"),
        ("exaranker_a_mixture", "a"),
        ("exaranker_label", None),
        ("wmt_label", None),
    ],
)
def test_the_dataset_is_part_of_the_name(name, dataset):
    assert dataset_of(name) == dataset


def test_a_mistyped_style_offers_the_nearest_names(dataset, vocabulary):
    with pytest.raises(InputError, match=r"_lable' does not .* \(did you mean exaranker_my_data_label"):
        register_dataset_of("exaranker_my_data_lable", dataset, vocabulary)


def test_templates_of_tasks_and_mixtures(dataset, vocabulary):
    register_dataset("sample", dataset, vocabulary)
    templates = {style: template_of(f"exaranker_sample_{style}").name for style in STYLES}
    assert templates == dict.fromkeys(STYLES, "exaranker") | {"label": "exaranker_label", "monot5": "monot5"}
    register_mixture("mostly_labels", {"exaranker_sample_label": 3.0, "exaranker_sample_keywords": 1.0})
    assert template_of("mostly_labels").name == "exaranker_label"


def test_foreign_tasks_have_no_template():
    seqio.TaskRegistry.add("foreign", seqio.FunctionDataSource(lambda split, shuffle_files: None, splits=["train"]), {})
    with pytest.raises(InputError, match="'foreign' is not a task over explanations"):
        template_of("foreign")


def test_a_mixture_mixes_datasets_by_rate(tmp_path, dataset, vocabulary, make_row, write_dataset):
    register_dataset("a", dataset, vocabulary)
    others = [make_row(number)._replace(passage="other") for number in range(60)]
    register_dataset("b", write_dataset(tmp_path, others), vocabulary)
    name = register_mixture("three_to_one", {"exaranker_a_label": 3.0, "exaranker_b_label_explanation": 1.0})
    mixture = get_task_or_mixture(name)
    rows = mixture.get_dataset({"inputs": 64, "targets": 64}, seed=1, copy_pretokenized=True).take(2000)
    texts = [row["inputs_pretokenized"].decode() for row in rows.as_numpy_iterator()]
    deviation = (0.25 * 0.75 / 2000) ** 0.5
    assert np.mean(['"other"' in text for text in texts]) == pytest.approx(0.25, abs=3 * deviation)
    assert all(text.endswith("Give an explanation.") == ('"other"' in text) for text in texts)


@pytest.mark.parametrize("rate", [-1.0, 0.0, math.nan, math.inf])
def test_a_rate_that_is_no_share_is_refused(dataset, vocabulary, rate):
    register_dataset("sample", dataset, vocabulary)
    message = f"mixture 'odd': the rate of exaranker_sample_label is {rate}, expected a finite number above 0"
    with pytest.raises(InputError, match=message):
        register_mixture("odd", {"exaranker_sample_label": rate, "exaranker_sample_keywords": 1.0})


def test_the_environment_registers_datasets_and_mixes_them(tmp_path, dataset, vocabulary, make_row, write_dataset):
    small = write_dataset(tmp_path, [make_row(number) for number in range(20)], 1)
    given = {"EXARANKER_DATASETS": f"big={dataset},small={small}", "EXARANKER_VOCABULARY": str(vocabulary)}
    names = register_from_environment(given | {"EXARANKER_TEMPLATE": "monot5"})
    assert {"exaranker_big_label", "exaranker_small_mixture", "exaranker_all_label_explanation"} <= set(names)
    mixture = get_task_or_mixture("exaranker_all_keywords")
    assert {task.name: mixture.get_rate(task) for task in mixture.tasks} == {
        "exaranker_big_keywords": 60.0,
        "exaranker_small_keywords": 20.0,
    }
    assert template_of("exaranker_all_keywords").name == "monot5"
    assert register_from_environment({}) == []


def test_mixtures_over_datasets_are_of_those_with_the_style(
    tmp_path, dataset, vocabulary, make_row, write_dataset, capsys
):
    bare = write_dataset(tmp_path, [make_row(number) for number in range(20)], 1, **UNEXPLAINED)
    given = {"EXARANKER_DATASETS": f"full={dataset},bare={bare}", "EXARANKER_VOCABULARY": str(vocabulary)}
    names = register_from_environment(given)
    tasks = {style: get_task_or_mixture(f"exaranker_all_{style}").tasks for style in ("label", "label_explanation")}
    assert {task.name for task in tasks["label"]} == {"exaranker_full_label", "exaranker_bare_label"}
    assert [task.name for task in tasks["label_explanation"]] == ["exaranker_full_label_explanation"]
    assert "exaranker_all_soft_label" not in names
    said = capsys.readouterr().err
    assert "exaranker_all_label_explanation is without bare: " in said
    assert "; so are exaranker_all_explanation_label, " in said
    assert said.count(" is without ") == 1  # of labels it has both


@pytest.mark.parametrize("datasets", ["sample", "=DIR", "sample=DIR"])
def test_a_malformed_environment_says_what_is_expected(datasets):
    with pytest.raises(InputError, match=r"EXARANKER_DATASETS='.*\(expected EXARANKER_DATASETS=name=directory"):
        register_from_environment({"EXARANKER_DATASETS": datasets})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "my-data"}, "dataset name 'my-data' .use letters, digits and underscores"),
        ({"vocabulary_path": "none.model"}, "none.model: no tokenizer here"),
        ({"template": "monot"}, r"unknown template 'monot' \(did you mean monot5\?; a file of your own"),
    ],
)
def test_bad_arguments(dataset, vocabulary, arguments, message):
    given = {"name": "sample", "directory": dataset, "vocabulary_path": vocabulary}
    with pytest.raises(InputError, match=message):
        register_dataset(**(given | arguments))


def test_an_incomplete_dataset_is_refused(tmp_path, make_row, write_dataset, vocabulary):
    write_dataset(tmp_path, [make_row(number) for number in range(6)])
    manifest = schema.read_manifest(tmp_path)
    write_json(tmp_path / schema.MANIFEST, manifest | {"complete": False, "num_shards": 5})
    message = r"manifest\.json: the dataset is unfinished: 3 of 5 shards \(run the same `exaranker explain` command"
    with pytest.raises(InputError, match=message):
        register_dataset("sample", tmp_path, vocabulary)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-9], r"00001-of-00003\.tfrecord: \d+ bytes, the manifest says \d+"),
        (lambda data: data[:-9] + b"\0" * 9, r"00001-of-00003\.tfrecord: sha256 \w+…, the manifest says \w+…"),
    ],
)
def test_shards_that_are_not_the_manifest_s_are_refused(tmp_path, make_row, write_dataset, vocabulary, damage, message):
    write_dataset(tmp_path, [make_row(number) for number in range(6)])
    shard = tmp_path / schema.read_manifest(tmp_path)["shards"][1]["file"]
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(InputError, match=message):
        register_dataset("sample", tmp_path, vocabulary)
