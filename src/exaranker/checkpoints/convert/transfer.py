"""Import and export: between our checkpoints and the directories of Hugging Face and T5X."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from exaranker.checkpoints.card import Adapter, ModelCard
from exaranker.checkpoints.convert.huggingface import read_huggingface, write_huggingface
from exaranker.checkpoints.convert.model_card import Measured
from exaranker.checkpoints.convert.peft import read_peft, write_peft
from exaranker.checkpoints.convert.ranker import kept_ranker, write_adapter_card, write_ranker
from exaranker.checkpoints.convert.t5x import read_t5x, write_t5x
from exaranker.checkpoints.folder import PREFIX, TOKENIZER, find_checkpoint, load_card
from exaranker.checkpoints.reading import weights_digest
from exaranker.checkpoints.store import (
    load_adafactor_slots,
    load_as_saved,
    load_for_inference,
    refuse_adapter,
    save_model,
)
from exaranker.errors import InputError
from exaranker.files import atomic_folder, named
from exaranker.models import ModelConfig, family_of
from exaranker.templates import DECODER_ONLY, ENCODER_DECODER, Template, label_ids, template_named
from exaranker.tokenization import Tokenizer, load_tokenizer

FORMATS = ("hf", "t5x", "peft")
DEFAULT_TEMPLATES = {ENCODER_DECODER: "exaranker", DECODER_ONLY: "decoder"}


def import_checkpoint(
    source: Path,
    form: str,
    output: Path,
    tokenizer_path: str | None = None,
    template_name: str | Template | None = None,
    max_length: int | None = None,
) -> Path:
    """Writes `output/checkpoint_<step>` from a Hugging Face directory or a T5X checkpoint_N, and returns its path.

    An export of ours gives its template and its `max_length` (tokens of an input), unless others are given.
    It is written aside and renamed, so `output` is either whole or not there.

    Raises:
        InputError: something is missing or does not fit together, or `output` already holds a checkpoint.
    """
    _refuse_existing(output, "MODEL_DIR")
    config, params, step, slots = _read(source, form)
    tokenizer = _tokenizer(source, form, tokenizer_path, config)
    kept = None if template_name else kept_ranker(source, tokenizer)
    template = kept.template if kept else _template(config, template_name)
    max_length = max_length or (kept and kept.max_length)
    ids = label_ids(tokenizer, template)
    card = ModelCard(config, template, tokenizer.digest, ids, step=step, max_length=max_length)
    with atomic_folder(output) as aside:
        name = save_model(aside, card, params, tokenizer, step, slots).name
    return output / name


def import_adapter(source: Path, base: str | Path, output: Path, template_name: str | None = None) -> Path:
    """Writes `output/checkpoint_0` from PEFT's directory of an adapter of our checkpoint `base`; returns its path.

    The template is the one named, the one that an export of ours keeps, or the base's. `output` is either whole or not
    there.

    Raises:
        InputError: something is missing or does not fit together, or `output` already holds a checkpoint.
    """
    _refuse_existing(output, "MODEL_DIR")
    model_dir, step = find_checkpoint(base)
    path = model_dir / f"{PREFIX}_{step}"
    card = load_card(path)
    refuse_adapter(card, path)
    config = replace(card.config, scan_layers=False)
    lora, params = read_peft(source, config)
    tokenizer = load_tokenizer(model_dir / TOKENIZER)
    kept = None if template_name else kept_ranker(source, tokenizer)
    given = template_name or (kept.template if kept else card.template)
    template = _template(config, given)
    max_length = kept.max_length if kept else card.max_length
    adapter = Adapter(lora, named(str(path)), weights_digest(path))
    ids = label_ids(tokenizer, template)
    made = ModelCard(config, template, tokenizer.digest, ids, adapter=adapter, max_length=max_length)
    with atomic_folder(output) as aside:
        name = save_model(aside, made, params, tokenizer).name
    return output / name


def export_checkpoint(
    source: Path,
    form: str,
    output: Path,
    base: str | Path | None = None,
    results: Sequence[Measured] = (),
    dtype: str | None = None,
) -> Path:
    """Writes our checkpoint as a Hugging Face directory, or as T5X's `output/checkpoint_<step>`; returns the path.

    An adapter, of the model at `base` if that has moved, is merged, or written as PEFT's directory. `results` stand in
    the model card of a directory for Hugging Face or PEFT; its arrays are rounded to `dtype` ("bfloat16"), which else
    is the checkpoint's. It is written aside and renamed, so `output` is either whole or not there.

    Raises:
        InputError: there is no checkpoint, `output` already exists, or the format does not know the architecture.
    """
    _refuse_existing(output, "a directory")
    _, step = find_checkpoint(source)
    load = load_as_saved if form == "peft" else load_for_inference
    card, params, tokenizer = load(source, base=base)
    if dtype is not None:
        params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    with atomic_folder(output) as aside:
        if form == "peft":
            if card.adapter is None:
                raise InputError(
                    "holds a whole model, expected an adapter", path=source, hint="give --format hf or t5x"
                )
            write_peft(aside, card.config, card.adapter.lora, params)
            write_adapter_card(aside, card, step, tokenizer, results)
        elif form == "hf":
            write_huggingface(aside, card.config, params, tokenizer)
            write_ranker(aside, card, step, tokenizer, results)
        else:
            write_t5x(aside, card.config, params, step, load_adafactor_slots(source))
            tokenizer.save(aside)
    return output / f"checkpoint_{step}" if form == "t5x" else output


def _read(source: Path, form: str) -> tuple[ModelConfig, Any, int, Any]:
    if not source.is_dir():
        raise InputError("no such directory", path=source)
    if form == "hf":
        return *read_huggingface(source), 0, None
    return read_t5x(source)


def _template(config: ModelConfig, name: str | Template | None) -> Template:
    family = family_of(config).template_family
    template = template_named(name or DEFAULT_TEMPLATES[family])
    if template.family != family:
        raise InputError(
            f"template {template.name!r} is for {template.family} models, this one is {family}",
            hint=f"the default is --template {DEFAULT_TEMPLATES[family]}",
        )
    return template


def _tokenizer(source: Path, form: str, given: str | None, config: ModelConfig) -> Tokenizer:
    if given is None and form == "t5x":
        raise InputError("a T5X checkpoint has no tokenizer", path=source, hint="give --tokenizer spiece.model or byt5")
    tokenizer = load_tokenizer(given or source)
    if tokenizer.vocab_size > config.vocab_size:
        raise InputError(
            f"the tokenizer has {tokenizer.vocab_size} pieces, the model only {config.vocab_size}",
            path=given or source,
            hint="give the tokenizer the model was trained with: --tokenizer FILE",
        )
    return tokenizer


def _refuse_existing(output: Path, what: str) -> None:
    if output.exists() and any(output.iterdir()):
        raise InputError("already exists and is not empty", path=output, hint=f"name {what} that does not exist yet")
