"""Checkpoints on disk: MODEL_DIR/checkpoint_N/{card,params,optimizer,data}, tokenizer beside them.

A checkpoint describes itself: the card (JSON) holds the model's configuration, the template it was trained with, the
tokenizer's digest and the gin text, so that reading one needs nothing but its directory. Orbax writes each checkpoint
aside and renames it, so a killed process leaves no half checkpoint behind.
"""

import dataclasses
import json
import logging
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import preservation_policy

from exaranker.errors import InputError
from exaranker.models import ModelConfig, config_from_json, config_to_json
from exaranker.templates import Template
from exaranker.tokenization import Tokenizer, load_tokenizer

PREFIX = "checkpoint"
TOKENIZER = "tokenizer"
RESUME = "resume with the same model and optimizer, or use a fresh MODEL_DIR"
STEP_DIRECTORY = re.compile(rf"{PREFIX}_(\d+)")
_ITEMS: dict[str, type[ocp.CheckpointHandler]] = {
    "card": ocp.JsonCheckpointHandler,
    "params": ocp.StandardCheckpointHandler,
    "optimizer": ocp.StandardCheckpointHandler,
    "data": ocp.JsonCheckpointHandler,
}


@dataclass(frozen=True)
class ModelCard:
    """What a checkpoint says about itself."""

    config: ModelConfig
    template: Template
    tokenizer_digest: str
    label_ids: tuple[int, int] | None = None  # (irrelevant, relevant)
    gin: str = ""
    step: int = 0

    def to_json(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {
            "config": config_to_json(self.config),
            "template": dataclasses.asdict(self.template),
            "label_ids": self.label_ids and list(self.label_ids),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ModelCard":
        label_ids = values["label_ids"]
        return cls(
            **{
                **values,
                "config": config_from_json(values["config"]),
                "template": Template(**values["template"]),
                "label_ids": (label_ids[0], label_ids[1]) if label_ids else None,
            }
        )


class LoadedModel(NamedTuple):
    card: ModelCard
    params: Any
    tokenizer: Tokenizer


class Restored(NamedTuple):
    """A whole training state, read back."""

    card: ModelCard
    params: Any
    optimizer: Any
    data: Any  # the data iterator's state, JSON


class TrainCheckpoints:
    """Saves a training run asynchronously and finds its newest usable checkpoint again.

    Keeps the newest `keep` checkpoints, and besides them the `keep_best` that are best by `metric` (lower is better
    if `best_mode` is "min").
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        keep: int | None = 3,
        keep_best: int = 0,
        metric: str = "loss",
        best_mode: str = "min",
    ):
        self.directory = Path(directory).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        policies: list[Any] = [preservation_policy.LatestN(keep)]
        if keep_best:
            best = preservation_policy.BestN(
                get_metric_fn=lambda values: values[metric],
                reverse=best_mode == "min",
                n=keep_best,
                keep_checkpoints_without_metrics=False,
            )
            policies.append(best)
        self._manager = _manager(
            self.directory,
            best_fn=(lambda values: values[metric]) if keep_best else None,
            best_mode=best_mode,
            preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
            cleanup_tmp_directories=True,
        )

    def save(
        self, card: ModelCard, params: Any, optimizer: Any, data: Any, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Starts to save `card.step`; returns once the arrays are copied, the files follow in the background."""
        items = ocp.args.Composite(
            card=ocp.args.JsonSave(card.to_json()),
            params=ocp.args.StandardSave(params),
            optimizer=ocp.args.StandardSave(_named_leaves(optimizer)),
            data=ocp.args.JsonSave(data),
        )
        self._manager.save(card.step, args=items, metrics=None if metrics is None else dict(metrics))

    def restore_newest(self, params: Any, optimizer: Any) -> Restored | None:
        """Reads the newest complete checkpoint into the shapes and shardings of `params` and `optimizer`.

        A checkpoint that one of the job's processes cannot read (each reads its own part) is reported, renamed to
        `damaged_checkpoint_N`, and the one before it is used.

        Returns:
            None if the directory has no checkpoint at all.
        Raises:
            InputError: the checkpoint is of another model or optimizer, or none of the checkpoints can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            restored, problem = self._try_to_restore(step, params, optimizer)
            if _all_processes(problem is None):
                return restored
            self._set_aside(step, problem or "another process could not read it")
        if steps:
            raise InputError(f"none of the checkpoints {steps} can be read", path=self.directory)
        return None

    def steps(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def wait(self) -> None:
        """Blocks until the last save is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        self.wait()
        self._manager.close()

    def _try_to_restore(self, step: int, params: Any, optimizer: Any) -> tuple[Restored | None, str | None]:
        """What this process could read, or what kept it from reading."""
        try:
            return self._restore(step, params, optimizer), None
        except InputError:
            raise
        except Exception as error:  # Orbax and TensorStore raise many types for missing and truncated files.
            return None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"

    def _restore(self, step: int, params: Any, optimizer: Any) -> Restored:
        stored = self._manager.item_metadata(step)
        path = self.directory / f"{PREFIX}_{step}"
        targets = {"params": params, "optimizer": _named_leaves(optimizer)}
        for item, target in targets.items():
            _check_same_arrays(stored[item].tree, target, path, item, RESUME)
        abstract = {item: ocp.args.StandardRestore(_abstract(target)) for item, target in targets.items()}
        # Not the manager's own restore(), in which the others wait for a process that has failed.
        items = ocp.CompositeCheckpointHandler(**_handlers()).restore(
            path, args=ocp.args.Composite(card=ocp.args.JsonRestore(), data=ocp.args.JsonRestore(), **abstract)
        )
        leaves = [items["optimizer"][name] for name in targets["optimizer"]]
        optimizer = jax.tree.unflatten(jax.tree.structure(optimizer), leaves)
        return Restored(ModelCard.from_json(items["card"]), items["params"], optimizer, items["data"])

    def _set_aside(self, step: int, problem: str) -> None:
        damaged = self.directory / f"{PREFIX}_{step}"
        logging.error("%s is damaged (%s); using the one before it", damaged, problem)
        if jax.process_index() == 0:
            target = self.directory / f"damaged_{damaged.name}"
            shutil.rmtree(target, ignore_errors=True)
            damaged.rename(target)
        ocp.multihost.sync_global_processes(f"set_aside_{step}")
        self._manager.reload()


def save_model(directory: str | Path, card: ModelCard, params: Any, tokenizer: Tokenizer, step: int = 0) -> Path:
    """Writes a model without training state to `directory/checkpoint_<step>` and returns that path."""
    directory = Path(directory).absolute()
    save_tokenizer(directory, tokenizer)
    card = dataclasses.replace(card, step=step)
    with _manager(directory) as manager:
        items = ocp.args.Composite(card=ocp.args.JsonSave(card.to_json()), params=ocp.args.StandardSave(params))
        manager.save(step, args=items, force=True)
    return directory / f"{PREFIX}_{step}"


def save_tokenizer(directory: str | Path, tokenizer: Tokenizer) -> None:
    """Copies the tokenizer's file to `directory/tokenizer`, once per job."""
    if jax.process_index() == 0:
        target = Path(directory) / TOKENIZER
        target.mkdir(parents=True, exist_ok=True)
        tokenizer.save(target)


def load_for_inference(directory: str | Path, *, shardings: Any = None) -> LoadedModel:
    """Reads card, parameters and tokenizer from MODEL_DIR (its newest complete checkpoint) or MODEL_DIR/checkpoint_N.

    `shardings` is the sharding of all parameters; without it they go to the first local device.

    Raises:
        InputError: there is no complete checkpoint, or the tokenizer beside it is not the one it was trained with.
    """
    sharding = shardings or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def abstract(stored: Any, path: Path) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), stored)

    return _load(directory, abstract)


def load_for_training(directory: str | Path, params: Any) -> LoadedModel:
    """The same, with the shapes and shardings of `params`.

    Raises:
        InputError: as above, or the checkpoint is of another model.
    """

    def abstract(stored: Any, path: Path) -> Any:
        _check_same_arrays(stored, params, path, "params", hint="include the models/*.gin of that checkpoint")
        return _abstract(params)

    return _load(directory, abstract)


def _load(directory: str | Path, abstract: Callable[[Any, Path], Any]) -> LoadedModel:
    model_dir, step = find_checkpoint(directory)
    with _manager(model_dir, create=False) as manager:
        stored = manager.item_metadata(step)["params"].tree
        restore = ocp.args.StandardRestore(abstract(stored, model_dir / f"{PREFIX}_{step}"))
        restored = manager.restore(step, args=ocp.args.Composite(card=ocp.args.JsonRestore(), params=restore))
    card = ModelCard.from_json(restored["card"])
    return LoadedModel(card, restored["params"], _matching_tokenizer(model_dir, card))


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


def _manager(directory: Path, **options: Any) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
        directory,
        item_handlers=_handlers(),
        options=ocp.CheckpointManagerOptions(step_prefix=PREFIX, **options),
    )


def _handlers() -> dict[str, ocp.CheckpointHandler]:
    return {name: handler() for name, handler in _ITEMS.items()}


def _all_processes(ready: bool) -> bool:
    """Whether every process of the job says so."""
    return bool(np.all(multihost_utils.process_allgather(np.array(ready))))


def _named_leaves(tree: Any) -> dict[str, Any]:
    """Flattens optax's nested tuples to {"0/mu/encoder/…": array}: names that outlive optax's classes."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _abstract(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree)


def _check_same_arrays(stored: Any, target: Any, path: Path, item: str, hint: str) -> None:
    have = {name: tuple(leaf.shape) for name, leaf in _named_leaves(stored).items()}
    want = {name: tuple(leaf.shape) for name, leaf in _named_leaves(target).items()}
    differing = sorted(name for name in have.keys() | want.keys() if have.get(name) != want.get(name))
    if differing:
        name = differing[0]
        raise InputError(
            f"{len(differing)} {item} arrays differ; {name}: checkpoint {have.get(name)}, run {want.get(name)}",
            path=path,
            hint=hint,
        )
