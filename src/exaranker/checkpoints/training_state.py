"""The whole state of a training run, saved asynchronously and restored from its newest usable checkpoint."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import preservation_policy

from exaranker.checkpoints.card import ModelCard
from exaranker.checkpoints.store import (
    PREFIX,
    abstract_like,
    check_same_arrays,
    handlers,
    named_leaves,
    open_manager,
)
from exaranker.errors import InputError

RESUME = "resume with the same model and optimizer, or use a fresh MODEL_DIR"


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
        self._manager = open_manager(
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
            optimizer=ocp.args.StandardSave(named_leaves(optimizer)),
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
        targets = {"params": params, "optimizer": named_leaves(optimizer)}
        for item, target in targets.items():
            check_same_arrays(stored[item].tree, target, path, item, RESUME)
        abstract = {item: ocp.args.StandardRestore(abstract_like(target)) for item, target in targets.items()}
        # Not the manager's own restore(), in which the others wait for a process that has failed.
        items = ocp.CompositeCheckpointHandler(**handlers()).restore(
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


def _all_processes(ready: bool) -> bool:
    """Whether every process of the job says so."""
    return bool(np.all(multihost_utils.process_allgather(np.array(ready))))
