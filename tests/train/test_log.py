"""What a run reports, read back from both places it writes to."""

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from exaranker.devices.mesh import make_mesh
from exaranker.files.shipped import shipped
from exaranker.models.t5 import T5Config
from exaranker.train import CheckpointConfig, DataConfig, EvalConfig, TrainConfig, meter
from exaranker.train.data import open_batches
from exaranker.train.log import read_metrics
from exaranker.train.meter import Meter
from exaranker.train.run import train

EVERY = {"loss", "loss_per_step", "label_loss", "explanation_loss", "label_accuracy"}
TRAINING = EVERY | {"gradient_norm", "steps_per_second", "tokens_per_second", "mfu", "padding", "input_wait"}


@pytest.fixture(scope="module")
def run(tmp_path_factory, dataset) -> TrainConfig:
    """Six steps, of which every two are a line."""
    sizes = {"emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 16, "dtype": "float32"}
    model = T5Config(vocab_size=4096, num_encoder_layers=1, num_decoder_layers=1, **sizes)
    vocabulary = str(shipped("examples/sample") / "spiece.model")
    data = DataConfig("exaranker_sample_label_explanation", {"inputs": 128, "targets": 32}, 4, vocabulary, str(dataset))
    saving, evaluation = CheckpointConfig(period=100), EvalConfig(period=3, steps=1)
    directory = str(tmp_path_factory.mktemp("metrics") / "model")
    config = TrainConfig(directory, model, data, 6, checkpoint=saving, eval=evaluation, log_period=2)
    train(config)
    return config


def test_every_figure_is_in_the_jsonl(run):
    rows = {split: read_metrics(run.directory, split) for split in ("train", "validation")}
    assert [row["step"] for row in rows["train"]] == [2, 4, 6]
    assert [row["step"] for row in rows["validation"]] == [3, 6]
    assert all(row.keys() == TRAINING | {"step", "split"} for row in rows["train"])
    assert all(row.keys() == EVERY | {"step", "split"} for row in rows["validation"])


def test_tensorboard_has_the_same_figures(rounding, run):
    events = EventAccumulator(str(run.directory / "tensorboard"))
    events.Reload()
    tags = {f"{split}/{name}" for split, names in (("train", TRAINING), ("validation", EVERY)) for name in names}
    assert set(events.Tags()["tensors"]) == tags
    for tag in tags:
        split, _, name = tag.partition("/")
        found = [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in events.Tensors(tag)]
        expected = [(row["step"], row[name]) for row in read_metrics(run.directory, split)]
        assert [step for step, _ in found] == [step for step, _ in expected]
        rtol = rounding.UNIT_ROUNDOFF["float32"]  # TensorBoard's type
        np.testing.assert_allclose([value for _, value in found], [value for _, value in expected], rtol=rtol)


def test_padding_is_the_share_of_positions_without_a_token(run):
    batches = open_batches(run, make_mesh(run.mesh), "train")
    for row in read_metrics(run.directory):
        pair = [next(batches).arrays for _ in range(2)]
        names = ("encoder_input_tokens", "decoder_target_tokens")
        tokens = sum(np.count_nonzero(batch[name]) for batch in pair for name in names)
        assert row["padding"] == pytest.approx(1 - tokens / (2 * 4 * (128 + 32)))


def test_rates_are_per_second_of_training(monkeypatch):
    """Three steps of 100 tokens in 200 positions and 6 GFLOP each, in 2 s of which 0.5 s went by waiting."""
    sums = {"loss": 6.0, "weights": 3.0, "gradient_norm": 9.0, "real_tokens": 300.0, "positions": 600.0}
    sums |= {"label_tokens": 3.0, "label_loss": 1.5, "label_correct": 3.0}
    sums |= {"explanation_tokens": 0.0, "explanation_loss": 0.0, "steps": 3.0, "waited": 0.5, "flops": 18e9}
    monkeypatch.setattr(meter.time, "perf_counter", lambda: 7.0)  # the clock stands still
    figures = Meter({"sums": sums, "seconds": 2.0}).figures(peak_flops=36e9)
    expected = {"loss": 2.0, "loss_per_step": 2.0, "label_loss": 0.5, "label_accuracy": 1.0}
    expected |= {"gradient_norm": 3.0, "steps_per_second": 1.5}
    expected |= {"tokens_per_second": 150.0, "mfu": 0.25, "padding": 0.5, "input_wait": 0.25}
    assert figures == pytest.approx(expected)
