"""What `import` does not understand it refuses, with the remedy; what older files merely repeat it passes over."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, LlamaConfig, Qwen2Config, T5Config

from exaranker.checkpoints.convert.huggingface import read_huggingface
from exaranker.checkpoints.convert.tensors import to_tensors
from exaranker.errors import InputError

torch = pytest.importorskip("torch")

SHAPE = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2}
Q = "model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("llama")
    AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE, tie_word_embeddings=False)).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("t5")
    shape = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_heads": 2, "num_layers": 2, "decoder_start_token_id": 0}
    AutoModelForSeq2SeqLM.from_config(T5Config(vocab_size=64, **shape)).save_pretrained(directory)
    return directory


def changed(source: Path, target: Path, tensors: Any = None, **config: Any) -> Path:
    """A copy with other tensors (None takes one away) and other fields of config.json."""
    stored = load_file(source / "model.safetensors") | (tensors or {})
    save_file({name: tensor for name, tensor in stored.items() if tensor is not None}, target / "model.safetensors")
    given = json.loads((source / "config.json").read_text()) | config
    (target / "config.json").write_text(json.dumps(given))
    return target


ONE = np.ones((16, 16), np.float32)
LIMITS = {"load_in_8bit": True, "quant_method": "bitsandbytes"}


@pytest.mark.parametrize(
    ("tensors", "config", "message"),
    [
        ({f"{Q}.weight": ONE.astype(np.int8)}, {}, rf"tensor {Q}.weight is of type I8, expected floats \(quantised"),
        ({f"{Q}.SCB": ONE[0]}, {}, rf"1 tensors have no place in this model, among them {Q}.SCB \(quantised"),
        ({}, {"quantization_config": LIMITS}, r"quantization_config: the weights are quantised \(bitsandbytes\)"),
        ({f"{Q}.bias": ONE[0]}, {}, rf"among them {Q}.bias \(it computes something that ours does not"),
        ({"model.layers.1.self_attn.q_norm.weight": ONE[0]}, {}, r"among them model.layers.1.self_attn.q_norm.weight"),
        ({f"{Q}.lora_A.default.weight": ONE[:2]}, {}, r"lora_A.default.weight \(import its base, then the adapter"),
        ({}, {"num_hidden_layers": 1}, r"9 tensors have no place .* model.layers.1.* \(config.json says 1 layers\)"),
        ({"score.weight": ONE[:1]}, {}, r"among them score.weight \(a classifier's head is no language model's"),
        ({}, {"architectures": ["LlamaForSequenceClassification"]}, "'LlamaForSequenceClassification' is not supp"),
        ({"lm_head.weight": None}, {}, "tensor lm_head.weight is missing, and config.json has tie_word_embeddings fal"),
        ({"model.norm.weight": np.full(16, np.nan, np.float32)}, {}, "has 16 of 16 values that are NaN or infinite"),
        ({}, {"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, "rope_parameters .* by layer type"),
        ({}, {"attention_bias": True}, "attention_bias True is not supported"),
    ],
)
def test_what_has_no_place_is_refused(llama, tmp_path, tensors, config, message):
    with pytest.raises(InputError, match=message):
        read_huggingface(changed(llama, tmp_path, tensors, **config))


def test_an_adapter_beside_the_weights_is_refused(llama, tmp_path):
    (changed(llama, tmp_path) / "adapter_config.json").write_text("{}")
    with pytest.raises(
        InputError, match=r"adapter_config.json: an adapter lies beside the weights \(import its base, then"
    ):
        read_huggingface(tmp_path)


def assert_same_model(one: Path, other: Path) -> None:
    (first, ours), (second, theirs) = read_huggingface(one), read_huggingface(other)
    assert first == second
    ours, theirs = to_tensors(ours), to_tensors(theirs)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not np.array_equal(ours[name], theirs[name])] == []


def test_repeated_and_unused_tensors_of_older_files_are_passed_over(llama, t5, tmp_path):
    shared = load_file(t5 / "model.safetensors")["shared.weight"]
    repeated = {f"{part}.embed_tokens.weight": shared.copy() for part in ("encoder", "decoder")}
    repeated["lm_head.weight"] = shared.copy()
    repeated["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = shared[:, :2].copy()
    (tmp_path / "t5").mkdir()
    assert_same_model(changed(t5, tmp_path / "t5", repeated, architectures=["T5WithLMHeadModel"]), t5)
    (tmp_path / "llama").mkdir()
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(2, np.float32)}
    assert_same_model(changed(llama, tmp_path / "llama", buffer), llama)


def test_embeddings_that_are_not_one_are_refused(t5, tmp_path):
    with pytest.raises(InputError, match=r"tensors encoder.embed_tokens.weight and shared.weight differ"):
        read_huggingface(changed(t5, tmp_path, {"encoder.embed_tokens.weight": np.zeros((64, 16), np.float32)}))


@pytest.mark.parametrize("parts", [1, 2])
def test_torch_weights_are_read_by_the_loader_that_runs_no_code(llama, tmp_path, parts):
    stored = {name: torch.from_numpy(tensor) for name, tensor in load_file(llama / "model.safetensors").items()}
    (tmp_path / "config.json").write_bytes((llama / "config.json").read_bytes())
    if parts == 1:
        torch.save(stored, tmp_path / "pytorch_model.bin")
    else:
        weight_map = {name: f"pytorch_model-0000{1 + index % 2}-of-00002.bin" for index, name in enumerate(stored)}
        for file in set(weight_map.values()):
            torch.save({name: stored[name] for name in stored if weight_map[name] == file}, tmp_path / file)
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert_same_model(tmp_path, llama)


def test_torch_weights_in_bfloat16_keep_their_bits(llama, tmp_path):
    stored = load_file(llama / "model.safetensors")
    half = {name: torch.from_numpy(tensor).bfloat16() for name, tensor in stored.items()}
    torch.save(half, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_bytes((llama / "config.json").read_bytes())
    read = to_tensors(read_huggingface(tmp_path)[1])["token_embedder/embedding"]
    expected = stored["model.embed_tokens.weight"].astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(read, expected)


class Hostile:
    def __reduce__(self):
        return (Path.touch, (Path("was_executed"),))


@pytest.mark.parametrize("content", ["code", "garbage", "no tensors", "integers"])
def test_torch_files_of_anything_else_are_refused(llama, tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_bytes((llama / "config.json").read_bytes())
    path = tmp_path / "pytorch_model.bin"
    if content == "garbage":
        path.write_bytes(b"\x80\x02 nothing of torch's")
    else:
        values = {"code": {"a": Hostile()}, "no tensors": {"a": 1}, "integers": {"a": torch.ones(2, dtype=torch.int8)}}
        torch.save(values[content], path)
    with pytest.raises(InputError, match=r"model.bin: (cannot be read as tensors|holds something|tensor a is of)"):
        read_huggingface(tmp_path)
    assert not (tmp_path / "was_executed").exists()


@pytest.mark.parametrize("index", [[], {}, {"weight_map": {"a": "../b.bin"}}, {"weight_map": {"a": "gone.bin"}}])
def test_an_index_of_something_else_is_refused(llama, tmp_path, index):
    (tmp_path / "config.json").write_bytes((llama / "config.json").read_bytes())
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"has no weight_map|not a file of this folder|gone\.bin: cannot be read"):
        read_huggingface(tmp_path)


def test_qwen2_keeps_its_biases(tmp_path):
    AutoModelForCausalLM.from_config(Qwen2Config(**SHAPE, tie_word_embeddings=True)).save_pretrained(tmp_path)
    config, _ = read_huggingface(tmp_path)
    assert config.qkv_bias
    assert config.logits_via_embedding
