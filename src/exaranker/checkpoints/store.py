"""Checkpoints on disk: MODEL_DIR/checkpoint_N/{card,params,optimizer,data}, tokenizer beside them.

A checkpoint describes itself: the card (JSON) holds the model's configuration, the template it was trained with, the
tokenizer's digest and the gin text, so that reading one needs nothing but its directory. Orbax writes each checkpoint
aside and renames it, so a killed process leaves no half checkpoint behind.
"""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from exaranker.checkpoints.card import ModelCard
from exaranker.errors import InputError
from exaranker.tokenization import Tokenizer, load_tokenizer

PREFIX = "checkpoint"
TOKENIZER = "tokenizer"
STEP_DIRECTORY = re.compile(rf"{PREFIX}_(\d+)")
_ITEMS: dict[str, type[ocp.CheckpointHandler]] = {
    "card": ocp.JsonCheckpointHandler,
    "params": ocp.StandardCheckpointHandler,
    "optimizer": ocp.StandardCheckpointHandler,
    "data": ocp.JsonCheckpointHandler,
}


class StoredModel(NamedTuple):
    """A checkpoint's card, weights and tokenizer."""

    card: ModelCard
    params: Any
    tokenizer: Tokenizer


def save_model(directory: str | Path, card: ModelCard, params: Any, tokenizer: Tokenizer, step: int = 0) -> Path:
    """Writes a model without training state to `directory/checkpoint_<step>` and returns that path."""
    directory = Path(directory).absolute()
    save_tokenizer(directory, tokenizer)
    card = dataclasses.replace(card, step=step)
    with open_manager(directory) as manager:
        items = ocp.args.Composite(card=ocp.args.JsonSave(card.to_json()), params=ocp.args.StandardSave(params))
        manager.save(step, args=items, force=True)
    return directory / f"{PREFIX}_{step}"


def save_tokenizer(directory: str | Path, tokenizer: Tokenizer) -> None:
    """Copies the tokenizer's file to `directory/tokenizer`, once per job."""
    if jax.process_index() == 0:
        target = Path(directory) / TOKENIZER
        target.mkdir(parents=True, exist_ok=True)
        tokenizer.save(target)


def load_for_inference(directory: str | Path, *, shardings: Any = None) -> StoredModel:
    """Reads card, parameters and tokenizer from MODEL_DIR (its newest complete checkpoint) or MODEL_DIR/checkpoint_N.

    `shardings` is the sharding of all parameters; without it they go to the first local device.

    Raises:
        InputError: there is no complete checkpoint, or the tokenizer beside it is not the one it was trained with.
    """
    sharding = shardings or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def abstract(stored: Any, path: Path) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), stored)

    return _load(directory, abstract)


def load_for_training(directory: str | Path, params: Any) -> StoredModel:
    """The same, with the shapes and shardings of `params`.

    Raises:
        InputError: as above, or the checkpoint is of another model.
    """

    def abstract(stored: Any, path: Path) -> Any:
        check_same_arrays(stored, params, path, "params", hint="include the models/*.gin of that checkpoint")
        return abstract_like(params)

    return _load(directory, abstract)


def _load(directory: str | Path, abstract: Callable[[Any, Path], Any]) -> StoredModel:
    model_dir, step = find_checkpoint(directory)
    with open_manager(model_dir, create=False) as manager:
        stored = manager.item_metadata(step)["params"].tree
        restore = ocp.args.StandardRestore(abstract(stored, model_dir / f"{PREFIX}_{step}"))
        restored = manager.restore(step, args=ocp.args.Composite(card=ocp.args.JsonRestore(), params=restore))
    card = ModelCard.from_json(restored["card"])
    return StoredModel(card, restored["params"], _matching_tokenizer(model_dir, card))


def load_card(directory: str | Path) -> ModelCard:
    """Reads only the card of a checkpoint; `directory` as for `load_for_inference`."""
    model_dir, step = find_checkpoint(directory)
    return ModelCard.from_json(json.loads((model_dir / f"{PREFIX}_{step}" / "card" / "metadata").read_text()))


def has_checkpoint(directory: Path) -> bool:
    """Whether there is a complete checkpoint to continue from."""
    return directory.is_dir() and bool(_complete_steps(directory))


def find_checkpoint(directory: str | Path) -> tuple[Path, int]:
    """(MODEL_DIR, step) of a directory that is MODEL_DIR or one of its checkpoints.

    Raises:
        InputError: there is no complete checkpoint; the message says what was found instead.
    """
    directory = Path(directory).absolute()
    if not directory.is_dir():
        raise InputError("no such directory", path=directory, hint="expected MODEL_DIR or MODEL_DIR/checkpoint_N")
    if match := STEP_DIRECTORY.fullmatch(directory.name):
        if _is_complete(directory):
            return directory.parent, int(match[1])
    elif steps := _complete_steps(directory):
        return directory, max(steps)
    found = ", ".join(sorted(entry.name for entry in directory.iterdir())[:8]) or "nothing"
    raise InputError(
        f"no complete checkpoint here, found: {found}",
        path=directory,
        hint="expected MODEL_DIR with checkpoint_N/{card,params} in it; wait for the training's next save, or import",
    )


def _complete_steps(directory: Path) -> list[int]:
    matches = ((entry, STEP_DIRECTORY.fullmatch(entry.name)) for entry in directory.iterdir())
    return [int(match[1]) for entry, match in matches if match and _is_complete(entry)]


def _is_complete(checkpoint: Path) -> bool:
    return all((checkpoint / name).exists() for name in ("_CHECKPOINT_METADATA", "card/metadata", "params/_METADATA"))


def _matching_tokenizer(model_dir: Path, card: ModelCard) -> Tokenizer:
    tokenizer = load_tokenizer(model_dir / TOKENIZER)
    if tokenizer.digest != card.tokenizer_digest:
        raise InputError(
            f"the tokenizer's sha256 is {tokenizer.digest[:12]}…, the model was trained with "
            f"{card.tokenizer_digest[:12]}…",
            path=model_dir / TOKENIZER,
            hint="put back the original file, or use a fresh MODEL_DIR",
        )
    return tokenizer


def open_manager(directory: Path, **options: Any) -> ocp.CheckpointManager:
    """Orbax's manager of a MODEL_DIR, whose checkpoints are `checkpoint_STEP`."""
    return ocp.CheckpointManager(
        directory,
        item_handlers=handlers(),
        options=ocp.CheckpointManagerOptions(step_prefix=PREFIX, **options),
    )


def handlers() -> dict[str, ocp.CheckpointHandler]:
    """Orbax's handler of each item of a checkpoint."""
    return {name: handler() for name, handler in _ITEMS.items()}


def named_leaves(tree: Any) -> dict[str, Any]:
    """Flattens optax's nested tuples to {"0/mu/encoder/…": array}: names that outlive optax's classes."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def abstract_like(tree: Any) -> Any:
    """Shapes, types and shardings of a tree's arrays, without their values."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree)


def check_same_arrays(stored: Any, target: Any, path: Path, item: str, hint: str) -> None:
    """Holds the names and shapes of stored arrays to those of the run.

    Raises:
        InputError: some differ; names the first.
    """
    have = {name: tuple(leaf.shape) for name, leaf in named_leaves(stored).items()}
    want = {name: tuple(leaf.shape) for name, leaf in named_leaves(target).items()}
    differing = sorted(name for name in have.keys() | want.keys() if have.get(name) != want.get(name))
    if differing:
        name = differing[0]
        raise InputError(
            f"{len(differing)} {item} arrays differ; {name}: checkpoint {have.get(name)}, run {want.get(name)}",
            path=path,
            hint=hint,
        )
