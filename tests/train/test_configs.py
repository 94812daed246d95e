"""Every experiment that ships resolves to a configuration."""

from pathlib import Path

import pytest

from exaranker.configured import configured
from exaranker.gin_flags import parse_gin
from exaranker.train import TrainConfig

CONFIGS = Path(__file__).parents[2] / "t5x_configs"
GIVEN = ["MODEL_DIR='m'", "DATASET_DIR='d'", "VOCABULARY_PATH='v'", "INITIAL_CHECKPOINT_PATH='i'"]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.gin")), ids=lambda path: path.stem)
def test_an_experiment_resolves(path):
    parse_gin([str(path)], GIVEN, str(CONFIGS.parent / "gin"))
    config, text = configured(TrainConfig)
    assert config.directory == Path("m").absolute()
    assert config.data.mixture_or_task_name in text
    assert f"exaranker train --gin_file t5x_configs/{path.name}" in path.read_text()
