"""What a run finds in its MODEL_DIR: whether it may go on there, and what was changed since."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from exaranker.checkpoints.card import Adapter, ModelCard
from exaranker.checkpoints.folder import PREFIX, read_card, steps_to_resume
from exaranker.errors import InputError
from exaranker.files import read_json, sha256_file
from exaranker.schema import MANIFEST
from exaranker.train.config import TrainConfig

ANEW = "give the run what it began with, or name another MODEL_DIR"
# How a model is computed, not what it is: a run may go on with others.
COMPUTED = ("dropout_rate", "dtype", "remat")
# What does not change the steps, or is compared by what is in it.
APART = {"model_dir", "model", "train_steps", "train_steps_relative", "template", "initial_checkpoint_path", "mesh"}
APART |= {"checkpoint", "eval", "log_period", "data.vocabulary_path", "data.dataset_dir"}


def run_record(config: TrainConfig) -> dict[str, Any]:
    """What decides the steps of a run, for its card: data, optimizer, loss, seed, ...; by macro where there is one."""
    fields = dict(_flattened(config, ""))
    fields |= {name: getattr(config.model, name) for name in COMPUTED[1:]}
    if config.data.dataset_dir is not None:
        fields |= _provenance(Path(config.data.dataset_dir))
    return {name.removeprefix("data.").upper(): value for name, value in sorted(fields.items())}


def _provenance(directory: Path) -> dict[str, str]:
    """The explanations' manifest by its digest, and what it says of pairs, LLM and prompt."""
    path = directory / MANIFEST
    found = {"dataset": sha256_file(path)[:12]}
    settings = read_json(path).get("settings", {})
    parts = {"dataset_name": ("input", "name"), "llm": ("llm", "name"), "prompt": ("prompt", "sha256")}
    found |= {key: settings[part][name] for key, (part, name) in parts.items() if part in settings}
    return found | ({"llm": ", ".join(settings["given"]["explainers"])} if "given" in settings else {})


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two records, in one line; nothing if the first is of a time before there were any.

    >>> changes({"BATCH_SIZE": 8, "PACK": True}, {"BATCH_SIZE": 16, "PACK": True})
    'BATCH_SIZE 16 (was 8)'
    """
    names = sorted(before.keys() | now.keys()) if before else []
    pairs = ((name, before.get(name), now.get(name)) for name in names)
    return ", ".join(f"{name} {new} (was {old})" for name, old, new in pairs if old != new)


def check_model_dir(directory: Path, card: ModelCard) -> None:
    """Holds a run to what its MODEL_DIR already has; writes nothing.

    Raises:
        InputError: there are checkpoints of another model, tokenizer or template, or of no training run.
    """
    for step in steps_to_resume(directory):
        checkpoint = directory / f"{PREFIX}_{step}"
        try:
            stored = read_card(checkpoint)
        except InputError:  # reading all of it will tell whether it is damage
            continue
        for problem in _contradictions(stored, card):
            raise InputError(problem, path=checkpoint, hint=ANEW)
        return


def _contradictions(stored: ModelCard, card: ModelCard) -> Iterator[str]:
    if stored.tokenizer_digest != card.tokenizer_digest:
        yield (
            f"it was trained with another tokenizer (sha256 {stored.tokenizer_digest[:12]}…), VOCABULARY_PATH has "
            f"{card.tokenizer_digest[:12]}…"
        )
    if type(stored.config) is not type(card.config):
        yield f"it is a {type(stored.config).__name__}, the run's model a {type(card.config).__name__}"
    for field in dataclasses.fields(card.config):
        before, now = (getattr(one.config, field.name) for one in (stored, card))
        if field.name not in COMPUTED and before != now:
            yield f"its model has {field.name} {before}, the run's {now}"
    if stored.template != card.template:
        other = " of other words" if stored.template.name == card.template.name else ""
        yield f"it was trained with template {stored.template.name!r}{other}, TEMPLATE is {card.template.name!r}"
    yield from _adapter_contradictions(stored.adapter, card.adapter)


def _adapter_contradictions(stored: Adapter | None, now: Adapter | None) -> Iterator[str]:
    if stored is None or now is None:
        if stored is not now:
            words = ("a whole model", "an adapter")
            yield f"it holds {words[stored is not None]}, the run trains {words[now is not None]}"
        return
    for name in ("rank", "alpha", "layers", "rslora"):  # dropout may change, as a model's
        before, after = getattr(stored.lora, name), getattr(now.lora, name)
        if before != after:
            yield f"its adapter has {name} {before}, LORA_{name.upper()} is {after}"
    if stored.base_digest != now.base_digest:
        yield f"its adapter is of {stored.base}, INITIAL_CHECKPOINT_PATH {now.base} has other weights"


def _flattened(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(value):
        name, inner = f"{prefix}{field.name}", getattr(value, field.name)
        if name in APART:
            continue
        if dataclasses.is_dataclass(inner):
            yield name, type(inner).__name__
            yield from _flattened(inner, f"{name}.")
        else:
            yield name, dict(inner) if isinstance(inner, Mapping) else inner
