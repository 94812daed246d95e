"""Adapters of dense layers: their initial values, their scale, and that adding one is the same as merging it."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from exaranker import models
from exaranker.errors import InputError
from exaranker.models.decoder import DecoderConfig
from exaranker.models.layers import ADAPTER
from exaranker.models.lora import Lora, abstract_adapter, adapted, init_adapter, merge_adapter
from exaranker.models.t5 import T5Config
from exaranker.models.t5gemma2 import T5Gemma2Config

peft = pytest.importorskip("peft")
torch = pytest.importorskip("torch")

SHAPE: dict[str, Any] = {"vocab_size": 64, "emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 24}
T5 = T5Config(**SHAPE, num_encoder_layers=2, num_decoder_layers=2, dtype="float32", dropout_rate=0.0)
DECODER = DecoderConfig(**SHAPE, num_kv_heads=1, num_layers=2, dtype="float32", logits_via_embedding=False)
MERGED = T5Gemma2Config(**SHAPE, num_kv_heads=1, num_encoder_layers=2, num_decoder_layers=2, dtype="float32")
MERGED = dataclasses.replace(MERGED, logits_via_embedding=False)
EVERY_LAYER = ("query", "key", "value", "out", "wi_0", "wi_1", "wo", "logits_dense")


def batch_for(config: models.ModelConfig, targets: int) -> dict[str, jax.Array]:
    tokens = np.random.default_rng(0).integers(2, 64, (2, 9))
    batch = {"decoder_input_tokens": tokens[:, :targets]}
    return {name: jnp.asarray(rows) for name, rows in {**batch, "encoder_input_tokens": tokens}.items()}


def random_like(tree: Any) -> Any:
    random = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray(0.3 * random.standard_normal(leaf.shape), jnp.float32), tree)


@pytest.mark.parametrize(
    ("config", "targets"),
    [
        (T5, 4),
        (dataclasses.replace(T5, remat="minimal", scan_layers=True), 1),
        (dataclasses.replace(DECODER, remat="full", scan_layers=True), 9),
        (dataclasses.replace(MERGED, remat="full", scan_layers=True), 4),
    ],
    ids=["t5", "t5_one_target_scanned", "decoder_scanned", "t5gemma2_scanned"],
)
def test_an_added_adapter_equals_a_merged_one(rounding, config, targets):
    """One target token is where T5 never projects the encoded input, and must with an adapter of key or value."""
    lora, boxed, module = Lora(3, 6.0, layers=EVERY_LAYER), models.abstract_params(config), models.build(config)
    params, adapter = random_like(nn.meta.unbox(boxed)), random_like(abstract_adapter(lora, boxed))
    batch = batch_for(config, targets)
    with adapted(lora):
        added = module.apply({"params": params, ADAPTER: adapter}, batch)
    merged = module.apply({"params": merge_adapter(lora, params, adapter)}, batch)
    rounding.assert_equal_but_for_rounding(added, merged, terms=config.mlp_dim)
    assert float(jnp.abs(merged - module.apply({"params": params}, batch)).max()) > 0.01


@pytest.mark.parametrize("rslora", [False, True], ids=["lora", "rslora"])
def test_initial_values_and_scale_are_those_of_peft(rslora):
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, lora_alpha=12, use_rslora=rslora, target_modules=["0"])
    theirs = peft.get_peft_model(torch.nn.Sequential(torch.nn.Linear(400, 300)), config).base_model.model[0]
    lora, kernel = Lora(4, 12.0, rslora=rslora), jax.ShapeDtypeStruct((400, 300), jnp.float32)
    boxed = {"wo": {"kernel": nn.LogicallyPartitioned(kernel, ("mlp", "embed"))}}
    ours = init_adapter(lora, jax.random.key(0), boxed)["wo"]
    assert lora.scale == theirs.scaling["default"] == (6.0 if rslora else 3.0)
    a = theirs.lora_A["default"].weight.detach().numpy()
    assert ours["a"].value.shape == a.T.shape
    for values in (a, ours["a"].value):  # uniform within 1/sqrt(400): 1,600 values come within 1 % of the bound
        assert 0.0495 < np.abs(values).max() <= 0.05
        # Three standard deviations of a uniform sample's own: it is the standard deviation times sqrt(0.8 / 4 n).
        assert abs(np.std(values) - 0.05 / 3**0.5) < 3 * 0.05 / 3**0.5 * (0.8 / 4 / 1600) ** 0.5
    assert not theirs.lora_B["default"].weight.any()
    assert not ours["b"].value.any()
    assert (ours["a"].names, ours["b"].names) == (("mlp", "rank"), ("rank", "embed"))


def test_dropout_is_of_the_adapter_alone_and_only_in_training(rounding):
    lora, boxed, module = Lora(rank=2, dropout=0.5), models.abstract_params(DECODER), models.build(DECODER)
    params, adapter = random_like(nn.meta.unbox(boxed)), random_like(abstract_adapter(lora, boxed))
    variables, batch = {"params": params, ADAPTER: adapter}, batch_for(DECODER, 9)
    nothing = {"params": params, ADAPTER: jax.tree.map(jnp.zeros_like, adapter)}

    def logits(variables: Any, seed: int | None) -> Any:
        with adapted(lora):
            rngs = {} if seed is None else {"dropout": jax.random.key(seed)}
            return np.asarray(module.apply(variables, batch, train=seed is not None, rngs=rngs))

    assert np.abs(logits(variables, 0) - logits(variables, 1)).max() > 0.01
    np.testing.assert_array_equal(logits(nothing, 0), logits(nothing, None))
    merged = module.apply({"params": merge_adapter(lora, params, adapter)}, batch)
    rounding.assert_equal_but_for_rounding(logits(variables, None), merged, terms=DECODER.mlp_dim)


def test_layers_are_chosen_by_the_ends_of_their_names():
    def chosen(**given: Any) -> set[str]:
        flat = flatten_dict(abstract_adapter(Lora(rank=2, **given), models.abstract_params(T5)), sep="/")
        return {name.removesuffix("/a") for name in flat if name.endswith("/a") and "layers_1" in name}

    assert chosen(layers=("self_attention/query",)) == {"decoder/layers_1/self_attention/query"}
    assert len(chosen()) == (4 + 3) + (4 + 4 + 3)
    with pytest.raises(InputError, match=r"LORA_LAYERS has 'quer': the model has no such layer \(did you mean query"):
        chosen(layers=("quer",))
    with pytest.raises(InputError, match=r"LORA_LAYERS is \(\), expected one name or more, or None"):
        Lora(layers=())
