"""Training runs from the configuration to the last checkpoint, on the sample's pairs."""

import dataclasses

import jax
import numpy as np
import pytest

from exaranker.checkpoints import load_card
from exaranker.metrics import read_metrics
from exaranker.models.t5 import T5Config
from exaranker.optimizers import AdamW, LearningRate
from exaranker.resources import shipped
from exaranker.train import CheckpointConfig, DataConfig, EvalConfig, TrainConfig, train
from exaranker.train_window import DivergedError


@pytest.fixture
def config(tmp_path, dataset) -> TrainConfig:
    sizes = {"emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 16}
    model = T5Config(vocab_size=4096, num_encoder_layers=1, num_decoder_layers=1, dtype="float32", **sizes)
    vocabulary = str(shipped("examples/sample") / "spiece.model")
    lengths = {"inputs": 128, "targets": 32}
    data = DataConfig("exaranker_sample_label_explanation", lengths, 4, vocabulary, str(dataset))
    saving, evaluation = CheckpointConfig(period=3), EvalConfig(period=0)
    directory = str(tmp_path / "undisturbed")
    return TrainConfig(directory, model, data, 6, checkpoint=saving, eval=evaluation, log_period=1)


@pytest.mark.slow
def test_a_resumed_run_equals_an_undisturbed_one_exactly(config, tmp_path):
    whole = train(config)
    resumed = dataclasses.replace(config, model_dir=str(tmp_path / "resumed"))
    train(dataclasses.replace(resumed, train_steps=3))
    state = train(resumed)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), jax.device_get(whole))
    losses = [[row["loss"] for row in read_metrics(run.directory)] for run in (config, resumed)]
    assert len(losses[0]) == 6
    assert losses[0] == losses[1]
    assert load_card(resumed.directory).step == 6


def test_a_loss_that_is_no_number_names_step_rows_and_last_good_checkpoint(config):
    optimizer = AdamW(LearningRate(base=float("inf")))
    with pytest.raises(DivergedError, match=r"step 2: loss is nan; dataset rows in the batch: .*checkpoint: none"):
        train(dataclasses.replace(config, optimizer=optimizer))
