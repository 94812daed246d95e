"""Adapters come from PEFT and go back to it, with equal logits; what ours cannot hold is refused by name."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import transformers
from safetensors.numpy import load_file, save_file

from exaranker import models
from exaranker.checkpoints.card import ModelCard
from exaranker.checkpoints.convert.huggingface import read_huggingface
from exaranker.checkpoints.folder import load_card
from exaranker.checkpoints.store import load_for_inference, save_model
from exaranker.cli import main
from exaranker.errors import InputError
from exaranker.files.shipped import shipped
from exaranker.rank.reranker import Reranker
from exaranker.templates import TEMPLATES
from exaranker.tokenization import load_tokenizer

peft = pytest.importorskip("peft")
torch = pytest.importorskip("torch")

T5GEMMA2 = {
    "vocab_size": 4096,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}
NO_IMAGES = {"hidden_size": 1, "intermediate_size": 1, "num_hidden_layers": 0, "num_attention_heads": 1}
SHAPES = {
    "t5": transformers.T5Config(
        vocab_size=4096, d_model=16, d_kv=8, d_ff=24, num_heads=2, num_layers=2, decoder_start_token_id=0
    ),
    "llama": transformers.LlamaConfig(
        vocab_size=4096,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    ),
    "t5gemma2": transformers.T5Gemma2Config(
        encoder={"text_config": T5GEMMA2, "vision_config": {**NO_IMAGES, "image_size": 224}}, decoder=T5GEMMA2
    ),
}
TARGETS: dict[str, Any] = {"t5": ["q", "wo", "EncDecAttention.k"], "llama": "all-linear"}
TARGETS["t5gemma2"] = ["k_proj", "down_proj", "encoder.text_model.layers.0.self_attn.q_proj"]
TEMPLATE = {"t5": "exaranker", "llama": "decoder", "t5gemma2": "exaranker"}
CLAIMED = 1e-4  # of logits, in docs/claims.md
TERMS = 24 + 3  # of the longest sum: of `wo`, whose inputs are 24 wide, and of the rank 3
PAIRS = [("what do bees make", "Bees make honey."), ("what is a capo", "")]
TOKENS = np.random.default_rng(0).integers(4, 4000, (2, 9))


def run(*words: Any) -> int:
    try:
        main([*map(str, words)])
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0


def base_model(directory: Path) -> Any:
    auto = transformers.AutoModelForSeq2SeqLM if "t5" in directory.name else transformers.AutoModelForCausalLM
    return auto.from_pretrained(directory)


def their_logits(model: Any) -> np.ndarray:
    tokens = torch.tensor(TOKENS)
    inputs = {"decoder_input_ids": tokens} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model.eval()(input_ids=tokens, **inputs).logits.numpy()


def our_logits(model_dir: Path, base: Path) -> np.ndarray:
    card, params, _ = load_for_inference(model_dir, base=base)
    batch = {"decoder_input_tokens": jnp.asarray(TOKENS), "encoder_input_tokens": jnp.asarray(TOKENS)}
    return np.asarray(models.build(card.config).apply({"params": params}, batch))


@pytest.fixture(scope="module", params=SHAPES)
def folder(request, tmp_path_factory) -> Path:
    """{hf_NAME, base, adapter}: a random model of transformers, the same as ours, and PEFT's adapter of it."""
    name = request.param
    root = tmp_path_factory.mktemp("peft")
    torch.manual_seed(0)
    auto = transformers.AutoModelForSeq2SeqLM if "t5" in name else transformers.AutoModelForCausalLM
    auto.from_config(SHAPES[name]).save_pretrained(root / f"hf_{name}")
    config, params = read_huggingface(root / f"hf_{name}")
    tokenizer = load_tokenizer(shipped("examples/sample") / "spiece.model")
    exact = models.config_from_json({**models.config_to_json(config), "dtype": "float32"})
    save_model(root / "base", ModelCard(exact, TEMPLATES[TEMPLATE[name]], tokenizer.digest), params, tokenizer)
    settings = peft.LoraConfig(r=3, lora_alpha=7, use_rslora=True, target_modules=TARGETS[name])
    theirs = peft.get_peft_model(base_model(root / f"hf_{name}"), settings)
    for parameter_name, parameter in theirs.named_parameters():
        if "lora_" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.3)
    theirs.save_pretrained(root / "adapter")
    np.save(root / "expected.npy", their_logits(theirs))
    words = ("--checkpoint", root / "adapter", "--base", root / "base", "--output", root / "ours")
    assert run("import", "--format", "peft", *words) == 0
    return root


@pytest.fixture(scope="module")
def tolerance(rounding, folder) -> float:
    """How far two computations of the logits may lie apart."""
    model = peft.PeftModel.from_pretrained(base_model(next(folder.glob("hf_*"))), folder / "adapter")
    [found] = rounding.moved_by_rounding(lambda model: [their_logits(model)], model, TERMS)
    return found


def test_an_adapter_of_peft_has_its_logits(tolerance, folder):
    expected = np.load(folder / "expected.npy")
    assert tolerance < CLAIMED
    np.testing.assert_allclose(our_logits(folder / "ours", folder / "base"), expected, rtol=0, atol=tolerance)
    adapter = load_card(folder / "ours").adapter
    assert adapter is not None
    assert (adapter.lora.rank, adapter.lora.alpha, adapter.lora.rslora) == (3, 7.0, True)
    if (folder / "hf_llama").exists():
        assert adapter.lora.layers == ("key", "out", "query", "value", "wi_0", "wi_1", "wo")


def test_peft_loads_what_we_export_as_the_same(tolerance, folder, tmp_path):
    base = tmp_path / "moved"
    shutil.copytree(folder / "base", base)
    words = ("--checkpoint", folder / "ours", "--base", base)
    assert run("export", *words, "--format", "peft", "--output", tmp_path / "back") == 0
    before, after = (load_file(path / "adapter_model.safetensors") for path in (folder / "adapter", tmp_path / "back"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        np.testing.assert_array_equal(after[name], tensor, err_msg=name)
    expected = np.load(folder / "expected.npy")
    theirs = peft.PeftModel.from_pretrained(base_model(next(folder.glob("hf_*"))), tmp_path / "back")
    np.testing.assert_array_equal(their_logits(theirs), expected)
    merged = tmp_path / f"merged_{next(folder.glob('hf_*')).name}"
    assert run("export", *words, "--format", "hf", "--output", merged) == 0
    np.testing.assert_allclose(their_logits(base_model(merged)), expected, rtol=0, atol=tolerance)


def test_the_base_may_be_the_model_of_hugging_face(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EXARANKER_CACHE", str(tmp_path / "cache"))
    model = tmp_path / "owner/model"
    shutil.copytree(next(folder.glob("hf_*")), model)
    shutil.copy(shipped("examples/sample") / "spiece.model", model)
    ours = list(Reranker.from_checkpoint(folder / "ours", base=folder / "base").score(PAIRS))
    assert list(Reranker.from_checkpoint(folder / "ours", base=model).score(PAIRS)) == ours
    [converted] = (tmp_path / "cache").glob("owner--model-*")
    assert f"{model}: the base of an adapter; is converted to {converted}" in capsys.readouterr().err
    merged = ("--checkpoint", folder / "ours", "--base", model, "--output", tmp_path / "merged")
    assert run("export", *merged, "--format", "hf") == 0
    words = ("--checkpoint", folder / "adapter", "--base", model, "--output", tmp_path / "again")
    assert run("import", "--format", "peft", *words) == 0
    again, first = (load_card(path).adapter for path in (tmp_path / "again", folder / "ours"))
    assert again == dataclasses.replace(first, base=str(converted / "checkpoint_0"))
    weights = load_file(model / "model.safetensors")
    save_file({name: tensor + np.float32(1e-3) for name, tensor in weights.items()}, model / "model.safetensors")
    with pytest.raises(InputError, match=r"checkpoint_0: has other weights .* than the base of .*--base DIR\|ID"):
        Reranker.from_checkpoint(folder / "ours", base=model)


def test_a_whole_model_is_given_no_base(folder):
    with pytest.raises(InputError, match=r"base/checkpoint_0: a whole model, which has no base \(leave out --base"):
        Reranker.from_checkpoint(folder / "base", base=folder / "base")


def test_an_export_says_how_to_rank_with_it_and_comes_back_rounded_as_asked(folder, tmp_path):
    base, out = folder / "base", tmp_path / "out"
    template = tmp_path / "mine.yaml"
    source = "input: '{passage} {query}'\nrelevant: green\nirrelevant: no\n"
    source += "family: decoder_only\nlead: ' '\n" if (folder / "hf_llama").exists() else ""
    template.write_text(source)
    words = ("--format", "peft", "--base", base)
    assert run("import", *words, "--checkpoint", folder / "adapter", "--template", template, "--output", out) == 0
    written = tmp_path / "written"
    assert run("export", *words, "--checkpoint", out, "--output", written, "--dtype", "bfloat16") == 0
    assert run("import", *words, "--checkpoint", written, "--output", tmp_path / "back") == 0
    assert load_card(tmp_path / "back").template == load_card(out).template
    assert load_card(tmp_path / "back").max_length == json.loads((written / "exaranker.json").read_text())["max_length"]
    for name, tensor in load_file(written / "adapter_model.safetensors").items():
        exact = load_file(folder / "adapter/adapter_model.safetensors")[name]
        assert tensor.dtype == "bfloat16"
        np.testing.assert_array_equal(tensor, exact.astype(tensor.dtype), err_msg=name)
    card = (written / "README.md").read_text()
    assert "LoRA of rank 3" in card
    assert "{passage} {query}" in card
    assert 'PeftModel.from_pretrained(base, "DIR")' in card


def test_options_that_an_adapter_cannot_have_are_refused(folder, tmp_path, capsys):
    words = ("--format", "peft", "--base", folder / "base", "--checkpoint", folder / "adapter")
    other = "monot5" if (folder / "hf_llama").exists() else "decoder"
    assert run("import", *words, "--output", tmp_path / "out", "--template", other) == 2
    assert f"template '{other}' is for " in capsys.readouterr().err
    assert run("import", *words, "--output", tmp_path / "out", "--tokenizer", "byt5") == 2
    assert "--tokenizer goes with --format hf or t5x" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_directory_of_peft_is_named_as_what_it_is(folder):
    with pytest.raises(
        InputError, match=r"adapter: PEFT's directory of an adapter \(.* exaranker import --format peft"
    ):
        Reranker.from_checkpoint(folder / "adapter")


def test_a_whole_model_is_no_adapter(folder, tmp_path, capsys):
    words = ("--checkpoint", folder / "base", "--format", "peft", "--output", tmp_path / "no")
    assert run("export", *words) == 2
    assert "holds a whole model, expected an adapter (give --format hf or t5x)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank_pattern": {"q": 5}}, "rank_pattern {'q': 5} is not supported (merge it with PEFT"),
        ({"use_dora": True}, "use_dora True is not supported"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save ['lm_head'] is not supported"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights 'pissa_niter_4' changes the base's weights"),
        ({"peft_type": "IA3"}, "peft_type 'IA3' is not supported (only 'LORA' is)"),
        ({"r": 4}, "adapter arrays differ; decoder/layers_0/"),
        ({"r": 0}, "adapter_config.json: LORA_RANK is 0, expected at least 1"),
        ({"lora_alpha": "x"}, 'adapter_config.json: lora_alpha is "x", expected a number'),
    ],
)
def test_what_ours_do_not_compute_is_refused_by_name(folder, tmp_path, changes, message, capsys):
    shutil.copytree(folder / "adapter", tmp_path / "adapter")
    path = tmp_path / "adapter/adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    words = ("--checkpoint", tmp_path / "adapter", "--base", folder / "base", "--output", tmp_path / "ours")
    assert run("import", "--format", "peft", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "ours").exists()


def test_tensors_that_are_no_matrix_of_the_base_are_refused(folder, tmp_path, capsys):
    shutil.copytree(folder / "adapter", tmp_path / "adapter")
    path = tmp_path / "adapter/adapter_model.safetensors"
    extra = "base_model.model.model.embed_tokens.lora_embedding_A"
    save_file({**load_file(path), extra: np.ones((3, 4096), np.float32)}, path)
    words = ("--checkpoint", tmp_path / "adapter", "--base", folder / "base", "--output", tmp_path / "ours")
    assert run("import", "--format", "peft", *words) == 2
    assert f"tensor {extra} is no low-rank matrix of a dense layer of the base" in capsys.readouterr().err
