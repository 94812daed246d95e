"""Training runs from the configuration to the last checkpoint, on the sample's pairs."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from exaranker.checkpoints.folder import load_card
from exaranker.devices import processor
from exaranker.errors import InputError
from exaranker.files.shipped import shipped
from exaranker.losses.token import LossConfig
from exaranker.models.stack import stack_layers, unstack_layers
from exaranker.models.t5 import T5Config
from exaranker.train import CheckpointConfig, DataConfig, EvalConfig, TrainConfig
from exaranker.train.log import read_metrics
from exaranker.train.meter import DivergedError
from exaranker.train.optimizers import AdamW, LearningRate
from exaranker.train.run import train


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


@pytest.mark.parametrize("scanned", [True, False], ids=["scanned", "unrolled"])
def test_a_run_starts_from_weights_of_either_layout(config, tmp_path, scanned):
    """What `exaranker import` writes is unrolled, while the large models are trained scanned."""
    layers = {"num_encoder_layers": 2, "num_decoder_layers": 2}
    models = [dataclasses.replace(config.model, scan_layers=given, **layers) for given in (not scanned, scanned)]
    first = dataclasses.replace(config, model=models[0], train_steps=1, model_dir=str(tmp_path / "first"))
    start = train(first)
    kept = dataclasses.replace(
        config,
        model=models[1],
        initial_checkpoint_path=first.model_dir,
        train_steps=2,
        optimizer=AdamW(LearningRate(0.0)),
    )
    found = jax.device_get(train(kept).params)
    expected = jax.device_get(start.params)
    jax.tree.map(np.testing.assert_array_equal, found, (stack_layers if scanned else unstack_layers)(expected))


@pytest.mark.parametrize(
    ("dtype", "has_units", "says"),
    [
        ("bfloat16", False, True),
        ("bfloat16", True, False),
        ("float32", False, False),
    ],
)
def test_a_processor_that_would_emulate_bf16_is_said(config, dtype, has_units, says, monkeypatch, capsys):
    monkeypatch.setattr(processor, "multiplies_bf16", lambda: has_units)
    train(dataclasses.replace(config, model=dataclasses.replace(config.model, dtype=dtype), train_steps=1))
    message = "no units for bfloat16 and emulates its products: --gin.ACTIVATION_DTYPE=\"'float32'\" takes less time"
    assert (message in capsys.readouterr().err) is says


@pytest.fixture
def no_cache_yet(monkeypatch, tmp_path):
    """As a process begins: JAX has no folder to keep compiled programs in."""
    monkeypatch.setenv("EXARANKER_CACHE", str(tmp_path / "cache"))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


def test_the_compiled_step_is_kept_for_the_next_run(config, tmp_path, no_cache_yet):
    train(dataclasses.replace(config, train_steps=1))
    assert list(tmp_path.glob("cache/compiled/*/jit_step-*-cache"))


def test_weights_of_another_model_are_refused(config, tmp_path):
    train(dataclasses.replace(config, train_steps=1))
    wider = dataclasses.replace(config.model, mlp_dim=24)
    again = dataclasses.replace(
        config, model=wider, initial_checkpoint_path=config.model_dir, model_dir=str(tmp_path / "wider")
    )
    message = (
        r"checkpoint_1: 6 params arrays differ; .*/mlp/wi_0/kernel: checkpoint \(16, 16\), run \(16, 24\) \(include"
    )
    with pytest.raises(InputError, match=message):
        train(again)


def test_a_run_that_was_trained_for_longer_is_refused(config):
    assert train(dataclasses.replace(config, train_steps=3)).step == 3
    with pytest.raises(InputError, match=r"checkpoint is of step 3, beyond TRAIN_STEPS 2 \(name another MODEL_DIR"):
        train(dataclasses.replace(config, train_steps=2))


def test_a_loss_that_is_no_number_names_step_rows_and_last_good_checkpoint(config):
    optimizer = AdamW(LearningRate(base=3e38))
    with pytest.raises(
        DivergedError, match=r"step 2: loss is nan; dataset rows in the batch: \d+, .*; .*checkpoint: none"
    ):
        train(dataclasses.replace(config, optimizer=optimizer))


def test_a_run_that_diverges_later_names_the_last_checkpoint_and_leaves_it_as_it_was(config):
    started = dataclasses.replace(config, train_steps=3)
    train(started)
    diverging = dataclasses.replace(config, loss=LossConfig(z_loss=1e38))
    with pytest.raises(DivergedError, match=r"step 4: loss is (inf|nan); .*; last good checkpoint: .*/checkpoint_3$"):
        train(diverging)
    assert [row["step"] for row in read_metrics(config.directory)] == [1, 2, 3]
    assert train(config).step == 6
