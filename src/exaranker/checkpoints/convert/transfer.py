"""Import and export: between our checkpoints and the directories of Hugging Face and T5X."""

from pathlib import Path
from typing import Any

from exaranker.checkpoints.card import ModelCard
from exaranker.checkpoints.convert.huggingface import read_huggingface, write_huggingface
from exaranker.checkpoints.convert.t5x import read_t5x, write_t5x
from exaranker.checkpoints.folder import find_checkpoint
from exaranker.checkpoints.store import load_adafactor_slots, load_for_inference, save_model
from exaranker.errors import InputError
from exaranker.files import atomic_folder
from exaranker.models import ModelConfig, family_of
from exaranker.templates import DECODER_ONLY, ENCODER_DECODER, Template, label_ids, template_named
from exaranker.tokenization import Tokenizer, load_tokenizer

FORMATS = ("hf", "t5x")
DEFAULT_TEMPLATES = {ENCODER_DECODER: "exaranker", DECODER_ONLY: "decoder"}


def import_checkpoint(
    source: Path, form: str, output: Path, tokenizer_path: str | None = None, template_name: str | None = None
) -> Path:
    """Writes `output/checkpoint_<step>` from a Hugging Face directory or a T5X checkpoint_N, and returns its path.

    It is written aside and renamed, so `output` is either whole or not there.

    Raises:
        InputError: something is missing or does not fit together, or `output` already holds a checkpoint.
    """
    _refuse_existing(output, "MODEL_DIR")
    config, params, step, slots = _read(source, form)
    template = _template(config, template_name)
    tokenizer = _tokenizer(source, form, tokenizer_path, config)
    card = ModelCard(config, template, tokenizer.digest, label_ids(tokenizer, template), step=step)
    with atomic_folder(output) as aside:
        name = save_model(aside, card, params, tokenizer, step, slots).name
    return output / name


def export_checkpoint(source: Path, form: str, output: Path) -> Path:
    """Writes our checkpoint as a Hugging Face directory, or as T5X's `output/checkpoint_<step>`; returns the path.

    It is written aside and renamed, so `output` is either whole or not there.

    Raises:
        InputError: there is no checkpoint, `output` already exists, or the format does not know the architecture.
    """
    _refuse_existing(output, "a directory")
    _, step = find_checkpoint(source)
    card, params, tokenizer = load_for_inference(source)
    with atomic_folder(output) as aside:
        if form == "hf":
            write_huggingface(aside, card.config, params, tokenizer)
        else:
            write_t5x(aside, card.config, params, step, load_adafactor_slots(source))
            tokenizer.save(aside)
    return output if form == "hf" else output / f"checkpoint_{step}"


def _read(source: Path, form: str) -> tuple[ModelConfig, Any, int, Any]:
    if not source.is_dir():
        raise InputError("no such directory", path=source)
    if form == "hf":
        return *read_huggingface(source), 0, None
    return read_t5x(source)


def _template(config: ModelConfig, name: str | None) -> Template:
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
