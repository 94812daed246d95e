"""Import and export through the command line: exact there and back, and loud about what is wrong."""

import dataclasses
import json
import re
from pathlib import Path

import flax.serialization
import flax.traverse_util
import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore as ts
import transformers
from safetensors.numpy import load_file, save_file

from exaranker import models
from exaranker.checkpoints.convert.families import to_hf_config
from exaranker.checkpoints.convert.huggingface import read_huggingface
from exaranker.checkpoints.convert.t5x import read_t5x
from exaranker.checkpoints.convert.tensors import to_tensors
from exaranker.checkpoints.store import load_for_inference
from exaranker.cli import main
from exaranker.errors import InputError
from exaranker.models.decoder import DecoderConfig
from exaranker.models.decoding import first_step_logits
from exaranker.models.stack import stack_layers
from exaranker.models.t5 import T5Config
from exaranker.models.t5gemma import T5GemmaConfig
from exaranker.models.t5gemma2 import T5Gemma2Config
from exaranker.tokenization import load_tokenizer

SPIECE = Path(__file__).parents[3] / "examples/sample/spiece.model"
T5_SHAPE = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_heads": 6,
    "num_layers": 2,
    "decoder_start_token_id": 0,
}


@pytest.fixture(scope="module", params=["t5_1_0", "t5_1_1", "umt5"])
def huggingface(request, tmp_path_factory):
    """A random model saved by transformers."""
    torch = pytest.importorskip("torch")
    kind = transformers.UMT5Config if request.param == "umt5" else transformers.T5Config
    feed_forward = "relu" if request.param == "t5_1_0" else "gated-gelu"
    config = kind(
        **T5_SHAPE, vocab_size=4096, feed_forward_proj=feed_forward, tie_word_embeddings=request.param != "t5_1_1"
    )
    model = transformers.AutoModelForSeq2SeqLM.from_config(config)
    if request.param != "t5_1_0":
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    directory = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(directory)
    return directory


def run(*words):
    """Runs the console script in this process and returns its exit code."""
    try:
        main([*map(str, words)])
    except SystemExit as leaving:
        return leaving.code
    return 0


@pytest.fixture(scope="module")
def imported(huggingface, tmp_path_factory):
    output = tmp_path_factory.mktemp("ours") / "model"
    words = ("--checkpoint", huggingface, "--format", "hf", "--output", output, "--tokenizer", SPIECE)
    assert run("import", *words) == 0
    return output


def tensors(model_dir):
    return to_tensors(load_for_inference(model_dir).params)


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(actual[name], tensor, err_msg=name)


def test_huggingface_round_trip_is_exact(huggingface, imported, tmp_path):
    assert run("export", "--checkpoint", imported, "--format", "hf", "--output", tmp_path / "hf") == 0
    stored = load_file(huggingface / "model.safetensors")
    assert_same(load_file(tmp_path / "hf/model.safetensors"), stored)


def test_transformers_loads_the_export_as_the_same_function(rounding, imported, tmp_path):
    torch = pytest.importorskip("torch")
    run("export", "--checkpoint", imported, "--format", "hf", "--output", tmp_path / "hf")
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "hf").eval()
    card, params, tokenizer = load_for_inference(imported)
    tokens = np.array([[*tokenizer.encode("is this so?"), tokenizer.eos_id]])
    with torch.no_grad():
        expected = theirs(input_ids=torch.tensor(tokens), decoder_input_ids=torch.zeros(1, 1, dtype=int)).logits
    module = models.build(dataclasses.replace(card.config, dtype="float32"))
    ids = np.array(card.label_ids)
    found = first_step_logits(module, params, tokens, ids)[0]
    rounding.assert_equal_but_for_rounding(found, expected[0, 0].numpy()[ids], terms=T5_SHAPE["d_ff"])
    auto = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert auto("is this so?").input_ids == tokens[0].tolist()


def test_transformers_reads_bytes_as_we_do(tmp_path):
    pytest.importorskip("torch")
    config = transformers.T5Config(**T5_SHAPE, vocab_size=384, feed_forward_proj="gated-gelu")
    transformers.AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path / "byt5")
    words = ("--checkpoint", tmp_path / "byt5", "--format", "hf", "--output", tmp_path / "ours", "--tokenizer", "byt5")
    assert run("import", *words) == 0
    assert run("export", "--checkpoint", tmp_path / "ours", "--format", "hf", "--output", tmp_path / "hf") == 0
    tokenizer, theirs = load_tokenizer("byt5"), transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert theirs("Is it café?").input_ids == [*tokenizer.encode("Is it café?"), tokenizer.eos_id]


def test_t5x_round_trip_is_exact(imported, tmp_path):
    assert run("export", "--checkpoint", imported, "--format", "t5x", "--output", tmp_path / "t5x") == 0
    words = ("--checkpoint", tmp_path / "t5x/checkpoint_0", "--format", "t5x", "--tokenizer", SPIECE)
    assert run("import", *words, "--output", tmp_path / "back") == 0
    assert_same(tensors(tmp_path / "back"), tensors(imported))
    original, back = (load_for_inference(path).card.config for path in (imported, tmp_path / "back"))
    if original.logits_via_embedding == original.scale_logits:  # T5X scales exactly if tied
        assert back == original


def test_t5x_file_holds_specs_and_empty_adafactor_slots(imported, tmp_path):
    """What upstream parses when it restores: TensorStore specs whose shapes are lists, and the slots it expects."""
    run("export", "--checkpoint", imported, "--format", "t5x", "--output", tmp_path / "t5x")
    contents = flax.serialization.msgpack_restore((tmp_path / "t5x/checkpoint_0/checkpoint").read_bytes())
    spec = contents["optimizer"]["target"]["encoder"]["layers_0"]["attention"]["query"]["kernel"]
    assert contents["version"] == 3
    assert spec["kvstore"] == {"driver": "file", "path": "target.encoder.layers_0.attention.query.kernel"}
    assert spec["metadata"]["shape"] == [32, 48]
    slots = contents["optimizer"]["state"]["param_states"]["token_embedder"]["embedding"]
    assert {name: slot.shape for name, slot in slots.items()} == {
        "m": (1,),
        "v": (4096, 32),
        "v_row": (1,),
        "v_col": (1,),
    }


def test_a_legacy_checkpoint_as_t5x_itself_left_it(imported, tmp_path):
    """Specs by whichever driver it was written with, in bfloat16 too; small tensors inside the msgpack file."""
    expected, stored = tensors(imported), {}
    directory = tmp_path / "checkpoint_11"
    directory.mkdir()
    for number, (name, tensor) in enumerate(expected.items()):
        if tensor.ndim == 1:
            stored[name] = tensor
            continue
        kind = "bfloat16" if "mlp" in name else "float32"
        folder = f"target.{name.replace('/', '.')}"
        metadata = {"compressor": {"id": "gzip"}, "shape": list(tensor.shape), "chunks": [16, tensor.shape[1]]}
        zarr = {"driver": "zarr", "dtype": kind, "metadata": metadata}
        located = zarr | {"kvstore": {"driver": "file", "path": str(directory / folder)}}
        ts.open(located, create=True).result().write(tensor.astype(kind)).result()
        moved = {"kvstore": {"driver": "gcs", "bucket": "t5x-dummy-bucket"}, "path": folder}
        stored[name] = zarr | (moved if number % 2 else {"kvstore": {"driver": "gfile", "path": folder}})
        expected[name] = tensor.astype(kind).astype(np.float32)
    target = flax.traverse_util.unflatten_dict(stored, sep="/")
    contents = {"version": 3, "optimizer": {"target": target, "state": {"step": np.int32(11), "param_states": {}}}}
    (directory / "checkpoint").write_bytes(flax.serialization.msgpack_serialize(contents))
    _, params, step, _ = read_t5x(directory)
    assert step == 11
    assert_same(to_tensors(params), expected)


def change_msgpack(checkpoint, change):
    """Rewrites the tree of tensors in a legacy checkpoint."""
    contents = flax.serialization.msgpack_restore((checkpoint / "checkpoint").read_bytes())
    change(contents["optimizer"]["target"])
    (checkpoint / "checkpoint").write_bytes(flax.serialization.msgpack_serialize(contents))


WO = "encoder/layers_1/mlp/wo/kernel"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda target: target["encoder"]["layers_1"]["mlp"].pop("wo"), f"tensor {WO} (48, 32) is missing"),
        (lambda target: target.pop("token_embedder"), "tensor token_embedder/embedding is missing"),
        (
            lambda target: target["encoder"]["layers_1"]["mlp"]["wo"].update(kernel=np.zeros((48, 30), np.float32)),
            f"tensor {WO} has shape (48, 30), expected (48, 32)",
        ),
        (
            lambda target: target["encoder"]["layers_1"]["mlp"]["wo"]["kernel"]["kvstore"].update(path="target.gone"),
            "checkpoint_0/target.gone: cannot be read",
        ),
    ],
    ids=["missing", "no embeddings", "misshapen", "no folder"],
)
def test_a_bad_tensor_of_t5x_is_named(imported, tmp_path, capsys, change, message):
    assert run("export", "--checkpoint", imported, "--format", "t5x", "--output", tmp_path / "t5x") == 0
    change_msgpack(tmp_path / "t5x/checkpoint_0", change)
    words = ("--checkpoint", tmp_path / "t5x/checkpoint_0", "--format", "t5x", "--tokenizer", SPIECE)
    assert run("import", *words, "--output", tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_t5x_orbax_layout(imported, tmp_path):
    expected = tensors(imported)
    target = flax.traverse_util.unflatten_dict(expected, sep="/")
    state = {"target": target, "state": {"step": np.int32(7), "param_states": {}}}
    ocp.PyTreeCheckpointer().save(tmp_path / "checkpoint_7/state", state)
    _, params, step, _ = read_t5x(tmp_path / "checkpoint_7")
    assert step == 7
    assert_same(to_tensors(params), expected)


def test_t5x_scanned_layers(imported, tmp_path):
    """T5X's scalable T5 stacks layers on axis 1 and may keep heads and dimensions apart."""
    expected = tensors(imported)
    stacked = {}
    for name, tensor in expected.items():
        if "layers_0" in name:
            both = np.stack([tensor, expected[name.replace("layers_0", "layers_1")]], axis=1)
            if "attention/query" in name:
                both = both.reshape(*both.shape[:2], 6, 8)
            stack = name.split("/")[0]
            stacked[name.replace("layers_0", stack)] = both
        elif "layers_1" not in name:
            stacked[name] = tensor
    state = {"target": flax.traverse_util.unflatten_dict(stacked, sep="/"), "state": {"step": np.int32(0)}}
    ocp.PyTreeCheckpointer().save(tmp_path / "checkpoint_0/state", state)
    assert_same(to_tensors(read_t5x(tmp_path / "checkpoint_0")[1]), expected)


def test_scanned_and_unrolled_parameters_are_the_same_tensors(rounding, imported):
    card, params, _ = load_for_inference(imported)
    exact = dataclasses.replace(card.config, dtype="float32")
    unrolled, scanned = models.build(exact), models.build(dataclasses.replace(exact, scan_layers=True))
    tokens, ids = np.array([[5, 9, 3, 1, 0]]), np.array([4, 8])
    stacked = stack_layers(jax.tree.map(np.asarray, params))
    found, expected = first_step_logits(scanned, stacked, tokens, ids), first_step_logits(unrolled, params, tokens, ids)
    rounding.assert_equal_but_for_rounding(found, expected, terms=T5_SHAPE["d_ff"])
    assert_same(to_tensors(stacked), to_tensors(params))


def copied(huggingface, tmp_path, change):
    """A copy of a model whose tensors went through `change`."""
    stored = load_file(huggingface / "model.safetensors")
    change(stored)
    (tmp_path / "config.json").write_bytes((huggingface / "config.json").read_bytes())
    save_file(stored, tmp_path / "model.safetensors")
    return tmp_path


def test_weights_in_several_files_and_in_bfloat16(huggingface, imported, tmp_path):
    kind = ml_dtypes.bfloat16
    stored = {name: tensor.astype(kind) for name, tensor in load_file(huggingface / "model.safetensors").items()}
    names = sorted(stored)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: stored[name] for name in part}, tmp_path / file)
    weight_map = {name: file for file, part in parts.items() for name in part}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (tmp_path / "config.json").write_bytes((huggingface / "config.json").read_bytes())
    config, params = read_huggingface(tmp_path)
    assert config == load_for_inference(imported).card.config
    rounded = {name: np.asarray(tensor).astype(kind).astype(np.float32) for name, tensor in tensors(imported).items()}
    assert_same(to_tensors(params), rounded)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"model-00002-of-00002\.safetensors: cannot be read"):
        read_huggingface(tmp_path)


BROKEN = "decoder.block.1.layer.1.EncDecAttention.k.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stored: stored.pop(BROKEN), f"tensor {BROKEN} is missing"),
        (
            lambda stored: stored.update({BROKEN: np.zeros((48, 31), np.float32)}),
            "tensor decoder/layers_1/encoder_decoder_attention/key/kernel has shape (31, 48), expected (32, 48)",
        ),
    ],
    ids=["missing", "misshapen"],
)
def test_a_bad_tensor_is_named(huggingface, tmp_path, capsys, change, message):
    source = copied(huggingface, tmp_path, change)
    words = ("--checkpoint", source, "--format", "hf", "--output", tmp_path / "out", "--tokenizer", SPIECE)
    assert run("import", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_converted_says_why(imported, tmp_path, capsys):
    (tmp_path / "bert").mkdir()
    save_file({}, tmp_path / "bert/model.safetensors")
    (tmp_path / "bert/config.json").write_text(json.dumps({"model_type": "bert"}))
    cases = [
        (("import", "--checkpoint", tmp_path / "bert", "--format", "hf"), "model_type 'bert' is not supported"),
        (("import", "--checkpoint", tmp_path / "none", "--format", "hf"), "no such directory"),
        (("import", "--checkpoint", tmp_path, "--format", "hf"), "config.json: no such file"),
        (("import", "--checkpoint", tmp_path, "--format", "t5x"), "not a T5X checkpoint"),
        (("export", "--checkpoint", tmp_path, "--format", "hf"), "no complete checkpoint"),
    ]
    for words, message in cases:
        assert run(*words, "--output", tmp_path / "out") == 2
        assert message in capsys.readouterr().err
    assert run("export", "--checkpoint", imported, "--format", "hf", "--output", tmp_path) == 2
    assert "already exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    "kind",
    [transformers.LlamaConfig, transformers.Qwen2Config, transformers.Qwen3Config],
    ids=["llama", "qwen2", "qwen3"],
)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_decoder_only_round_trip(tmp_path, kind, tied):
    torch = pytest.importorskip("torch")
    config = kind(
        vocab_size=4096,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
    )
    original = transformers.AutoModelForCausalLM.from_config(config).eval()
    original.save_pretrained(tmp_path / "theirs")
    words = ("--checkpoint", tmp_path / "theirs", "--format", "hf", "--output", tmp_path / "ours")
    assert run("import", *words, "--tokenizer", SPIECE) == 0
    assert run("export", "--checkpoint", tmp_path / "ours", "--format", "hf", "--output", tmp_path / "back") == 0
    assert_same(load_file(tmp_path / "back/model.safetensors"), load_file(tmp_path / "theirs/model.safetensors"))
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "back").eval()
    tokens = torch.tensor([[5, 9, 3, 7]])
    with torch.no_grad():
        assert torch.equal(again(tokens).logits, original(tokens).logits)
    assert run("export", "--checkpoint", tmp_path / "ours", "--format", "t5x", "--output", tmp_path / "t5x") == 2
    assert not (tmp_path / "t5x").exists()


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_t5gemma_round_trip(tmp_path, tied):
    torch = pytest.importorskip("torch")
    sizes = {"vocab_size": 4096, "intermediate_size": 48, "num_hidden_layers": 2, "num_key_value_heads": 2}
    sizes |= {"num_attention_heads": 4, "head_dim": 8}
    sides = {name: {**sizes, "hidden_size": width} for name, width in (("encoder", 48), ("decoder", 32))}
    config = transformers.T5GemmaConfig(**sides, vocab_size=4096, tie_word_embeddings=tied)
    original = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    original.save_pretrained(tmp_path / "theirs")
    words = ("--checkpoint", tmp_path / "theirs", "--format", "hf", "--output", tmp_path / "ours")
    assert run("import", *words, "--tokenizer", SPIECE) == 0
    assert run("export", "--checkpoint", tmp_path / "ours", "--format", "hf", "--output", tmp_path / "back") == 0
    assert_same(load_file(tmp_path / "back/model.safetensors"), load_file(tmp_path / "theirs/model.safetensors"))
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "back").eval()
    batch = {"input_ids": torch.tensor([[5, 9, 3, 7]]), "decoder_input_ids": torch.tensor([[2, 8]])}
    with torch.no_grad():
        assert torch.equal(again(**batch).logits, original(**batch).logits)
    assert run("export", "--checkpoint", tmp_path / "ours", "--format", "t5x", "--output", tmp_path / "t5x") == 2
    assert not (tmp_path / "t5x").exists()


def test_t5gemma2_round_trip_of_its_text(tmp_path, capsys):
    """The text is exact; the vision tower stays behind, and what stands in for it in the export loads as it is."""
    torch = pytest.importorskip("torch")
    text = {"vocab_size": 4096, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 7, "head_dim": 8}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 2}
    images = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    encoder = {"text_config": text, "vision_config": images, "eoi_token_index": 7}
    config = transformers.T5Gemma2Config(encoder=encoder, decoder=text)
    original = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    torch.nn.init.normal_(original.get_input_embeddings().eoi_embedding)
    original.save_pretrained(tmp_path / "theirs")
    words = ("--checkpoint", tmp_path / "theirs", "--format", "hf", "--output", tmp_path / "ours")
    assert run("import", *words, "--tokenizer", SPIECE) == 0
    assert run("export", "--checkpoint", tmp_path / "ours", "--format", "hf", "--output", tmp_path / "back") == 0
    assert re.search(r"theirs: left out \d\d tensors that are there for images", capsys.readouterr().err)
    theirs, back = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "back"))
    assert back.keys() < theirs.keys()
    assert all("vision_tower" in name for name in theirs.keys() - back.keys())
    of_images = {name for name in back if "vision_tower" in name or "multi_modal" in name}
    assert sum(back[name].size for name in of_images) < 100
    assert_same(*({name: given[name] for name in back.keys() - of_images} for given in (back, theirs)))
    again, report = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(report.values())
    batch = {"input_ids": torch.tensor([[5, 9, 7, 3, 8]]), "decoder_input_ids": torch.tensor([[2, 8, 7, 9]])}
    with torch.no_grad():
        assert torch.equal(again.eval()(**batch).logits, original(**batch).logits)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DecoderConfig(bidirectional_prefix=True), "bidirectional_prefix True is nothing that transformers knows"),
        (DecoderConfig(mlp_activations=("gelu", "linear")), r"mlp_activations \('gelu', 'linear'\) is nothing"),
        (T5Config(mlp_activations=("silu",)), r"mlp_activations \('silu',\) is nothing"),
        (T5GemmaConfig(merged_attention=True), r"merged_attention True is nothing .*\(t5gemma has False"),
        (T5Gemma2Config(attention_cap=50.0), r"attention_cap 50.0 is nothing .*\(t5gemma2 has None"),
        (T5Gemma2Config(logits_via_embedding=False), r"logits_via_embedding False is nothing .*\(t5gemma2 has True"),
    ],
)
def test_what_transformers_cannot_compute_is_refused(config, message):
    with pytest.raises(InputError, match=message):
        to_hf_config(config, load_tokenizer(SPIECE))
