"""Reads one checkpoint_N and holds what is read to what was saved."""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from exaranker.checkpoints.digests import array_digests, first_difference, json_digest, named_leaves
from exaranker.checkpoints.folder import DamagedError, saved_items
from exaranker.errors import InputError

# Set to 1, arrays are not compared with their digests: it costs one pass over them in the devices' memory.
SKIP_DIGESTS = "EXARANKER_SKIP_DIGESTS"
ARRAYS = ("params", "optimizer", "slots")
JSONS = ("card", "data", "digests")
# What TensorStore says of files that are missing, cut off or altered, and of what is no fault of theirs.
_DAMAGE = re.compile("DATA_LOSS|NOT_FOUND|OUT_OF_RANGE|FAILED_PRECONDITION|OCDBT|Error opening")
_NO_DAMAGE = re.compile(
    "PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAVAILABLE|DEADLINE_EXCEEDED|UNAUTHENTICATED|CANCELLED|ABORTED"
)


def handlers() -> dict[str, ocp.CheckpointHandler]:
    """Orbax's handler of each item that a checkpoint may have."""
    arrays: dict[str, ocp.CheckpointHandler] = {name: ocp.StandardCheckpointHandler() for name in ARRAYS}
    return arrays | {name: ocp.JsonCheckpointHandler() for name in JSONS}


def digests_of(jsons: Mapping[str, Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept beside a checkpoint's items to know them by."""
    found: dict[str, Any] = {name: json_digest(value) for name, value in jsons.items()}
    return found | {name: array_digests(tree) for name, tree in arrays.items()}


def weights_digest(checkpoint: Path) -> str:
    """One digest of all weights in `checkpoint_N`, from those that were taken when it was saved.

    Raises:
        InputError: none were taken: it is of an early version.
        DamagedError: they cannot be read.
    """
    path = checkpoint / "digests" / "metadata"
    try:
        return json_digest(json.loads(path.read_bytes())["params"])
    except FileNotFoundError as error:
        hint = "save it anew: export it, and import what that wrote"
        raise InputError("was saved without digests, so no adapter can name it", path=checkpoint, hint=hint) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"the digests cannot be read: {error}", path=path) from error


def stored_arrays(checkpoint: Path, item: str) -> Any:
    """Shapes and types of an item's arrays, as a tree.

    Raises:
        DamagedError: its files are not there, or cannot be understood.
    """
    if not (checkpoint / item / "_METADATA").exists():
        raise DamagedError(f"the files of {item} are missing", path=checkpoint)
    with damage_named(checkpoint):
        known = ocp.CompositeCheckpointHandler(**handlers()).metadata(epath.Path(checkpoint))
        return known.item_metadata[item].tree


def load_items(checkpoint: Path, targets: Mapping[str, Any]) -> dict[str, Any]:
    """Reads card, digests, data if there is any, and the arrays of `targets` into its shapes, types and shardings.

    Raises:
        DamagedError: something is missing, or is not what was saved.
        InputError: it cannot be read for another reason.
    """
    found = read_items(checkpoint, targets)
    compare_items(checkpoint, found)
    return as_asked(found, targets)


def read_items(checkpoint: Path, targets: Mapping[str, Any]) -> dict[str, Any]:
    """The same as stored and unchecked: a process that cannot read its part of the arrays fails by itself.

    Raises:
        DamagedError: something is missing or cannot be decoded.
        InputError: it cannot be read for another reason.
    """
    saved = saved_items(checkpoint)
    jsons = [name for name in JSONS if name in saved]
    arguments: dict[str, Any] = {name: ocp.args.JsonRestore() for name in jsons}
    # As stored, since a digest is of those bits; then as asked for.
    stored = {item: _as_stored(target, stored_arrays(checkpoint, item)) for item, target in targets.items()}
    arguments |= {item: ocp.args.StandardRestore(target) for item, target in stored.items()}
    with damage_named(checkpoint):
        # Not the manager's own restore(), in which the others wait for a process that has failed.
        reader = ocp.CompositeCheckpointHandler(**handlers())
        items = reader.restore(epath.Path(checkpoint), args=ocp.args.Composite(**arguments))
        found = {name: items[name] for name in (*jsons, *targets)}
    return found


@contextmanager
def damage_named(checkpoint: Path) -> Iterator[None]:
    """Says of errors in reading whether they are known to be damage; all others leave everything as it is.

    Raises:
        DamagedError: files are missing, cut off, or cannot be decoded.
        InputError: something else keeps them from being read.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Orbax and TensorStore raise many types.
        origin = _origin(error)
        problem = f"{type(origin).__name__}: {' '.join(str(origin).split())[:200]}"
        if _is_damage(origin):
            raise DamagedError(problem, path=checkpoint) from error
        hint = "nothing was changed; to do without this checkpoint, rename it"
        raise InputError(f"cannot be read ({problem})", path=checkpoint, hint=hint) from error


def _origin(error: BaseException) -> BaseException:
    """The first of the errors that this one was raised from: Orbax wraps what TensorStore says of one process' part."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _is_damage(error: BaseException) -> bool:
    if isinstance(error, (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError)):
        return True
    told = str(error)
    return isinstance(error, ValueError) and bool(_DAMAGE.search(told)) and not _NO_DAMAGE.search(told)


def compare_items(checkpoint: Path, found: Mapping[str, Any]) -> None:
    """Compares what was read with its digests; every process of a job must call it, for the same arrays.

    Raises:
        DamagedError: something is not what was saved.
    """
    if "digests" not in found:
        logging.warning("%s was saved without digests: whether it is what was saved is not checked", checkpoint)
        return
    saved, skipped = found["digests"], ARRAYS if os.environ.get(SKIP_DIGESTS) == "1" else ()
    arrays = [item for item in ARRAYS if item in found and item not in skipped]
    digests = {item: array_digests(found[item]) for item in arrays}
    differing = [(item, first_difference(saved.get(item, {}), digests[item])) for item in arrays]
    jsons = [item for item in ("card", "data") if item in found and saved.get(item) != json_digest(found[item])]
    names = [f"{item}/{name}" for item, name in differing if name is not None]
    for name in (*names, *jsons):
        problem = f"{name} is not what was saved (the digests differ)"
        raise DamagedError(problem, path=checkpoint, hint="copy it again, or use an earlier checkpoint")


def as_asked(found: Mapping[str, Any], targets: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays in the types that were asked for; those of other types are given up one by one, to save memory."""
    converted = {item: jax.tree.map(_in_type_of, target, found[item]) for item, target in targets.items()}
    return {**found, **converted}


def _in_type_of(like: Any, leaf: jax.Array) -> jax.Array:
    if leaf.dtype == like.dtype:
        return leaf
    converted = leaf.astype(like.dtype)
    leaf.delete()
    return converted


def _as_stored(target: Any, stored: Any) -> Any:
    kinds = {name: leaf.dtype for name, leaf in named_leaves(stored).items()}

    def leaf_as_stored(path: Any, leaf: Any) -> jax.ShapeDtypeStruct:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return jax.ShapeDtypeStruct(leaf.shape, kinds[name], sharding=leaf.sharding)

    return jax.tree_util.tree_map_with_path(leaf_as_stored, target)
