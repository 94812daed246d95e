"""A run and the MODEL_DIR that it is given: nothing is written before every check has passed."""

import dataclasses
from pathlib import Path

import pytest

from exaranker.checkpoints.folder import load_card
from exaranker.checkpoints.store import save_model
from exaranker.errors import InputError
from exaranker.files.shipped import shipped
from exaranker.models.t5 import T5Config
from exaranker.templates import TEMPLATES
from exaranker.train import CheckpointConfig, DataConfig, EvalConfig, TrainConfig
from exaranker.train.resuming import check_model_dir
from exaranker.train.run import train


@pytest.fixture(scope="module")
def config(tmp_path_factory, dataset) -> TrainConfig:
    """A run that has done its one step."""
    sizes = {"emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 16}
    model = T5Config(vocab_size=4096, num_encoder_layers=1, num_decoder_layers=1, dtype="float32", **sizes)
    vocabulary = str(shipped("examples/sample") / "spiece.model")
    data = DataConfig("exaranker_sample_label", {"inputs": 128, "targets": 8}, 4, vocabulary, str(dataset))
    directory = str(tmp_path_factory.mktemp("resuming") / "model")
    run = TrainConfig(directory, model, data, 1, checkpoint=CheckpointConfig(period=1), eval=EvalConfig(period=0))
    train(run)
    return run


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def test_another_model_is_refused_before_anything_is_written(config):
    before = contents(config.directory)
    wider = dataclasses.replace(config, model=dataclasses.replace(config.model, mlp_dim=24), train_steps=2)
    with pytest.raises(InputError, match=r"checkpoint_1: its model has mlp_dim 16, the run's 24 \(give the run what"):
        train(wider)
    assert contents(config.directory) == before


def test_another_tokenizer_template_or_kind_of_model_is_refused(config):
    card = load_card(config.directory)
    check_model_dir(config.directory, card)
    check_model_dir(config.directory, dataclasses.replace(card, config=dataclasses.replace(card.config, remat="full")))
    for change, message in (
        ({"tokenizer_digest": "0" * 64}, r"trained with another tokenizer \(sha256 \w+…\), VOCABULARY_PATH has 000000"),
        ({"template": TEMPLATES["monot5"]}, "trained with template 'exaranker.*', TEMPLATE is 'monot5'"),
    ):
        with pytest.raises(InputError, match=message):
            check_model_dir(config.directory, dataclasses.replace(card, **change))


def test_the_output_of_import_is_no_model_dir_to_train_in(config, tmp_path):
    from exaranker.checkpoints.store import load_for_inference

    model = load_for_inference(config.directory)
    save_model(tmp_path / "imported", model.card, model.params, model.tokenizer)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"checkpoint_0: a model without training state \(give it as INITIAL_CHECK"):
        train(dataclasses.replace(config, model_dir=str(tmp_path / "imported")))
    assert contents(tmp_path) == before


def test_a_resumed_run_says_in_one_line_what_changed(config, capfd):
    data = dataclasses.replace(config.data, batch_size=2)
    train(dataclasses.replace(config, data=data, random_seed=1, train_steps=2))
    said = capfd.readouterr().err.splitlines()
    assert "changed since step 1: BATCH_SIZE 2 (was 4), RANDOM_SEED 1 (was None)" in said
    assert load_card(config.directory).run["BATCH_SIZE"] == 2


@pytest.mark.parametrize("keep", [0, -1])
def test_keeping_no_checkpoint_is_refused(keep):
    with pytest.raises(InputError, match=rf"CHECKPOINTS_TO_KEEP.* {keep}.*at least 1"):
        CheckpointConfig(keep=keep)
