"""The whole state of a training run, saved asynchronously and restored from its newest usable checkpoint."""

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import preservation_policy

from exaranker.checkpoints.card import ModelCard
from exaranker.checkpoints.digests import named_leaves
from exaranker.checkpoints.folder import DAMAGED, PREFIX, DamagedError, steps_to_resume
from exaranker.checkpoints.reading import as_asked, compare_items, digests_of, read_items, stored_arrays
from exaranker.checkpoints.store import abstract_like, check_same_arrays, open_manager
from exaranker.errors import InputError
from exaranker.files import claim_folder, is_mirror, push

RESUME = "resume with the same model and optimizer, or use a fresh MODEL_DIR"

Outcome = TypeVar("Outcome")


class Restored(NamedTuple):
    """A whole training state, read back."""

    card: ModelCard
    params: Any
    optimizer: Any
    data: Any  # the data iterator's state, JSON
    damaged: dict[int, str]  # newer checkpoints, by step, and what is wrong with them


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
        if is_mirror(self.directory) and jax.process_count() > 1:
            problem = "several processes write one checkpoint, and each has its own copy of what is in a store"
            raise InputError(problem, path=self.directory, hint="name a folder that all see: a shared or mounted disk")
        self.directory.mkdir(parents=True, exist_ok=True)
        self._uploads = ThreadPoolExecutor(1, "upload")
        self._uploaded: Future[None] | None = None
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
        jsons = {"card": card.to_json(), "data": data}
        arrays = {"params": params, "optimizer": named_leaves(optimizer)}
        jsons["digests"] = digests_of(jsons, arrays)
        items: dict[str, Any] = {name: ocp.args.JsonSave(value) for name, value in jsons.items()}
        items |= {name: ocp.args.StandardSave(tree) for name, tree in arrays.items()}
        given = None if metrics is None else dict(metrics)
        self.wait()
        self._manager.save(card.step, args=ocp.args.Composite(**items), metrics=given)
        if is_mirror(self.directory):
            self._uploaded = self._uploads.submit(self._upload)

    def restore_newest(self, params: Any, optimizer: Any) -> Restored | None:
        """Reads the newest usable checkpoint into the shapes and shardings of `params` and `optimizer`.

        Newer ones that one of the job's processes (each reads its own part) knows to be damaged are passed over;
        they stay as they are until `set_aside`.

        Returns:
            None if the directory has no checkpoint at all.

        Raises:
            InputError: a checkpoint is of another model or optimizer or of no training run, or one cannot be read for
                another reason than damage, or all of them are damaged.
        """
        damaged: dict[int, str] = {}
        for step in steps_to_resume(self.directory):
            try:
                return self._restore(step, params, optimizer)._replace(damaged=damaged)
            except DamagedError as error:
                damaged[step] = str(error)
        if damaged:
            steps, problem = list(damaged), next(iter(damaged.values()))
            raise InputError(f"none of the checkpoints {steps} can be read; {problem}", path=self.directory)
        return None

    def set_aside(self, damaged: Mapping[int, str]) -> None:
        """Reports damaged checkpoints and renames them `damaged_checkpoint_N`, so that their steps are free again."""
        for step, problem in damaged.items():
            checkpoint = self.directory / f"{PREFIX}_{step}"
            logging.error("%s is damaged (%s); using the one before it", checkpoint, problem)
            if jax.process_index() == 0:
                checkpoint.rename(_free_name(self.directory / f"{DAMAGED}{checkpoint.name}"))
        if damaged:
            ocp.multihost.sync_global_processes("set_aside")
            self._manager.reload()

    def steps(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def wait(self) -> None:
        """Blocks until the last save is on disk, and in the store if MODEL_DIR is there."""
        self._manager.wait_until_finished()
        if self._uploaded is not None:
            self._uploaded.result()

    def close(self) -> None:
        self.wait()
        self._manager.close()
        self._uploads.shutdown()

    def _upload(self) -> None:
        self._manager.wait_until_finished()
        push(self.directory)

    def _restore(self, step: int, params: Any, optimizer: Any) -> Restored:
        path = self._path(step)
        targets = {"params": params, "optimizer": named_leaves(optimizer)}

        def read() -> dict[str, Any]:
            for item, target in targets.items():
                check_same_arrays(stored_arrays(path, item), target, path, item, RESUME)
            items = read_items(path, {item: abstract_like(target) for item, target in targets.items()})
            if missing := {"card", "data"} - items.keys():
                raise DamagedError(f"{' and '.join(sorted(missing))} missing", path=path)
            return items

        # Digests are sums over all processes: whoever cannot read must say so before the others wait for it there.
        found = _together(read, path)
        _together(lambda: compare_items(path, found), path)
        items = as_asked(found, targets)
        leaves = [items["optimizer"][name] for name in targets["optimizer"]]
        optimizer = jax.tree.unflatten(jax.tree.structure(optimizer), leaves)
        return Restored(ModelCard.from_json(items["card"], path), items["params"], optimizer, items["data"], {})

    def _path(self, step: int) -> Path:
        return self.directory / f"{PREFIX}_{step}"


@contextmanager
def one_writer(model_dir: Path) -> Iterator[None]:
    """Makes MODEL_DIR and holds it for this job until the block ends.

    Raises:
        InputError: another job trains into it, or it cannot be written.
    """
    with ExitStack() as held:
        problem = None
        if jax.process_index() == 0:
            try:
                held.enter_context(claim_folder(model_dir))
            except InputError as error:
                problem = error
        if not _all_processes(problem is None):
            raise problem or InputError("the job's first process could not have it to itself", path=model_dir)
        yield


def _together(attempt: Callable[[], Outcome], path: Path) -> Outcome:
    """What an attempt gives, if it succeeds in all processes of the job.

    Raises:
        DamagedError: it failed, and damage is the only reason that a process knows of.
        InputError: it failed for another reason.
    """
    problem: InputError | None = None
    try:
        result = attempt()
    except InputError as error:
        problem = error
    if _all_processes(problem is None):
        return result
    known = problem is None or isinstance(problem, DamagedError)
    if not _all_processes(known):
        raise problem if problem and not known else InputError("another process cannot read it", path=path)
    raise problem or DamagedError("another process could not read it", path=path)


def _free_name(path: Path) -> Path:
    """`path`, or the first of path_1, path_2, ... that is not there yet."""
    names = itertools.chain([path], (path.with_name(f"{path.name}_{number}") for number in itertools.count(1)))
    return next(name for name in names if not name.exists())


def _all_processes(ready: bool) -> bool:
    """Whether every process of the job says so."""
    return bool(np.all(multihost_utils.process_allgather(np.array(ready))))
