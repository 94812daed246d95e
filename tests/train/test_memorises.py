"""A small T5 from random weights can learn 512 pairs by heart: model, loss, optimizer and data fit together."""

import pytest

from exaranker.files.shipped import shipped
from exaranker.losses.token import LossConfig
from exaranker.models.t5 import T5Config
from exaranker.train import CheckpointConfig, DataConfig, EvalConfig, TrainConfig
from exaranker.train.log import read_metrics
from exaranker.train.optimizers import AdamW, LearningRate
from exaranker.train.run import train

STEPS = 600
SIZES = {
    "emb_dim": 128,
    "num_heads": 4,
    "head_dim": 32,
    "mlp_dim": 256,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
}


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
def test_512_pairs_are_learnt_by_heart(tmp_path, dataset_of_512):
    vocabulary = str(shipped("examples/sample") / "spiece.model")
    data = DataConfig("exaranker_sample_label", {"inputs": 512, "targets": 16}, 4, vocabulary, str(dataset_of_512))
    rate = LearningRate(1e-3, "constant * linear_warmup * linear_decay", warmup_steps=50, decay_steps=STEPS)
    config = TrainConfig(
        str(tmp_path),
        T5Config(vocab_size=4096, **SIZES),
        data,
        STEPS,
        optimizer=AdamW(rate, weight_decay=0.0),
        loss=LossConfig(z_loss=0.0, loss_normalizing_factor="NUM_REAL_TARGET_TOKENS"),
        dropout_rate=0.0,
        checkpoint=CheckpointConfig(period=STEPS),
        eval=EvalConfig(period=0),
    )
    train(config)
    last = read_metrics(tmp_path)[-1]
    assert last["loss"] < 0.02
    assert last["label_accuracy"] > 0.95
