"""How vLLM is told what gin binds, and what the manifest says of it; the real LLM runs in test_real_llm.py."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from exaranker import schema
from exaranker.files.shipped import shipped
from exaranker.preprocess.engines import vllm as vllm_engine
from exaranker.preprocess.engines.vllm import (
    VLLMConfig,
    cores_by_rank,
    engine_arguments,
    set_environment,
)


@pytest.mark.parametrize(
    ("cores", "ranks", "expected"),
    [([0, 1], 1, "0,1"), ([0, 1], 2, "0|1"), ([2, 3, 5, 7, 9], 2, "2,5,9|3,7"), ([4], 2, "nobind")],
)
def test_every_rank_has_cores_of_its_own(cores, ranks, expected):
    assert cores_by_rank(cores, ranks) == expected


def test_arguments_on_a_gpu_and_on_a_cpu():
    config = VLLMConfig(tensor_parallel_size=4, pipeline_parallel_size=2, dtype="bfloat16", quantization="fp8")
    both = {
        "tensor_parallel_size": 4,
        "pipeline_parallel_size": 2,
        "dtype": "bfloat16",
        "quantization": "fp8",
        "enable_prefix_caching": True,
    }
    assert engine_arguments(config, on_cpu=False) == both | {"enforce_eager": False, "gpu_memory_utilization": 0.9}
    assert engine_arguments(config, on_cpu=True) == both | {"enforce_eager": True, "block_size": 32}
    assert engine_arguments(replace(config, block_size=16), on_cpu=False)["block_size"] == 16
    assert config.ranks == 8


def test_options_that_batch_otherwise_are_told_where_they_are_set():
    assert VLLMConfig().batching == []
    assert VLLMConfig(max_num_seqs=8, block_size=64).batching == ["max_num_seqs 8", "block_size 64"]


@pytest.mark.parametrize(("fast", "expected"), [(True, "auto"), (False, "float32")])
def test_a_cpu_that_cannot_multiply_bf16_computes_in_fp32_unless_told(monkeypatch, fast, expected):
    monkeypatch.setattr(vllm_engine, "torch_multiplies_bf16", lambda: fast)
    assert engine_arguments(VLLMConfig(), on_cpu=True)["dtype"] == expected
    assert engine_arguments(VLLMConfig(dtype="bfloat16"), on_cpu=True)["dtype"] == "bfloat16"
    assert engine_arguments(VLLMConfig(), on_cpu=False)["dtype"] == "auto"


def test_the_environment_is_only_overruled_where_the_manifest_vouches_for_it(monkeypatch):
    for name in ("VLLM_CPU_KVCACHE_SPACE", "VLLM_CPU_OMP_THREADS_BIND", "VLLM_TARGET_DEVICE"):
        monkeypatch.setenv(name, "mine")
    monkeypatch.setenv("VLLM_BATCH_INVARIANT", "0")
    set_environment(VLLMConfig())
    assert (os.environ["VLLM_CPU_KVCACHE_SPACE"], os.environ["VLLM_BATCH_INVARIANT"]) == ("mine", "0")
    set_environment(VLLMConfig(batch_invariant=True))
    assert (os.environ["VLLM_CPU_OMP_THREADS_BIND"], os.environ["VLLM_BATCH_INVARIANT"]) == ("mine", "1")


@pytest.mark.slow
def test_batch_invariant_kernels_are_not_promised_on_a_cpu(tmp_path):
    (tmp_path / "pairs.tsv").write_text("1\tq\tp\n")
    words = ["explain", "--pairs", tmp_path / "pairs.tsv", "--output_dir", tmp_path / "out"]
    command = [sys.executable, "-m", "exaranker.cli", *map(str, words), "--gin.vllm.batch_invariant=True"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "exaranker explain: error: vLLM has no batch-invariant kernels for CPUs "
        "(leave out vllm.batch_invariant: a shard is repeatable without it)"
    )


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="each rank needs a core of its own")
def test_an_llm_is_split_over_two_ranks(tmp_path, tokenizer):
    """SmolLM2's nine heads do not divide by two: a small Llama of random weights instead."""
    shape = {"vocab_size": len(tokenizer), "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**shape, initializer_range=0.2, tie_word_embeddings=True))
    model.to(torch.bfloat16).save_pretrained(tmp_path / "llm")
    tokenizer.save_pretrained(tmp_path / "llm")
    words = ["explain", "--pairs", shipped("examples/sample") / "pairs.tsv", "--output_dir", tmp_path / "out"]
    words += ["--limit", 8, f"--gin.explainer.llm='{tmp_path / 'llm'}'", "--gin.vllm.tensor_parallel_size=2"]
    command = [sys.executable, "-m", "exaranker.cli", *map(str, words)]
    status, said = run_to_its_end(command)
    assert status == 0, said[-2000:]
    (shard,) = schema.verify(tmp_path / "out")["shards"]
    assert "2 x cpu with 1 thread" in shard["engine"]
    assert shard["pairs"] == 8
    assert shard["num_tokens"] > 100


def run_to_its_end(command):
    """(exit status, what it said); one that stands still is ended with its ranks, which would spin on."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, **pipes, preexec_fn=use_all_cores, start_new_session=True) as driver:
        try:
            said, _ = driver.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            os.killpg(driver.pid, signal.SIGKILL)
            said, _ = driver.communicate()
    return driver.returncode, said


def use_all_cores():
    """Also those of the other workers of a parallel run."""
    os.sched_setaffinity(0, range(os.cpu_count()))
