"""SeqIO's offline job, run by Beam as docs/tasks.md tells, gives what the task gives on the fly."""

import os
import subprocess
import sys

import numpy as np
import pytest
import seqio
from seqio.utils import get_global_cache_dirs

from exaranker.errors import InputError
from exaranker.tasks.registry import register_from_environment
from exaranker.templates import ENCODER_DECODER
from exaranker.train.batches import Batches, BatchSpec

STYLES = ["label_explanation", "mismatched", "shuffled", "label_explanation_p50"]
TASKS = [f"exaranker_sample_{style}" for style in STYLES]


@pytest.fixture(scope="module")
def environment(dataset, vocabulary, tmp_path_factory) -> dict[str, str]:
    cache = tmp_path_factory.mktemp("cache")
    named = {"EXARANKER_DATASETS": f"sample={dataset}", "EXARANKER_VOCABULARY": str(vocabulary)}
    return {**named, "EXARANKER_TASK_CACHE": str(cache)}


@pytest.fixture(scope="module")
def cached(environment) -> dict[str, str]:
    """Runs the command of docs/tasks.md in a process of its own."""
    command = [sys.executable, "-m", "seqio.scripts.cache_tasks_main", "--module_import=exaranker.tasks"]
    flags = [
        f"--tasks={','.join(TASKS)}",
        f"--output_cache_dir={environment['EXARANKER_TASK_CACHE']}",
        "--min_shards=2",
    ]
    done = subprocess.run([*command, *flags], env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return environment


@pytest.fixture(autouse=True)
def registered(environment):
    before = list(get_global_cache_dirs())
    register_from_environment(environment)
    yield
    seqio.set_global_cache_dirs(before)


def assert_same(cached, plain):
    assert cached.keys() == plain.keys()
    for number, example in plain.items():
        assert cached[number].keys() == example.keys()
        for name, value in example.items():
            np.testing.assert_array_equal(cached[number][name], value, err_msg=name)
            assert np.asarray(cached[number][name]).dtype == np.asarray(value).dtype


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_cached_examples_equal_those_made_on_the_fly(cached, read_any, task, split):
    made = read_any(task, split)
    if made:
        assert_same(read_any(task, split, use_cached=True), made)
        return
    assert split != "train"  # so few queries leave a held-out split empty
    spec = BatchSpec(task, split, {"inputs": 64, "targets": 9}, 8, ENCODER_DECODER, use_cached=True)
    with pytest.raises(InputError, match=rf"split '{split}' of {task} has no rows \(explain more pairs\)"):
        Batches(spec)


@pytest.mark.slow
def test_cached_examples_are_cut_when_they_are_read(cached, read_any):
    lengths = {"inputs": 36, "targets": 9}
    assert_same(read_any(TASKS[0], lengths=lengths, use_cached=True), read_any(TASKS[0], lengths=lengths))
    spec = BatchSpec(TASKS[0], "train", lengths, 8, ENCODER_DECODER, use_cached=True)
    assert next(Batches(spec)).arrays["encoder_input_tokens"].shape == (8, 36)


def test_a_task_that_is_not_cached_says_where_it_was_looked_for(environment):
    spec = BatchSpec("exaranker_sample_keywords", "train", {"inputs": 64, "targets": 9}, 8, ENCODER_DECODER)
    message = (
        rf"USE_CACHED_TASKS is set, but exaranker_sample_keywords is not cached in "
        rf"{environment['EXARANKER_TASK_CACHE']} \(cache it as docs/tasks.md shows, or set USE_CACHED_TASKS = False\)"
    )
    with pytest.raises(InputError, match=message):
        Batches(BatchSpec(**(vars(spec) | {"use_cached": True})))
