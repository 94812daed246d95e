"""LoRA (arXiv 2106.09685): a dense layer's weights stay as they are, a product of two thin matrices is added to them.

An adapter is a flax collection of its own, beside the parameters of the model that it is for:
`{"params": base, "lora": {"decoder": {"layers_0": {"mlp": {"wo": {"a": ..., "b": ...}}}}}}`. Initial values and scaling
are PEFT's.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from exaranker.checks import Macro, Positive, Rule, above, check, from_to_below
from exaranker.errors import InputError, nearest
from exaranker.models.layers import ADAPTER, Dense
from exaranker.models.matmul import matmul

HEAD = "logits_dense"  # the output projection, which PEFT's "all-linear" leaves out too
NAMED = Rule("one name or more, or None", lambda layers: len(layers) > 0)
RANK = "rank"  # the logical axis of what the two matrices have in common


@dataclass(frozen=True)
class Lora:
    """Which layers are adapted and how: `x @ kernel + scale * dropout(x) @ a @ b`.

    >>> Lora(rank=16, alpha=32).scale, Lora(rank=16, alpha=32, rslora=True).scale
    (2.0, 8.0)
    """

    rank: Annotated[Positive, Macro("LORA_RANK")] = 8
    alpha: Annotated[float, above(0), Macro("LORA_ALPHA")] = 16.0
    dropout: Annotated[float, from_to_below(0, 1), Macro("LORA_DROPOUT")] = 0.0  # of what `a` is multiplied with
    # Ends of layers' names, such as "query" or "self_attention/query"; None is every dense layer but the output's.
    layers: Annotated[tuple[str, ...] | None, NAMED, Macro("LORA_LAYERS")] = None
    rslora: Annotated[bool, Macro("LORA_RSLORA")] = False  # rank-stabilised (arXiv 2312.03732)

    def __post_init__(self) -> None:
        check(self)

    @property
    def scale(self) -> float:
        """What the product is multiplied with: alpha / rank, or alpha / sqrt(rank)."""
        return self.alpha / (self.rank**0.5 if self.rslora else self.rank)


def init_adapter(lora: Lora, key: Array, boxed: Any) -> Any:
    """A fresh adapter of a model, in flax's boxes: `a` uniform within 1/sqrt(width), `b` zero, so nothing changes yet.

    `boxed` are the model's parameters (`models.abstract_params`); only their shapes and logical axes are used.

    Raises:
        InputError: the model has no layer of a name in `lora.layers`.
    """
    adapter: dict[tuple[str, ...], Any] = {}
    for index, (layer, kernel) in enumerate(sorted(_kernels(lora, boxed).items())):
        *stack, width, features = kernel.value.shape
        *stack_axes, width_axis, features_axis = kernel.names
        bound = width**-0.5
        a = jax.random.uniform(jax.random.fold_in(key, index), (*stack, width, lora.rank), minval=-bound, maxval=bound)
        b = jnp.zeros((*stack, lora.rank, features), jnp.float32)
        adapter[(*layer, "a")] = nn.LogicallyPartitioned(a, (*stack_axes, width_axis, RANK))
        adapter[(*layer, "b")] = nn.LogicallyPartitioned(b, (*stack_axes, RANK, features_axis))
    return unflatten_dict(adapter)


def abstract_adapter(lora: Lora, boxed: Any) -> Any:
    """Shapes of an adapter of a model, without boxes; none is allocated."""
    return nn.meta.unbox(jax.eval_shape(lambda: init_adapter(lora, jax.random.key(0), boxed)))


@contextmanager
def adapted(lora: Lora | None) -> Iterator[None]:
    """Models that are applied in this block add the adapter in their variables, if they have one."""
    if lora is None:
        yield
        return
    with nn.intercept_methods(partial(_with_product, lora)):
        yield


def merge_adapter(lora: Lora, params: Any, adapter: Any) -> Any:
    """The parameters of the model that computes the same without an adapter; their layers are scanned, or not, alike.

    >>> kernel, a, b = jnp.ones((2, 2)), jnp.array([[1.0], [0.0]]), jnp.array([[0.0, 3.0]])
    >>> merge_adapter(Lora(1, 2.0), {"wo": {"kernel": kernel}}, {"wo": {"a": a, "b": b}})["wo"]["kernel"].tolist()
    [[1.0, 7.0], [1.0, 1.0]]
    """
    merged, matrices = flatten_dict(params), flatten_dict(adapter)
    for *layer, name in matrices:
        if name == "a":
            a, b = (matrices[(*layer, part)].astype(jnp.float32) for part in ("a", "b"))
            kernel = (*layer, "kernel")
            merged[kernel] = merged[kernel] + lora.scale * jnp.matmul(a, b, precision="highest")
    return unflatten_dict(merged)


def _kernels(lora: Lora, boxed: Any) -> dict[tuple[str, ...], Any]:
    """The kernels that are adapted, by their layers' names."""
    dense = {path[:-1]: leaf for path, leaf in flatten_dict(boxed).items() if path[-1] == "kernel"}
    if lora.layers is None:
        return {layer: kernel for layer, kernel in dense.items() if layer[-1] != HEAD}
    for given in lora.layers:
        if not any(_ends_with(layer, given) for layer in dense):
            known = sorted({layer[-1] for layer in dense})
            raise InputError(f"LORA_LAYERS has {given!r}: the model has no such layer", hint=nearest(given, known))
    chosen = tuple(lora.layers)
    return {layer: kernel for layer, kernel in dense.items() if any(_ends_with(layer, given) for given in chosen)}


def _ends_with(layer: tuple[str, ...], given: str) -> bool:
    parts = tuple(given.split("/"))
    return layer[-len(parts) :] == parts


def _with_product(
    lora: Lora, run: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], context: Any
) -> Any:
    layer = context.module
    y = run(*args, **kwargs)
    if not isinstance(layer, Dense) or context.method_name != "__call__" or not layer.is_adapted:
        return y
    a: Array = layer.get_variable(ADAPTER, "a")
    b: Array = layer.get_variable(ADAPTER, "b")
    x = _dropped(lora.dropout, layer, args[0]).reshape(-1, layer.width)
    return y + lora.scale * matmul(matmul(x, a, layer.dtype), b, layer.dtype).reshape(y.shape)


def _dropped(rate: float, layer: nn.Module, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
    """Dropout of single elements, as PEFT has it, where there are random numbers for it: in training."""
    if rate == 0.0 or not layer.has_rng("dropout"):
        return x
    kept = jax.random.bernoulli(layer.make_rng("dropout"), 1.0 - rate, x.shape)
    return jnp.where(kept, x / (1.0 - rate), 0.0).astype(x.dtype)
