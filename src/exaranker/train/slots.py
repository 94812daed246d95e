"""Adafactor's state from T5X's slots: per tensor of the unrolled model `v`, or `v_row` and `v_col`."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from exaranker.errors import InputError
from exaranker.train.optimizers import STACK

KINDS = ("v_row", "v_col", "v")
_HELD = (optax.FactoredState, optax.ScaleByScheduleState)


def with_slots(state: Any, slots: Mapping[str, Any], step: int) -> Any:
    """An optimizer's fresh state with T5X's accumulators, and its clocks at the step that these are of.

    An optimizer that does not keep what the slots are for (AdamW, or an adapter's) stays fresh.

    Raises:
        InputError: its accumulators have other shapes.
    """
    factored = [node for node in jax.tree.leaves(state, is_leaf=_is_held) if isinstance(node, optax.FactoredState)]
    names = [name for node in factored for path, leaf in flatten_dict(node.v).items() for name in _names(path, leaf)]
    if not names or any(all(f"{name}/{kind}" not in slots for kind in KINDS) for name in names):
        return state

    def carried(node: Any) -> Any:
        if not _is_held(node):
            return node
        node = node._replace(count=_placed(np.full(node.count.shape, step), node.count))
        if isinstance(node, optax.FactoredState):
            node = node._replace(**{kind: _filled(getattr(node, kind), kind, slots) for kind in KINDS})
        return node

    return jax.tree.map(carried, state, is_leaf=_is_held)


def _filled(tree: Any, kind: str, slots: Mapping[str, Any]) -> Any:
    return unflatten_dict({path: _leaf(path, leaf, kind, slots) for path, leaf in flatten_dict(tree).items()})


def _names(path: tuple[str, ...], leaf: Any) -> list[str]:
    """The tensors of the unrolled model that an accumulator is of."""
    if STACK not in path:
        return ["/".join(path)]
    at = path.index(STACK)
    return ["/".join((*path[:at], f"layers_{index}", *path[at + 1 :])) for index in range(leaf.shape[0])]


def _leaf(path: tuple[str, ...], leaf: Any, kind: str, slots: Mapping[str, Any]) -> Any:
    names = _names(path, leaf)
    found = [slots.get(f"{name}/{kind}") for name in names]
    if any(value is None for value in found):
        return leaf  # not in use: Adafactor keeps either both sums or the whole
    value = np.stack([np.asarray(value) for value in found]) if STACK in path else np.asarray(found[0])
    if value.shape != leaf.shape:
        problem = f"slot {kind} of {names[0]} has shape {value.shape}, the optimizer's {leaf.shape}"
        raise InputError(problem, hint="leave min_dim_size_to_factor at 128, T5X's")
    return _placed(value, leaf)


def _placed(value: np.ndarray, like: Any) -> jax.Array:
    value = value.astype(like.dtype)
    return jax.make_array_from_callback(value.shape, like.sharding, lambda index: value[index])


def _is_held(node: Any) -> bool:
    return isinstance(node, _HELD)
