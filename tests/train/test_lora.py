"""Training an adapter: the base stays, a killed run goes on, and whoever reranks with it needs to know nothing."""

import dataclasses
import shutil
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from exaranker.checkpoints.folder import load_card
from exaranker.checkpoints.store import load_as_saved, load_for_inference, save_model
from exaranker.errors import InputError
from exaranker.files.shipped import shipped
from exaranker.models.decoder import DecoderConfig
from exaranker.models.lora import Lora, merge_adapter
from exaranker.models.stack import unstack_layers
from exaranker.rank.reranker import Reranker
from exaranker.train import CheckpointConfig, DataConfig, EvalConfig, TrainConfig
from exaranker.train.dry_run import describe
from exaranker.train.optimizers import AdamW, LearningRate
from exaranker.train.run import train

PAIRS = [("how do bees make honey", "Worker bees turn nectar into honey."), ("where is the nile", "Bees dance.")]


@pytest.fixture(scope="module")
def base(tmp_path_factory, dataset) -> TrainConfig:
    """A whole model after one step, unrolled as `exaranker import` leaves them."""
    sizes = {"emb_dim": 16, "num_heads": 2, "num_kv_heads": 1, "head_dim": 8, "mlp_dim": 16, "num_layers": 2}
    model = DecoderConfig(vocab_size=4096, dtype="float32", **sizes)
    vocabulary = str(shipped("examples/sample") / "spiece.model")
    data = DataConfig("exaranker_sample_label", {"inputs": 112, "targets": 8}, 4, vocabulary, str(dataset))
    directory = str(tmp_path_factory.mktemp("lora") / "base")
    saving, evaluation = CheckpointConfig(period=1), EvalConfig(period=0)
    run = TrainConfig(directory, model, data, 1, template="decoder", checkpoint=saving, eval=evaluation)
    train(run)
    return run


@pytest.fixture(scope="module")
def config(base) -> TrainConfig:
    """A run of three steps in the scanned layout, in microbatches, with all that has to go on alike when resumed."""
    return dataclasses.replace(
        base,
        model_dir=f"{base.model_dir}-adapter",
        model=dataclasses.replace(base.model, scan_layers=True, remat="minimal"),
        initial_checkpoint_path=base.model_dir,
        lora=Lora(rank=2, alpha=4.0, dropout=0.1),
        optimizer=AdamW(LearningRate(0.01, warmup_steps=1)),
        num_microbatches=2,
        train_steps=4,
        eval=EvalConfig(period=1, steps=1),
    )


@pytest.fixture(scope="module")
def trained(config):
    return train(config)


def test_only_the_adapter_moves_and_only_it_is_saved(base, config, trained):
    weights = load_for_inference(base.model_dir).params
    jax.tree.map(np.testing.assert_array_equal, unstack_layers(jax.device_get(trained.frozen)), weights)
    assert any(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(trained.params["decoder"]["layers"]["mlp"]["wo"]))
    adapter = load_card(config.directory).adapter
    assert adapter is not None
    assert (adapter.lora, adapter.base) == (config.lora, f"{base.model_dir}/checkpoint_1")
    size = sum(path.stat().st_size for path in (config.directory / "checkpoint_4/params").rglob("*"))
    whole = sum(path.stat().st_size for path in (base.directory / "checkpoint_1/params").rglob("*"))
    assert size < whole / 4


def test_a_resumed_run_equals_an_undisturbed_one_exactly(config, trained):
    resumed = dataclasses.replace(config, model_dir=f"{config.model_dir}-resumed")
    train(dataclasses.replace(resumed, train_steps=2))
    state = train(resumed)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), jax.device_get(trained))


def test_it_reranks_as_its_merged_weights_wherever_the_base_lies(rounding, same_score, base, config, trained, tmp_path):
    """A folder of the matrices alone, in bf16 and without a tokenizer, is enough if the base is given."""
    stored = load_for_inference(base.model_dir)
    params = merge_adapter(config.lora, stored.params, unstack_layers(jax.device_get(trained.params)))
    save_model(tmp_path / "merged", stored.card, params, stored.tokenizer)
    expected = list(Reranker.from_checkpoint(tmp_path / "merged").score(PAIRS))
    assert expected != list(Reranker.from_checkpoint(base.model_dir).score(PAIRS))
    assert list(Reranker.from_checkpoint(config.directory).score(PAIRS)) == pytest.approx(expected, abs=same_score)
    moved, adapter = tmp_path / "moved", load_as_saved(config.directory)
    shutil.copytree(base.directory, moved)
    rounded = jax.tree.map(lambda leaf: leaf.astype("bfloat16"), adapter.params)
    save_model(tmp_path / "alone", adapter.card, rounded, stored.tokenizer)
    shutil.rmtree(tmp_path / "alone/tokenizer")
    found = Reranker.from_checkpoint(tmp_path / "alone", base=moved).model.params
    expected_params = merge_adapter(config.lora, stored.params, unstack_layers(rounded))
    same = partial(rounding.assert_equal_but_for_rounding, terms=config.lora.rank + 1)  # and the base's weight
    jax.tree.map(same, unstack_layers(found), expected_params)


def test_a_base_that_is_gone_or_another_is_refused(base, config, trained, tmp_path):
    with pytest.raises(InputError, match=r"checkpoint_1: has other weights .* than the base of .*--base DIR"):
        load_for_inference(config.directory, base=_changed(base.directory, tmp_path / "other"))
    away = Path(f"{base.model_dir}-away")
    base.directory.rename(away)
    try:
        with pytest.raises(InputError, match=r"an adapter of .*base/checkpoint_1, which is not there \(name where"):
            load_for_inference(config.directory)
    finally:
        away.rename(base.directory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora": Lora(rank=3, alpha=4.0)}, "its adapter has rank 2, LORA_RANK is 3"),
        ({"lora": None}, "it holds an adapter, the run trains a whole model"),
    ],
)
def test_a_run_goes_on_with_its_own_adapter_only(config, trained, changes, message):
    with pytest.raises(InputError, match=message):
        train(dataclasses.replace(config, train_steps=5, **changes))


def test_no_run_starts_from_an_adapter_or_trains_one_of_nothing(base, config, trained, tmp_path):
    started = dataclasses.replace(base, initial_checkpoint_path=config.model_dir, model_dir=str(tmp_path / "new"))
    with pytest.raises(InputError, match=r"an adapter, expected a whole model \(merge it first"):
        train(dataclasses.replace(started, train_steps=9))
    with pytest.raises(InputError, match="LORA is set, but INITIAL_CHECKPOINT_PATH is None"):
        dataclasses.replace(config, initial_checkpoint_path=None)


def test_a_dry_run_tells_what_is_trained(config):
    # Rank 2 of query and out (16 x 16), key and value (16 x 8) and three of 16 x 16 in the MLP, in two layers.
    count = 2 * 2 * (5 * 32 + 2 * 24)
    lines = describe(config)
    assert f"frozen, {count:,} in the adapter are trained" in lines
    assert "GiB (frozen 0.00, parameters 0.00, " in lines


def _changed(directory: Path, copy: Path) -> Path:
    stored = load_for_inference(directory)
    params = jax.tree.map(lambda leaf: leaf + 1, stored.params)
    save_model(copy, stored.card, params, stored.tokenizer, step=stored.card.step)
    return copy
