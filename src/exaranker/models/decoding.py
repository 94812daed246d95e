"""What a ranker asks of a model: logits of the label tokens at the first step, and greedy text after a given label."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from exaranker.models.ragged import RaggedShape

Params = Any


@partial(jax.jit, static_argnames=("module", "shape"))
def first_step_logits(
    module: nn.Module,
    params: Params,
    input_tokens: Int[Array, "batch length"],
    token_ids: Int[Array, "k"],
    shape: RaggedShape | None = None,
) -> Float[Array, "batch k"]:
    """Logits of `token_ids` as the first answer token; only these rows of the vocabulary are projected.

    `input_tokens` are right-padded with 0; with a `shape` only attention computes their padding. Log-odds of
    relevance: `logits[:, relevant] - logits[:, irrelevant]`.
    """
    given = (input_tokens, token_ids, shape)
    logits: Array = module.apply({"params": params}, *given, method="first_step")  # type: ignore[assignment]
    return logits


@partial(jax.jit, static_argnames=("module", "max_new_tokens", "eos_id"))
def greedy_generate(
    module: nn.Module,
    params: Params,
    input_tokens: Int[Array, "batch length"],
    forced_prefix: Int[Array, "batch forced"],
    max_new_tokens: int,
    eos_id: int,
) -> Int[Array, "batch max_new_tokens"]:
    """The most likely continuation after the forced tokens (not repeated in the result), 0 after end of sequence.

    The prefix may have zero columns. Stops as soon as every row has ended.
    """
    prompt, start = _begin(module, params, input_tokens, forced_prefix, max_new_tokens)

    def unfinished(state: _State) -> Bool[Array, ""]:
        return (state.step < max_new_tokens) & ~jnp.all(state.ended)

    return jax.lax.while_loop(unfinished, lambda state: _extend(module, params, prompt, state, eos_id), start).tokens


def greedy_tokens(
    module: nn.Module,
    params: Params,
    input_tokens: Int[Array, "batch length"],
    forced_prefix: Int[Array, "batch forced"],
    max_new_tokens: int,
    eos_id: int,
) -> Iterator[Int[np.ndarray, "batch"]]:
    """The columns of `greedy_generate`, each as soon as it is decoded; none after every row has ended."""
    prompt, state = _begin(module, params, input_tokens, forced_prefix, max_new_tokens)
    for step in range(max_new_tokens):
        state = _extend(module, params, prompt, state, eos_id)
        yield np.asarray(state.tokens)[:, step]  # sliced here: there each step would be compiled
        if np.asarray(state.ended).all():
            return


class _Prompt(NamedTuple):
    """What the model keeps of its input, and each row's first free slot."""

    context: Any
    slots: Int[Array, "batch"]


class _State(NamedTuple):
    step: Int[Array, ""]
    tokens: Int[Array, "batch max_new_tokens"]
    ended: Bool[Array, "batch"]
    logits: Float[Array, "batch vocab"]
    cache: Any


@partial(jax.jit, static_argnames=("module", "max_new_tokens"))
def _begin(
    module: nn.Module, params: Params, input_tokens: Array, forced_prefix: Array, max_new_tokens: int
) -> tuple[_Prompt, _State]:
    (logits, context, slots), cache = module.apply(
        {"params": params}, input_tokens, forced_prefix, max_new_tokens, method="begin", mutable=["cache"]
    )
    rows = input_tokens.shape[0]
    empty = jnp.zeros((rows, max_new_tokens), jnp.int32)
    return _Prompt(context, slots), _State(jnp.int32(0), empty, jnp.zeros(rows, bool), logits, cache)


@partial(jax.jit, static_argnames=("module", "eos_id"))
def _extend(module: nn.Module, params: Params, prompt: _Prompt, state: _State, eos_id: int) -> _State:
    """Takes the most likely token of each row that has not ended."""
    token = jnp.where(state.ended, 0, jnp.argmax(state.logits, axis=-1))
    slots = prompt.slots + state.step
    logits, cache = module.apply(
        {"params": params, **state.cache}, token, prompt.context, slots, method="extend", mutable=["cache"]
    )
    tokens = state.tokens.at[:, state.step].set(token)
    return _State(state.step + 1, tokens, state.ended | (token == eos_id), logits, cache)
