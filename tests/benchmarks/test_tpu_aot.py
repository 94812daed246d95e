"""The steps lower for accelerators that are not here, and cost per device what they should as devices are added."""

import json
import os
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from exaranker import models
from exaranker.devices.collectives import Collective, collectives, sent_by_kind
from exaranker.models.decoder import DecoderConfig
from exaranker.models.decoding import first_step_logits
from exaranker.models.matmul import round_kernels
from exaranker.models.ragged import RaggedShape
from exaranker.models.t5 import T5Config
from exaranker.train.config import DataConfig, TrainConfig
from exaranker.train.setup import abstract_batch, assemble, layout

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PLATFORMS = ("cuda", "tpu")
KEY = jax.random.key(0)
SIZES = {"vocab_size": 96, "emb_dim": 32, "num_heads": 4, "head_dim": 8, "mlp_dim": 48}
MODELS = {
    "t5": T5Config(num_encoder_layers=1, num_decoder_layers=1, **SIZES),
    "t5_scanned": T5Config(num_encoder_layers=2, num_decoder_layers=2, scan_layers=True, remat="full", **SIZES),
    "decoder": DecoderConfig(num_kv_heads=2, num_layers=1, **SIZES),
}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]


def test_the_train_step_lowers(model):
    data = DataConfig("unused", {"inputs": 16, "targets": 8}, batch_size=4, pack=False)
    config = TrainConfig("unused", model, data, 1)
    setup = assemble(config, jax.devices()[:1])
    with layout(setup.mesh):
        batch = abstract_batch(config, setup.mesh)
        exported = jax.export.export(setup.step, platforms=PLATFORMS)(setup.abstract, batch)
    assert exported.platforms == PLATFORMS
    state, sums = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    assert [leaf.shape for leaf in jax.tree.leaves(state)] == [leaf.shape for leaf in jax.tree.leaves(setup.abstract)]
    assert (sums["loss"].shape, sums["loss"].dtype) == ((), jnp.float32)
    assert "tensor<4x8x96xf32>" in exported.mlir_module() or "tensor<4x24x96xf32>" in exported.mlir_module()


@pytest.mark.parametrize("shape", [None, RaggedShape(2, 24)], ids=["padded", "ragged"])
def test_the_rerank_step_lowers(model, shape):
    tokens = jax.ShapeDtypeStruct((4, 16), jnp.int32)
    module, batch = models.build(model), {"encoder_input_tokens": tokens, "decoder_input_tokens": tokens}
    params = jax.eval_shape(lambda key, batch: nn.meta.unbox(module.init(key, batch)["params"]), KEY, batch)
    params = jax.eval_shape(lambda params: round_kernels(params, model.dtype), params)  # as `rerank` holds them
    labels = jax.ShapeDtypeStruct((2,), jnp.int32)
    exported = jax.export.export(first_step_logits, platforms=PLATFORMS)(module, params, tokens, labels, shape)
    assert exported.platforms == PLATFORMS
    assert [(out.shape, out.dtype) for out in exported.out_avals] == [((4, 2), jnp.float32)]


@pytest.fixture(scope="module")
def scaling(tmp_path_factory):
    """{(model, axis, devices): figures per device} of the benchmark, which sets up its own virtual devices."""
    written = tmp_path_factory.mktemp("scaling") / "rows.json"
    command = [sys.executable, str(BENCHMARKS / "weak_scaling.py"), "--json", str(written)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(written.read_text())
    return {(row["model"], row["axis"], row["devices"]): row for row in rows}


FAMILIES = pytest.mark.parametrize("family", ["t5", "decoder"])
COUNTS = pytest.mark.parametrize("devices", [2, 4, 8])


@pytest.mark.slow
@FAMILIES
@COUNTS
def test_replicas_cost_the_same_and_send_their_gradients_once(scaling, family, devices):
    one, many = scaling[family, "data", 1], scaling[family, "data", devices]
    assert one["sent"] == {}
    assert many["flops"] == pytest.approx(one["flops"], rel=0.01)
    # One device needs no copies of the gradients to reduce: it moves 7 % less. From two on nothing changes.
    assert many["memory_traffic"] == pytest.approx(scaling[family, "data", 2]["memory_traffic"], rel=0.001)
    assert many["memory_traffic"] == pytest.approx(one["memory_traffic"], rel=0.08)
    assert many["state"] == one["state"]
    # The embeddings' gradient is reduced once for the encoder's and once for the decoder's input.
    table = 4 * 512 * 128 if family == "t5" else 0
    expected = 2 * (devices - 1) / devices * (many["parameters"] + table)
    assert many["sent"] == {"all-reduce": pytest.approx(expected, rel=0.01)}


@pytest.mark.slow
@FAMILIES
@COUNTS
def test_fsdp_splits_the_state_and_sends_a_constant_share_of_the_parameters(scaling, family, devices):
    one, many = scaling[family, "fsdp", 1], scaling[family, "fsdp", devices]
    assert many["flops"] == pytest.approx(one["flops"], rel=0.05)
    assert many["memory_traffic"] <= one["memory_traffic"]
    assert many["state"] == pytest.approx(one["state"] / devices, rel=0.01)
    share = (devices - 1) / devices * many["parameters"]
    # Kernels are gathered once and kept for the backward pass, embeddings once or not at all. On a CPU gradients are
    # all-reduced, twice the bytes of the reduce-scatter that accelerators make of it.
    assert 0.85 <= many["sent"]["all-gather"] / share <= 1.05
    assert 1.5 <= many["sent"]["all-reduce"] / share <= 2.0
    two = scaling[family, "fsdp", 2]
    for kind in ("all-gather", "all-reduce", "all-to-all"):
        assert many["sent"][kind] / share == pytest.approx(2 * two["sent"][kind] / two["parameters"], rel=0.01)


def test_collectives_inside_loops_and_fusions_count_as_often_as_they_run():
    text = """
%sum (a: f32[], b: f32[]) -> f32[] {
  ROOT %add = f32[] add(%a, %b)
}

%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %all-reduce.1 = f32[8,4]{1,0} all-reduce(%x), replica_groups={{0,1},{2,3}}, to_apply=%sum
  %windowed = (u32[], f32[8,4]) while(%t), condition=%windowed_condition, body=%windowed_body
  %all-gather-start.1 = (bf16[4]{0}, bf16[16]{0}) all-gather-start(%y), replica_groups=[1,4]<=[4], dimensions={0}
}

%windowed_body (p: (f32[4], u32[])) -> (f32[4], u32[]) {
  %two = u32[] constant(2)
  %counter = u32[] get-tuple-element(%p), index=1
  %next = u32[] add(%counter, %two)
  %permute = f32[4]{0} collective-permute(%w), source_target_pairs={{0,1},{1,0}}
  ROOT %carried = (f32[4], u32[]) tuple(%permute, %next)
}

%windowed_condition (p: (f32[4], u32[])) -> pred[] {
  %limit = u32[] constant(8)
  %counter = u32[] get-tuple-element(%p), index=1
  ROOT %lt = pred[] compare(%counter, %limit), direction=LT
}

%condition (p: (s32[], f32[8,4])) -> pred[] {
  %constant = s32[] constant(24)
  ROOT %lt = pred[] compare(%i, %constant), direction=LT
}

%all-reduce-scatter.1 (input: f32[8]) -> f32[2] {
  %all-reduce.2 = f32[8]{0} all-reduce(%input), replica_groups=mesh['a'=2,'b'=4] {'b'}, to_apply=%sum
}

ENTRY %main (p: f32[8,4]) -> f32[8,4] {
  %while.1 = (s32[], f32[8,4]) while(%t), condition=%condition, body=%body
  %fusion = f32[2]{0} fusion(%z), kind=kCustom, calls=%all-reduce-scatter.1
  %all-to-all.1 = f32[8]{0} all-to-all(%z), replica_groups={{0},{1}}, dimensions={0}
}
"""
    found = collectives(text)
    assert found == [
        Collective("all-reduce", 128.0, devices=2, times=24),
        Collective("all-gather", 32.0, devices=4, times=24),
        Collective("collective-permute", 16.0, devices=2, times=96),
        Collective("reduce-scatter", 32.0, devices=4, times=1),
    ]
    sent = {"all-reduce": 3072.0, "all-gather": 576.0, "collective-permute": 1536.0, "reduce-scatter": 24.0}
    assert sent_by_kind(found) == sent


def test_of_a_conditional_the_branch_that_sends_most_counts():
    text = """
%sum (a: f32[], b: f32[]) -> f32[] {
  ROOT %add = f32[] add(%a, %b)
}

%short (p: f32[8]) -> f32[8] {
  %all-reduce.1 = f32[8]{0} all-reduce(%p), replica_groups={{0,1}}, to_apply=%sum
}

%long (p: f32[64]) -> f32[64] {
  %all-reduce.2 = f32[64]{0} all-reduce(%p), replica_groups={{0,1}}, to_apply=%sum
}

ENTRY %main (p: f32[64]) -> f32[64] {
  %by_index = f32[64]{0} conditional(%i, %p, %p), branch_computations={%short, %long}
  %by_predicate = f32[64]{0} conditional(%b, %p, %p), true_computation=%long, false_computation=%short
}
"""
    assert collectives(text) == [Collective("all-reduce", 256.0, devices=2, times=1)] * 2
