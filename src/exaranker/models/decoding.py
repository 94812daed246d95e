"""What a ranker asks of a model: logits of the label tokens at the first step, and greedy text after a given label."""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Params = Any


@partial(jax.jit, static_argnames="module")
def first_step_logits(
    module: nn.Module, params: Params, input_tokens: Int[Array, "batch length"], token_ids: Int[Array, "k"]
) -> Float[Array, "batch k"]:
    """Logits of `token_ids` as the first answer token; only these rows of the vocabulary are projected.

    `input_tokens` are right-padded with 0. Log-odds of relevance: `logits[:, relevant] - logits[:, irrelevant]`.
    """
    logits: Array = module.apply({"params": params}, input_tokens, token_ids, method="first_step")  # type: ignore
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
    (logits, context, slots), cache = module.apply(
        {"params": params}, input_tokens, forced_prefix, max_new_tokens, method="begin", mutable=["cache"]
    )

    def unfinished(state: _State) -> Bool[Array, ""]:
        return (state.step < max_new_tokens) & ~jnp.all(state.ended)

    def step(state: _State) -> _State:
        token = jnp.where(state.ended, 0, jnp.argmax(state.logits, axis=-1))
        logits, cache = module.apply(
            {"params": params, **state.cache}, token, context, slots + state.step, method="extend", mutable=["cache"]
        )
        tokens = state.tokens.at[:, state.step].set(token)
        return _State(state.step + 1, tokens, state.ended | (token == eos_id), logits, cache)

    rows = input_tokens.shape[0]
    empty = jnp.zeros((rows, max_new_tokens), jnp.int32)
    start = _State(jnp.int32(0), empty, jnp.zeros(rows, bool), logits, cache)
    return jax.lax.while_loop(unfinished, step, start).tokens


class _State(NamedTuple):
    step: Int[Array, ""]
    tokens: Int[Array, "batch max_new_tokens"]
    ended: Bool[Array, "batch"]
    logits: Float[Array, "batch vocab"]
    cache: Any
