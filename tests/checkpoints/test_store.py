"""Checkpoints, saved and read with Orbax on disk."""

import dataclasses
import json
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from exaranker.checkpoints.card import ModelCard
from exaranker.checkpoints.folder import load_card
from exaranker.checkpoints.store import load_for_inference, save_model
from exaranker.checkpoints.training_state import TrainCheckpoints
from exaranker.errors import InputError
from exaranker.files.shipped import shipped
from exaranker.models import abstract_params
from exaranker.models.t5 import T5Config
from exaranker.templates import TEMPLATES, label_ids
from exaranker.tokenization import load_tokenizer

VOCABULARY = shipped("examples/sample") / "spiece.model"
OPTIMIZER = optax.adamw(1e-3)
CONFIG = T5Config(4096, 8, 2, num_encoder_layers=1, num_decoder_layers=1, head_dim=4, mlp_dim=16)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(VOCABULARY)


@pytest.fixture(scope="module")
def card(tokenizer) -> ModelCard:
    template = TEMPLATES["exaranker"]
    return ModelCard(CONFIG, template, tokenizer.digest, label_ids(tokenizer, template), gin="BATCH_SIZE = 2", step=7)


def params_of(value: float, config: T5Config = CONFIG) -> dict:
    shapes = nn.meta.unbox(abstract_params(config))
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, value), shapes)


def embedding(params: dict) -> jax.Array:
    return params["token_embedder"]["embedding"]


def save_steps(manager: TrainCheckpoints, card: ModelCard, losses: dict[int, float | None]) -> None:
    for step, loss in losses.items():
        params = params_of(step)
        metrics = None if loss is None else {"loss": loss}
        manager.save(dataclasses.replace(card, step=step), params, OPTIMIZER.init(params), {"step": step}, metrics)
    manager.wait()


def restore(directory: Path):
    params = params_of(0.0)
    return TrainCheckpoints(directory).restore_newest(params, OPTIMIZER.init(params))


def test_a_saved_model_reads_back_whole(tmp_path, card, tokenizer):
    assert save_model(tmp_path, card, params_of(2.5), tokenizer, step=9) == tmp_path / "checkpoint_9"
    for directory in (tmp_path, tmp_path / "checkpoint_9"):
        loaded = load_for_inference(directory)
        assert loaded.card == dataclasses.replace(card, step=9)
        assert loaded.tokenizer.encode("a search engine") == tokenizer.encode("a search engine")
        np.testing.assert_array_equal(embedding(loaded.params), np.full((4096, 8), 2.5))
    assert load_card(tmp_path).label_ids == card.label_ids


def test_the_card_is_plain_json(card):
    assert ModelCard.from_json(json.loads(json.dumps(card.to_json()))) == card


def test_training_state_resumes_from_the_newest(tmp_path, card):
    manager = TrainCheckpoints(tmp_path)
    save_steps(manager, card, {1: None, 2: None})
    restored = restore(tmp_path)
    assert restored.card.step == 2
    assert restored.data == {"step": 2}
    np.testing.assert_array_equal(embedding(restored.params), np.full((4096, 8), 2.0))
    assert jax.tree.structure(restored.optimizer) == jax.tree.structure(OPTIMIZER.init(params_of(0.0)))


def test_a_fresh_directory_has_nothing_to_restore(tmp_path):
    assert restore(tmp_path / "new") is None


def test_keeps_the_newest_and_the_best(tmp_path, card):
    manager = TrainCheckpoints(tmp_path, keep=2, keep_best=1)
    save_steps(manager, card, {1: 0.3, 2: 0.1, 3: 0.5, 4: None, 5: 0.7, 6: 0.6})
    assert manager.steps() == [2, 5, 6]


@pytest.mark.parametrize("damage", ["no arrays", "truncated arrays", "no card"])
def test_a_damaged_newest_checkpoint_is_reported_and_the_previous_used(tmp_path, card, caplog, damage):
    save_steps(TrainCheckpoints(tmp_path), card, {1: None, 2: None})
    newest = tmp_path / "checkpoint_2"
    if damage == "no arrays":
        shutil.rmtree(newest / "params")
    elif damage == "no card":
        (newest / "card/metadata").unlink()
    else:
        for file in (newest / "params").rglob("d/*"):
            file.write_bytes(file.read_bytes()[:-40])
    restored = restore(tmp_path)
    assert restored.card.step == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_1", "checkpoint_2"]
    TrainCheckpoints(tmp_path).set_aside(restored.damaged)
    assert "checkpoint_2 is damaged" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_1", "damaged_checkpoint_2"]


def test_nothing_readable_is_an_error_not_a_fresh_start(tmp_path, card):
    save_steps(TrainCheckpoints(tmp_path), card, {1: None})
    shutil.rmtree(tmp_path / "checkpoint_1/params")
    with pytest.raises(InputError, match=r"none of the checkpoints \[1\] can be read"):
        restore(tmp_path)


def test_another_model_is_an_error_not_damage(tmp_path, card):
    save_steps(TrainCheckpoints(tmp_path), card, {1: None})
    params = params_of(0.0, dataclasses.replace(CONFIG, vocab_size=4097))
    message = r"2 params arrays differ; decoder/logits_dense/kernel: checkpoint \(8, 4096\), run \(8, 4097\)"
    with pytest.raises(InputError, match=message):
        TrainCheckpoints(tmp_path).restore_newest(params, OPTIMIZER.init(params))


def test_a_directory_without_a_checkpoint_says_what_it_has(tmp_path):
    (tmp_path / "checkpoint_5.orbax-checkpoint-tmp").mkdir()
    with pytest.raises(InputError, match=r"no complete checkpoint here, found: checkpoint_5\.orbax-checkpoint-tmp"):
        load_for_inference(tmp_path)
    with pytest.raises(InputError, match="no such directory"):
        load_for_inference(tmp_path / "nowhere")


def test_an_unfinished_checkpoint_is_not_the_newest(tmp_path, card, tokenizer):
    save_model(tmp_path, card, params_of(1.0), tokenizer, step=1)
    (tmp_path / "checkpoint_2/params").mkdir(parents=True)
    assert load_card(tmp_path).step == 1
    with pytest.raises(InputError, match="no complete checkpoint here, found: params"):
        load_card(tmp_path / "checkpoint_2")


def test_another_tokenizer_is_refused(tmp_path, card, tokenizer):
    save_model(tmp_path, dataclasses.replace(card, tokenizer_digest="0" * 64), params_of(1.0), tokenizer)
    with pytest.raises(InputError, match="the model was trained with 000000000000…"):
        load_for_inference(tmp_path)
