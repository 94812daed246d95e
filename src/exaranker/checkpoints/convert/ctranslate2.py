"""Checkpoints as CTranslate2 computes them: our Hugging Face export through its converter, once, into the cache.

The cache is `exaranker.files.cache_dir`; a conversion is named by the digests of weights and card, the type and both
versions. A killed conversion leaves none, and a second process waits. Its files are held to their digests each time,
about a second per GB: CTranslate2 takes most damage for weights.
"""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from exaranker import __version__
from exaranker.checkpoints.card import ModelCard
from exaranker.checkpoints.convert.families import exported_as
from exaranker.checkpoints.convert.transfer import export_checkpoint
from exaranker.checkpoints.reading import weights_digest
from exaranker.errors import InputError, require
from exaranker.files import atomic_folder, cache_dir, hold, sha256_file, sha256_json, write_text
from exaranker.logs import say
from exaranker.models import family_of

MODEL_TYPES = ("t5", "mt5", "umt5", "llama", "qwen2", "qwen3")  # whose scores were compared with ours
DTYPES = ("float32", "int8")
EXTRA = "ctranslate2"
DIGESTS = "sha256sums"
IN_JAX = "leave out --engine and --dtype int8: JAX computes it"


def converted(checkpoint: Path, card: ModelCard, dtype: str, base: str | Path | None = None) -> Path:
    """The folder that CTranslate2 loads for `checkpoint_N`, converted now if it was not before; an adapter is merged.

    The card is the checkpoint's, with its label ids.

    Raises:
        InputError: CTranslate2 computes no such model or type, a package is missing, an adapter's base is not there, or
            the conversion has been damaged.
    """
    if problem := _problem(card, dtype):
        hint = "give --dtype float32" if dtype == "int8" and family_of(card.config).is_decoder_only else IN_JAX
        raise InputError(problem, path=checkpoint, hint=hint)
    version = require("ctranslate2", EXTRA).__version__
    known = [__version__, version, dtype, card.to_json(), weights_digest(checkpoint)]
    target = cache_dir() / f"ctranslate2-{sha256_json(known)[:16]}"
    if not target.exists():
        with hold(target.with_name(f".{target.name}.converting"), target, wait=True):
            if not target.exists():
                say(f"{checkpoint}: converted for CTranslate2 to {target}")
                _convert(checkpoint, card, dtype, base, target)
    _verify(target)
    return target / "model"


def is_convertible(card: ModelCard, dtype: str) -> bool:
    """Whether CTranslate2 computes the model in this type, and it and its converter are installed."""
    return not _problem(card, dtype) and all(map(find_spec, ("ctranslate2", "transformers", "torch")))


def _problem(card: ModelCard, dtype: str) -> str:
    """What CTranslate2 does not compute of it, if anything."""
    config: Any = card.config
    kind = exported_as(config).model_type
    if dtype not in DTYPES:
        return f"CTranslate2 computes in {' or '.join(DTYPES)} here, not in {dtype}"
    if kind not in MODEL_TYPES:
        return f"no CTranslate2 for this model ({kind}): it is there for {', '.join(MODEL_TYPES)}"
    if kind in ("llama", "qwen2") and config.num_heads * config.head_dim != config.emb_dim:
        return f"CTranslate2 takes emb_dim / num_heads as the width of a {kind}'s head, here it is {config.head_dim}"
    if dtype == "int8" and family_of(config).is_decoder_only:
        return "int8 loses the ranking of a decoder-only model (SmolLM2: Kendall tau 0.53 to fp32)"
    return ""


def _convert(checkpoint: Path, card: ModelCard, dtype: str, base: str | Path | None, target: Path) -> None:
    transformers = require("transformers", EXTRA)
    require("torch", EXTRA)
    from ctranslate2.converters import TransformersConverter

    transformers.logging.disable_progress_bar()
    with atomic_folder(target) as aside:
        exported = export_checkpoint(checkpoint, "hf", aside / "exported", base)
        spec: Any = TransformersConverter(str(exported))._load()
        config: Any = card.config
        spec.config.layer_norm_epsilon = config.layer_norm_epsilon  # of a T5 the converter keeps none
        if family_of(config).is_decoder_only:
            _keep_log_odds(spec.decoder.projection, card)
            _fill_roles(spec.config)
        else:  # the converter goes by tie_word_embeddings, which transformers 5 sets for every T5
            spec.decoder.scale_outputs = np.float32(config.emb_dim**-0.5 if config.scale_logits else 1.0)
        spec.validate()
        spec.optimize(quantization=dtype)
        (aside / "model").mkdir()
        spec.save(str(aside / "model"))
        shutil.rmtree(exported)
        write_text(aside / "model" / DIGESTS, _digests(aside / "model"))


def _verify(conversion: Path) -> None:
    """Holds a conversion to what was written.

    Raises:
        InputError: a file of it is another, or is not there.
    """
    hint = f"remove it, and it is made again: rm -r {conversion}"
    kept = conversion / "model" / DIGESTS
    if not kept.is_file() or kept.read_bytes() != _digests(conversion / "model").encode():
        raise InputError("this conversion for CTranslate2 has been damaged", path=conversion, hint=hint)


def _digests(folder: Path) -> str:
    files = sorted(file for file in folder.glob("*") if file.name != DIGESTS)
    return "".join(f"{sha256_file(file)}  {file.name}\n" for file in files)


def _fill_roles(config: Any) -> None:
    """The converter writes a null for what a tokenizer does not have, and CTranslate2 cannot read that."""
    for role in ("bos_token", "unk_token"):
        if getattr(config, role) is None:
            setattr(config, role, config.eos_token)


def _keep_log_odds(head: Any, card: ModelCard) -> None:
    """Of a decoder's head, which CTranslate2 applies to every position, only what a score is: one row, not 49,152."""
    labels = head.weight.detach()[list(card.label_ids or ())]
    head.weight = (labels[1:] - labels[:1]).numpy()
