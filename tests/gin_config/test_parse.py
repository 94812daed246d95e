"""Gin files and words become a configuration, or one line that says which of them cannot be."""

from pathlib import Path

import pytest

from exaranker.cli import main
from exaranker.errors import InputError
from exaranker.files.shipped import shipped
from exaranker.gin_config import build, parse_gin
from exaranker.gin_config.t5x import T5X_NAMES
from exaranker.infer import InferConfig
from exaranker.moved import FORMER_GIN_FILES
from exaranker.train import TrainConfig

GIVEN = ["MODEL_DIR='m'", "DATASET_DIR='d'", "VOCABULARY_PATH='v'", "INITIAL_CHECKPOINT_PATH='i'"]
SAMPLE = str(shipped("t5x_configs") / "sample_label.gin")
MINE = """# a user's own experiment
include "models/t5_1_1/tiny.gin"
include "runs/finetune.gin"
MIXTURE_OR_TASK_NAME = "exaranker_s_label"
TASK_FEATURE_LENGTHS = {"inputs": 96, "targets": 4}
USE_CACHED_TASKS = False
TRAIN_STEPS = 2
"""


def train_config(*bindings: str, file: str = SAMPLE) -> TrainConfig:
    return build(TrainConfig, parse_gin([file], [*GIVEN, *bindings])).config


def written(folder: Path, text: str) -> str:
    (folder / "mine.gin").write_text(text)
    return str(folder / "mine.gin")


def test_the_home_directory_in_a_path_is_found(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    config = train_config("MODEL_DIR='~/model'", "DATASET_DIR='~/data'")
    assert (config.model_dir, config.data.dataset_dir) == ("/home/someone/model", "/home/someone/data")


def test_a_file_of_one_s_own_configures_a_run(tmp_path):
    own = 'LENGTH = 96\nTASK_FEATURE_LENGTHS = {"inputs": %LENGTH, "targets": 4}\n'
    config = train_config(file=written(tmp_path, MINE + own))
    assert (config.train_steps, config.data.task_feature_lengths["inputs"]) == (2, 96)


def test_misspelt_macros_of_a_file_are_all_named_with_the_first_s_line(tmp_path):
    file = written(tmp_path, MINE + "BATCH_SZIE = 4\nLEARNINGRATE = 3e-5\n")
    with pytest.raises(InputError) as error:
        train_config(file=file)
    assert str(error.value) == (
        f"{file}:8: BATCH_SZIE: nothing reads a macro of this name (did you mean BATCH_SIZE?; "
        "LEARNINGRATE: did you mean LEARNING_RATE or LEARNING_RATE_FACTORS?)"
    )


def test_a_misspelt_macro_of_an_included_file_is_found(tmp_path):
    included = written(tmp_path, "MODEL_DRI = 'x'\n")
    with pytest.raises(InputError, match=r"mine.gin:1: MODEL_DRI: nothing reads .* \(did you mean MODEL_DIR"):
        train_config(f"include '{included}'")


def test_a_packaged_model_is_welcome_where_nothing_reads_it():
    """T5X's inference needs one, ours does not."""
    required = ("MIXTURE_OR_TASK_NAME='t'", "CHECKPOINT_PATH='c'", "INFER_OUTPUT_DIR='o'")
    files = ["models/t5_1_1/tiny.gin", "runs/infer.gin"]
    lengths = "TASK_FEATURE_LENGTHS={'inputs': 8, 'targets': 2}"
    assert build(InferConfig, parse_gin(files, [*required, lengths])).config.output_dir == "o"
    with pytest.raises(InputError, match=r"--gin.MODEL_DIR: nothing reads .*MODEL_DIR is T5X's: set CHECKPOINT_PATH"):
        parse_gin(files, [*required, lengths, "MODEL_DIR='m'"])


# The line of the binding, then what is said of it.
@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("MODEL_DIR=out/m", "out/m is no value (a text needs quotes: --gin.MODEL_DIR=\"'out/m'\")"),
        ("PACK=true", "true is no value (write True)"),
        ("TASK_FEATURE_LENGTHS={inputs: 4}", "inputs is no value (a text needs quotes: 'inputs')"),
        ("BATCH_SIZE=", "BATCH_SIZE has no value (a number, True, False, None, 'text', %MACRO or @configurable())"),
        ("BATCH_SIZE 8", "cannot be read: 'BATCH_SIZE 8' (a statement is NAME = VALUE or include 'FILE')"),
        (
            "PjitPartitioner.num_partitions=2",
            "there is no PjitPartitioner (PjitPartitioner.num_partitions is T5X's: set MESH_TENSOR)",
        ),
        ("train.DataConfig.batchsize=2", "train.DataConfig has no parameter batchsize (did you mean batch_size?)"),
        ("OPTIMIZER=@optimizers.Adafaktor()", "there is no optimizers.Adafaktor (did you mean Adafactor?)"),
        ("from t5x import utils", "there is no module t5x (T5X's names and ours: docs/upstream_t5x.md)"),
        ("include 'models/t5_1_1_base.gin'", "no gin file models/t5_1_1_base.gin (it is models/t5_1_1/base.gin now)"),
        (
            "include 'optimizers/adam.gin'",
            "no gin file optimizers/adam.gin (did you mean "
            "optimizers/adamw.gin or optimizers/adafactor.gin or adapters/lora.gin?)",
        ),
    ],
)
def test_what_gin_cannot_read_is_said_in_plain_words(binding, message):
    with pytest.raises(InputError) as error:
        train_config(binding)
    assert str(error.value) == f"--gin.{binding}: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"MODEL_DIR = out\n", ":1: out is no value (a text needs quotes: MODEL_DIR = 'out')"),
        (b"A = {'a': 1\n", ": ends within a value (close its brackets)"),
        (b"\xff\xfeA = 1\n", ": is not UTF-8 text (a gin file is plain text)"),
        (b"\nfrom t5x import utils\n", ":2: there is no module t5x (T5X's names and ours: docs/upstream_t5x.md)"),
        (b"include 'models/t5_tiny.gin'\n", ":1: no gin file models/t5_tiny.gin (it is models/t5_1_1/tiny.gin now)"),
    ],
)
def test_a_file_that_gin_cannot_read_is_named_with_its_line(tmp_path, text, message):
    (tmp_path / "mine.gin").write_bytes(text)
    with pytest.raises(InputError) as error:
        parse_gin([str(tmp_path / "mine.gin")])
    assert str(error.value) == f"{tmp_path / 'mine.gin'}{message}"


def test_what_must_be_set_is_named():
    with pytest.raises(InputError, match=r"^MODEL_DIR is not set \(add --gin.MODEL_DIR=VALUE"):
        parse_gin([SAMPLE], GIVEN[1:])
    with pytest.raises(InputError, match=r"^MODEL is read but not set \(include a models/FAMILY/SIZE.gin\)"):
        parse_gin(["runs/finetune.gin"], [*GIVEN, "TRAIN_STEPS=1", "MIXTURE_OR_TASK_NAME='t'"])


@pytest.mark.parametrize(
    "message",
    [
        "MODEL_DIR is '', expected a text that is not empty",
        "MODEL_DIR is None, expected a text in quotes",
        "BATCH_SIZE is '4', expected a whole number (write it without quotes)",
        "BATCH_SIZE is 4.0, expected a whole number",
        "BATCH_SIZE is 0, expected at least 1",
        "BATCH_SIZE is True, expected a whole number",
        "PACK is 'False', expected True or False (write it without quotes)",
        "DROPOUT_RATE is 1.5, expected 0 or more and less than 1",
        "TRAIN_STEPS is 0, expected at least 1",
        "TRAIN_STEPS_RELATIVE is 0, expected at least 1",
        "EVAL_PERIOD is -1, expected at least 0",
        "EVAL_STEPS is 0, expected at least 1",
        "LOG_PERIOD is 0, expected at least 1",
        "CHECKPOINT_PERIOD is 0, expected at least 1",
        "CHECKPOINTS_TO_KEEP is 0, expected at least 1 (None keeps all)",
        "BEST_CHECKPOINTS_TO_KEEP is -1, expected at least 0",
        "NUM_MICROBATCHES is 0, expected at least 1",
        "DATA_STREAMS is 0, expected at least 1",
        "PAIRS_PER_ROW is 0, expected at least 1",
        "MESH_TENSOR is 0, expected at least 1",
        "RANDOM_SEED is -1, expected 0 to 4294967295",
        "RANDOM_SEED is 1.5, expected a whole number or None",
        "LEARNING_RATE is -1.0, expected at least 0",
        "LEARNING_RATE is '1e-3', expected a number (write it without quotes)",
        "WARMUP_STEPS is -1, expected at least 0",
        "CLIP_GLOBAL_NORM is 0.0, expected more than 0",
        "LABEL_SMOOTHING is 1.0, expected 0 or more and less than 1",
        "Z_LOSS is -0.1, expected at least 0",
        "LABEL_WEIGHT is None, expected a number",
        "TEMPLATE is '', expected a text that is not empty",
        "REMAT is 'ful', expected one of 'none', 'minimal', 'full'",
        "ACTIVATION_DTYPE is 'float16', expected one of float32, bfloat16 (did you mean bfloat16 or float32?)",
        "OPTIMIZER is 3, expected an Adafactor or an AdamW",
        "TASK_FEATURE_LENGTHS is 5, expected {'text': whole number, ...}",
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_macro(message):
    name, _, rest = message.partition(" is ")
    with pytest.raises(InputError) as error:
        train_config(f"{name} = {rest.partition(', expected')[0]}")
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (
            {"inputs": 4},
            "TASK_FEATURE_LENGTHS {'inputs': 4} lacks targets (for example {'inputs': 512, 'targets': 128})",
        ),
        (
            {"inputs": 4, "targets": 0},
            "TASK_FEATURE_LENGTHS['targets'] is 0, expected at least 1 (for example {'inputs': 512, 'targets': 128})",
        ),
        (
            {"inputs": 4, "targets": 2, "target": 2},
            "TASK_FEATURE_LENGTHS {'inputs': 4, 'targets': 2, 'target': 2} has an unknown feature 'target' "
            "(did you mean targets?)",
        ),
    ],
)
def test_feature_lengths_are_those_of_inputs_and_targets(lengths, message):
    with pytest.raises(InputError) as error:
        train_config(f"TASK_FEATURE_LENGTHS = {lengths}")
    assert str(error.value) == message


def test_a_model_is_one_of_the_families():
    with pytest.raises(InputError, match=r"^MODEL is None, expected a T5Config or a T5GemmaConfig or a Dec"):
        train_config("MODEL = None")


def test_a_value_that_cannot_be_is_named_with_the_line_that_sets_it(tmp_path):
    file = written(tmp_path, MINE + "STEPS = 0\nTRAIN_STEPS = %STEPS\n")
    with pytest.raises(InputError) as error:
        train_config(file=file)
    assert str(error.value) == f"{file}:8: STEPS is 0, expected at least 1"


def test_the_users_search_paths_come_before_the_packaged_ones(tmp_path):
    (tmp_path / "models/t5_1_1").mkdir(parents=True)
    (tmp_path / "models/t5_1_1/tiny.gin").write_text("include 'models/t5_1_1/small.gin'\nDROPOUT_RATE = 0.25\n")
    file = written(tmp_path, MINE.replace('include "runs', 'MIXTURE_OR_TASK_MODULE = "m"\ninclude "runs'))
    # The run file that is included after it declares the macro again: what counts is that this model was read.
    found = parse_gin([file], GIVEN, str(tmp_path))
    assert [one.value for one in found.definitions if one.name == "DROPOUT_RATE"] == [0.25, 0.1]
    assert [one.value for one in parse_gin([SAMPLE], GIVEN).definitions if one.name == "DROPOUT_RATE"] == [0.1]


@pytest.mark.parametrize("former", FORMER_GIN_FILES)
def test_a_former_gin_file_has_a_new_name_that_exists(former):
    assert not (shipped("gin") / former).exists()
    assert (shipped("gin") / FORMER_GIN_FILES[former]).is_file()


def test_a_gin_file_of_the_former_layout_configures_a_run(tmp_path):
    """Its imports are of modules that have moved."""
    former = (
        "from __gin__ import dynamic_registration\nfrom exaranker import losses\nfrom exaranker import optimizers\n"
        "from exaranker import partitioning\nfrom exaranker import train\n"
        "OPTIMIZER = @optimizers.AdamW()\noptimizers.AdamW.beta2 = 0.98\nlosses.LossConfig.z_loss = 0.5\n"
        "partitioning.MeshConfig.tensor = 1\ntrain.TrainConfig.log_period = 7\n"
    )
    config = train_config(file=written(tmp_path, MINE + former))
    assert (config.optimizer.beta2, config.loss.z_loss, config.mesh.tensor, config.log_period) == (0.98, 0.5, 1, 7)


def test_t5x_s_flags_that_mean_something_are_taken(capsys):
    words = [f"--gin_bindings={binding}" for binding in [*GIVEN, "TRAIN_STEPS = 0"]]
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--gin_file", SAMPLE, "--alsologtostderr", *words])
    assert capsys.readouterr().err == "exaranker train: error: TRAIN_STEPS is 0, expected at least 1\n"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--run_mode=train", "the verb says it"),
        ("--tfds_data_dir=d", "give --gin.DATASET_DIR=\"'DIR'\""),
        ("--shard_id=1", "give --gin.SHARD_ID=N"),
    ],
)
def test_other_flags_of_t5x_s_are_refused_with_ours(flag, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--gin_file", SAMPLE, flag])
    assert message in capsys.readouterr().err


def test_the_docs_list_t5x_s_names():
    docs = (Path(__file__).parents[2] / "docs/upstream_t5x.md").read_text()
    assert [name for name in T5X_NAMES if f"`{name}`" not in docs] == []
