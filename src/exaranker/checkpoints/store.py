"""Checkpoints on disk: MODEL_DIR/checkpoint_N/{card,params,optimizer,data,digests}, tokenizer beside them.

A checkpoint describes itself: the card (JSON) holds the model's configuration, the template it was trained with, the
tokenizer's digest and the gin text, so that reading one needs nothing but its directory. Orbax writes each checkpoint
aside and renames it, so a killed process leaves no half checkpoint behind.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import orbax.checkpoint as ocp

from exaranker.checkpoints.card import Adapter, ModelCard
from exaranker.checkpoints.digests import named_leaves
from exaranker.checkpoints.folder import PREFIX, TOKENIZER, find_checkpoint, read_card, saved_items
from exaranker.checkpoints.reading import digests_of, handlers, load_items, stored_arrays, weights_digest
from exaranker.errors import InputError
from exaranker.files import local_path
from exaranker.models import abstract_params
from exaranker.models.lora import abstract_adapter, merge_adapter
from exaranker.models.stack import stack_layers, unstack_layers
from exaranker.templates import label_ids
from exaranker.tokenization import Tokenizer, load_tokenizer

# Adafactor's accumulators among the named leaves of optax's state: "0/v_row/…", "1/0/v/…", "encoder/layers/0/v_col/…".
_ACCUMULATOR = re.compile(r"(?:.*?/)?\d+/(v_row|v_col|v)/(.+)")


class StoredModel(NamedTuple):
    """A model ready to use: what it is, its weights, and what encodes its inputs."""

    card: ModelCard
    params: Any
    tokenizer: Tokenizer


def save_model(
    directory: str | Path, card: ModelCard, params: Any, tokenizer: Tokenizer, step: int = 0, slots: Any = None
) -> Path:
    """Writes a model without training state to `directory/checkpoint_<step>` and returns that path.

    `slots` are an optimizer's accumulators that came with the model from elsewhere, by name.
    """
    directory = Path(directory).absolute()
    save_tokenizer(directory, tokenizer)
    described = dataclasses.replace(card, step=step).to_json()
    arrays = {"params": params} | ({"slots": slots} if slots else {})
    with open_manager(directory) as manager:
        items: dict[str, Any] = {name: ocp.args.StandardSave(tree) for name, tree in arrays.items()}
        items["card"] = ocp.args.JsonSave(described)
        items["digests"] = ocp.args.JsonSave(digests_of({"card": described}, arrays))
        manager.save(step, args=ocp.args.Composite(**items), force=True)
    return directory / f"{PREFIX}_{step}"


def save_tokenizer(directory: str | Path, tokenizer: Tokenizer) -> None:
    """Copies the tokenizer's file to `directory/tokenizer`, once per job."""
    if jax.process_index() == 0:
        target = Path(directory) / TOKENIZER
        target.mkdir(parents=True, exist_ok=True)
        tokenizer.save(target)


def load_for_inference(directory: str | Path, *, base: str | Path | None = None, shardings: Any = None) -> StoredModel:
    """Reads card, parameters and tokenizer from MODEL_DIR (its newest complete checkpoint) or MODEL_DIR/checkpoint_N.

    An adapter is merged into its base: the checkpoint at `base`, or the one that it was trained on. `shardings` is the
    sharding of all parameters; without it they go to the first local device.

    Raises:
        InputError: there is no complete checkpoint, it is damaged, the tokenizer beside it is not the one it was
            trained with, its card does not fit its weights or its tokenizer, or there is no base or another one.
    """
    stored = load_as_saved(directory, base=base, shardings=shardings)
    if stored.card.adapter is None:
        return stored
    whole = load_for_inference(_base_of(stored.card.adapter, base, directory), shardings=shardings)
    arrange = stack_layers if stored.card.config.scan_layers else unstack_layers
    return stored._replace(params=merge_adapter(stored.card.adapter.lora, arrange(whole.params), stored.params))


def load_as_saved(directory: str | Path, *, base: str | Path | None = None, shardings: Any = None) -> StoredModel:
    """The same, but of an adapter only its own matrices."""
    sharding = shardings or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def abstract(stored: Any, card: ModelCard, path: Path) -> Any:
        expected = _expected(card)
        check_same_arrays(stored, expected, path, "params", "the card is not of these weights", other="card")
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), stored)

    return _load(directory, abstract, base)


def _expected(card: ModelCard) -> Any:
    """Shapes of the arrays that a card describes."""
    boxed = abstract_params(card.config)
    return nn.meta.unbox(boxed) if card.adapter is None else abstract_adapter(card.adapter.lora, boxed)


def _base_of(adapter: Adapter, given: str | Path | None, directory: str | Path) -> Path:
    """The checkpoint_N that an adapter is of.

    Raises:
        InputError: it is not where it was, or what is there has other weights.
    """
    remedy = "name where it is now: --base DIR|ID, or base= in Python"
    if given is None and not local_path(adapter.base).exists():
        raise InputError(f"an adapter of {adapter.base}, which is not there", path=directory, hint=remedy)
    model_dir, step = find_checkpoint(given or adapter.base)
    path = model_dir / f"{PREFIX}_{step}"
    if (found := weights_digest(path)) != adapter.base_digest:
        problem = f"has other weights ({found[:12]}…) than the base of {directory} ({adapter.base_digest[:12]}…)"
        raise InputError(problem, path=path, hint=remedy)
    return path


def load_for_training(directory: str | Path, params: Any) -> StoredModel:
    """The same, with the shapes and shardings of `params`.

    Raises:
        InputError: as above, or the checkpoint is of another model.
    """

    def abstract(stored: Any, card: ModelCard, path: Path) -> Any:
        refuse_adapter(card, path)
        check_same_arrays(stored, params, path, "params", hint="include the models/*.gin of that checkpoint")
        return abstract_like(params)

    return _load(directory, abstract)


def load_slots(directory: str | Path) -> dict[str, Any] | None:
    """The accumulators that a converted model came with, by name, on the first local device; None if there are none."""
    return _read_here(directory, "slots")


def load_adafactor_slots(directory: str | Path) -> dict[str, np.ndarray]:
    """Adafactor's accumulators in a checkpoint by tensor of the unrolled model, {"encoder/…/kernel/v_row": array}.

    None are found in a checkpoint that another optimizer left, or that has no training state.
    """
    if slots := load_slots(directory):
        return {name: np.asarray(slot) for name, slot in slots.items()}
    found = _read_here(directory, "optimizer") or {}
    parts = ((_ACCUMULATOR.fullmatch(name), np.asarray(leaf)) for name, leaf in found.items())
    named = {f"{match[2]}/{match[1]}": leaf for match, leaf in parts if match}
    return dict(_unrolled(named))


def tokenizer_folder(directory: str | Path, base: str | Path | None = None) -> Path:
    """Where a checkpoint's tokenizer is: beside it, or beside an adapter's base, whose it is too.

    Raises:
        InputError: there is no complete checkpoint, an adapter's base is not there, or a whole model is given one.
    """
    model_dir, step = find_checkpoint(directory)
    adapter = read_card(model_dir / f"{PREFIX}_{step}").adapter
    if adapter is None and base is not None:
        raise InputError("a whole model, which has no base", path=directory, hint="leave out --base, in Python base=")
    return (model_dir if adapter is None else _base_of(adapter, base, directory).parent) / TOKENIZER


def stored_tokenizer(checkpoint: Path, base: str | Path | None = None) -> Tokenizer:
    """The tokenizer of `checkpoint_N`, which is the one that its card names.

    Raises:
        InputError: it is another, gives other label ids, or an adapter's base is not there.
    """
    return _matching_tokenizer(tokenizer_folder(checkpoint, base), read_card(checkpoint), checkpoint)


def refuse_adapter(card: ModelCard, path: str | Path) -> None:
    """Refuses to train on from a checkpoint that holds no whole model.

    Raises:
        InputError: it is an adapter.
    """
    if card.adapter is not None:
        hint = "merge it first: exaranker export --format hf, then exaranker import"
        raise InputError("an adapter, expected a whole model", path=path, hint=hint)


def _read_here(directory: str | Path, item: str) -> Any:
    """An item's arrays on the first local device; None if the checkpoint has none."""
    model_dir, step = find_checkpoint(directory)
    checkpoint = model_dir / f"{PREFIX}_{step}"
    if item not in saved_items(checkpoint):
        return None
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    stored = stored_arrays(checkpoint, item)
    target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), stored)
    return load_items(checkpoint, {item: target})[item]


def _unrolled(slots: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Splits the slots of scanned layers, whose first axis they are."""
    for name, slot in slots.items():
        before, scanned, after = name.partition("/layers/")
        if scanned:
            yield from ((f"{before}/layers_{index}/{after}", layer) for index, layer in enumerate(slot))
        else:
            yield name, slot


def _load(
    directory: str | Path, abstract: Callable[[Any, ModelCard, Path], Any], base: str | Path | None = None
) -> StoredModel:
    model_dir, step = find_checkpoint(directory)
    path = model_dir / f"{PREFIX}_{step}"
    card = read_card(path)
    tokenizer = stored_tokenizer(path, base)
    items = load_items(path, {"params": abstract(stored_arrays(path, "params"), card, path)})
    return StoredModel(card, items["params"], tokenizer)


def _matching_tokenizer(folder: Path, card: ModelCard, checkpoint: Path) -> Tokenizer:
    tokenizer = load_tokenizer(folder)
    if tokenizer.digest != card.tokenizer_digest:
        raise InputError(
            f"the tokenizer's sha256 is {tokenizer.digest[:12]}…, the model was trained with "
            f"{card.tokenizer_digest[:12]}…",
            path=folder,
            hint="put back the original file, or use a fresh MODEL_DIR",
        )
    expected = label_ids(tokenizer, card.template)
    if card.label_ids is not None and card.label_ids != expected:
        problem = f"the card has label ids {list(card.label_ids)}, its template and tokenizer give {list(expected)}"
        raise InputError(problem, path=checkpoint / "card", hint="put back the original card")
    return tokenizer


def open_manager(directory: Path, **options: Any) -> ocp.CheckpointManager:
    """Orbax's manager of a MODEL_DIR."""
    return ocp.CheckpointManager(
        directory,
        item_handlers=handlers(),
        options=ocp.CheckpointManagerOptions(step_prefix=PREFIX, **options),
    )


def abstract_like(tree: Any) -> Any:
    """Shapes, types and shardings of a tree of arrays."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree)


def check_same_arrays(stored: Any, target: Any, path: Path, item: str, hint: str, other: str = "run") -> None:
    """Compares names and shapes of the arrays that are stored with those that are expected.

    Raises:
        InputError: they differ; names the first.
    """
    have = {name: tuple(leaf.shape) for name, leaf in named_leaves(stored).items()}
    want = {name: tuple(leaf.shape) for name, leaf in named_leaves(target).items()}
    differing = sorted(name for name in have.keys() | want.keys() if have.get(name) != want.get(name))
    if differing:
        name = differing[0]
        raise InputError(
            f"{len(differing)} {item} arrays differ; {name}: checkpoint {have.get(name)}, {other} {want.get(name)}",
            path=path,
            hint=hint,
        )
