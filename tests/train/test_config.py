"""Every experiment that ships resolves to a configuration."""

import re
from pathlib import Path

import pytest

from exaranker.errors import InputError
from exaranker.gin_config import Configured, build, parse_gin
from exaranker.train import TrainConfig

CONFIGS = Path(__file__).parents[2] / "t5x_configs"
GIVEN = ["MODEL_DIR='m'", "DATASET_DIR='d'", "VOCABULARY_PATH='v'", "INITIAL_CHECKPOINT_PATH='i'"]


def configured(path: Path, *bindings: str) -> Configured[TrainConfig]:
    return build(TrainConfig, parse_gin([str(path)], bindings, str(CONFIGS.parent / "gin")))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.gin")), ids=lambda path: path.stem)
def test_an_experiment_resolves(path):
    config, text = configured(path, *GIVEN)
    assert config.directory == Path("m").absolute()
    assert config.data.mixture_or_task_name in text
    assert f"exaranker train --gin_file t5x_configs/{path.name}" in path.read_text()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.gin")), ids=lambda path: path.stem)
def test_of_an_experiment_s_periods_one_divides_the_other_as_t5x_asks(path):
    config = configured(path, *GIVEN).config
    shorter, longer = sorted([config.eval.period, config.checkpoint.period])
    assert longer % shorter == 0


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.gin")), ids=lambda path: path.stem)
def test_a_header_says_command_result_hardware_and_cost(path):
    header = path.read_text().partition("\ninclude")[0]
    assert re.findall(r"^# (Command|Expected|Hardware|Cost): +\S", header, flags=re.MULTILINE) == [
        "Command",
        "Expected",
        "Hardware",
        "Cost",
    ]


def test_rows_that_are_packed_have_no_number_of_pairs():
    message = r"^PAIRS_PER_ROW 2 with PACK = True, .* \(set PACK = False, or leave out PAIRS_PER_ROW\)$"
    with pytest.raises(InputError, match=message):
        configured(CONFIGS / "sample_label.gin", *GIVEN, "PACK=True", "PAIRS_PER_ROW=2")


@pytest.mark.parametrize("optimizer", ["adafactor", "adamw"])
def test_a_schedule_ends_with_the_run_unless_told_otherwise(optimizer):
    given = [
        *GIVEN,
        "TRAIN_STEPS = 100",
        "LEARNING_RATE_FACTORS='constant * linear_decay'",
        f"include 'optimizers/{optimizer}.gin'",
    ]
    for more, expected in (([], 100), (["DECAY_STEPS = 70"], 70)):
        assert (
            configured(CONFIGS / "sample_label.gin", *given, *more).config.optimizer.learning_rate.decay_steps
            == expected
        )


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("TRAIN_STEPS = 0", "TRAIN_STEPS is 0, expected at least 1"),
        (
            "train.CheckpointConfig.metric = 'lable_loss'",
            r"train.CheckpointConfig.metric is 'lable_loss', expected one of .* \(did you mean label_loss",
        ),
        ("train.CheckpointConfig.best_mode = 'highest'", "best_mode is 'highest', expected one of min, max"),
        ("BEST_CHECKPOINTS_TO_KEEP = 2\nEVAL_PERIOD = 0", "BEST_CHECKPOINTS_TO_KEEP is 2, but nothing is evaluated"),
        (
            "BEST_CHECKPOINTS_TO_KEEP = 2\nEVAL_PERIOD = 300",
            "BEST_CHECKPOINTS_TO_KEEP is 2, but not every checkpoint, one in 80 steps, is evaluated",
        ),
    ],
)
def test_what_cannot_be_is_refused(binding, message):
    with pytest.raises(InputError, match=message):
        configured(CONFIGS / "sample_label.gin", *GIVEN, *binding.splitlines())
