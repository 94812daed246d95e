"""Adafactor's accumulators and clock, to T5X and back: training goes on as if it had never left."""

import dataclasses
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from exaranker.checkpoints.card import ModelCard
from exaranker.checkpoints.convert.transfer import export_checkpoint, import_checkpoint
from exaranker.checkpoints.store import load_for_inference, load_slots, save_tokenizer
from exaranker.checkpoints.training_state import TrainCheckpoints
from exaranker.files.shipped import shipped
from exaranker.models import abstract_params
from exaranker.models.stack import unstack_layers
from exaranker.models.t5 import T5Config
from exaranker.templates import TEMPLATES, label_ids
from exaranker.tokenization import load_tokenizer
from exaranker.train.optimizers import Adafactor, AdamW, LearningRate
from exaranker.train.slots import with_slots

SPIECE = shipped("examples/sample") / "spiece.model"
# Wide enough that most matrices are factored; the learning rate depends on the step, so that its clock shows.
CONFIG = T5Config(4096, 128, 2, num_encoder_layers=2, num_decoder_layers=2, head_dim=64, mlp_dim=160)
OPTIMIZER = Adafactor(LearningRate(0.1, "constant * rsqrt_decay", warmup_steps=2))


def steps(optimizer: optax.GradientTransformation, params: Any, state: Any, numbers: range) -> tuple[Any, Any]:
    """Updates by gradients that depend on the step alone."""
    update = jax.jit(optimizer.update)
    for number in numbers:
        keys = jax.random.key(number)
        gradients = jax.tree.map(lambda leaf, keys=keys: jax.random.normal(keys, leaf.shape), params)
        updates, state = update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def trained(directory: Path, config: T5Config, optimizer: Any, count: int) -> tuple[Any, Any]:
    """A MODEL_DIR after `count` steps from ones, and its state."""
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), nn.meta.unbox(abstract_params(config)))
    params, state = steps(optimizer.build(), params, optimizer.build().init(params), range(count))
    tokenizer, template = load_tokenizer(SPIECE), TEMPLATES["exaranker"]
    card = ModelCard(config, template, tokenizer.digest, label_ids(tokenizer, template), step=count)
    checkpoints = TrainCheckpoints(directory)
    checkpoints.save(card, params, state, {})
    checkpoints.close()
    save_tokenizer(directory, tokenizer)
    return params, state


@pytest.mark.parametrize("scanned", [False, True], ids=["unrolled", "scanned"])
def test_a_run_goes_on_from_t5x_s_checkpoint_as_if_it_had_never_left(tmp_path, scanned):
    config = dataclasses.replace(CONFIG, scan_layers=scanned)
    params, state = trained(tmp_path / "ours", config, OPTIMIZER, 3)
    export_checkpoint(tmp_path / "ours", "t5x", tmp_path / "t5x")
    import_checkpoint(tmp_path / "t5x/checkpoint_3", "t5x", tmp_path / "back", str(SPIECE))
    back = load_for_inference(tmp_path / "back")
    assert back.card.step == 3
    optimizer, slots = OPTIMIZER.build(), load_slots(tmp_path / "back")
    fresh = optimizer.init(params)  # as this run lays its parameters out
    carried = with_slots(fresh, slots, 3)
    jax.tree.map(np.testing.assert_array_equal, carried, state)
    onward, _ = steps(optimizer, params, carried, range(3, 5))
    expected, _ = steps(optimizer, params, state, range(3, 5))
    jax.tree.map(np.testing.assert_array_equal, onward, expected)
    restarted, _ = steps(optimizer, params, fresh, range(3, 5))
    assert not np.allclose(restarted["token_embedder"]["embedding"], expected["token_embedder"]["embedding"])
    unrolled = unstack_layers(jax.tree.map(np.asarray, params)) if scanned else params
    jax.tree.map(np.testing.assert_array_equal, back.params, unrolled)


def test_t5x_finds_the_slots_where_its_adafactor_keeps_them(tmp_path):
    """Names, shapes and fillers of `_AdafactorParamState`; the values are the optimizer's own."""
    _, state = trained(tmp_path / "ours", CONFIG, OPTIMIZER, 2)
    export_checkpoint(tmp_path / "ours", "t5x", tmp_path / "t5x")
    contents = flax.serialization.msgpack_restore((tmp_path / "t5x/checkpoint_2/checkpoint").read_bytes())
    assert contents["optimizer"]["state"]["step"] == 2
    slots = contents["optimizer"]["state"]["param_states"]["encoder"]["layers_1"]["mlp"]["wi_0"]["kernel"]
    assert {name: slot.shape for name, slot in slots.items()} == {
        "m": (1,),
        "v": (1,),
        "v_row": (128,),
        "v_col": (160,),
    }
    kept = state[0].v_row["encoder"]["layers_1"]["mlp"]["wi_0"]["kernel"]
    np.testing.assert_array_equal(slots["v_row"], kept)


def test_an_optimizer_without_accumulators_starts_fresh_and_leaves_none(tmp_path):
    _, state = trained(tmp_path / "ours", CONFIG, AdamW(), 1)
    export_checkpoint(tmp_path / "ours", "t5x", tmp_path / "t5x")
    import_checkpoint(tmp_path / "t5x/checkpoint_1", "t5x", tmp_path / "back", str(SPIECE))
    assert load_slots(tmp_path / "back") is None
    assert with_slots(state, {"token_embedder/embedding/v_row": np.ones(128)}, 7) is state
