"""Logits and losses of a batch; a decoder-only model's only where its answers are.

Most of such a model's row is prompt, of which nothing is to be learnt. With a vocabulary of 49,152, its logits would be
a fifth of SmolLM2-135M's arithmetic and more of its memory. So positions with a loss are moved to the front of each
row, and if they all fit into a third of it, only that third is projected onto the vocabulary.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from exaranker.losses.token import LossConfig, logit_of, soft_targets, token_losses
from exaranker.models import family_of
from exaranker.models.layers import constrain

SHARE = 3  # 1/SHARE of a row is tried: answers are labels, or labels and explanations after prompts twice their length
OF_TARGETS = (
    "decoder_target_tokens",
    "decoder_loss_weights",
    "decoder_label_weights",
    "decoder_other_labels",
    "decoder_other_label_shares",
    "weights",
)
Batch = Mapping[str, Any]
Sums = dict[str, Any]  # scalars that add up over microbatches, batches and processes


def loss_sums(
    module: nn.Module, variables: Mapping[str, Any], batch: Batch, loss: LossConfig, key: Array | None
) -> Sums:
    """A forward pass, with dropout if there is a key. `loss`, the number to minimise, is among the sums."""
    options: dict[str, Any] = {"train": key is not None, "rngs": {} if key is None else {"dropout": key}}
    if not family_of(module.config).is_decoder_only:
        logits: Any = module.apply(variables, batch, **options)
        return _sums(logits, batch, loss)
    hidden: Any = module.apply(variables, batch, method="hidden", **options)
    head = {kind: {name: tree[name] for name in module.head if name in tree} for kind, tree in variables.items()}
    targets = {name: batch[name] for name in OF_TARGETS if name in batch}

    def project(head: Any, hidden: Array) -> Any:
        return module.apply(head, hidden, method="logits")

    return _of_answers(project, head, hidden, targets, loss)


def _of_answers(
    project: Callable[[Any, Array], Float[Array, "batch length vocab"]],
    head: Any,
    hidden: Float[Array, "batch length embed"],
    targets: Mapping[str, Array],
    loss: LossConfig,
) -> Sums:
    """The sums of the first third of each row, sorted, or of all of it where answers are longer."""
    is_answer = targets["decoder_loss_weights"] != 0
    length = is_answer.shape[1]
    order = jnp.argsort(~is_answer, axis=1, stable=True)

    # Recomputed in the backward pass, or `cond` would hand over the intermediates of both branches.
    def first(size: int) -> Callable[..., Sums]:
        def sums(head: Any, hidden: Array, targets: Mapping[str, Array], order: Int[Array, "batch length"]) -> Sums:
            chosen = order[:, :size]
            rows = constrain(jnp.take_along_axis(hidden, chosen[:, :, None], axis=1), "batch", "length", "embed")
            part = {name: jnp.take_along_axis(array, chosen, axis=1) for name, array in targets.items()}
            return _sums(project(head, rows), part, loss)

        return jax.checkpoint(sums)

    short = -(-length // SHARE)
    fits = jnp.max(is_answer.sum(axis=1)) <= short
    return jax.lax.cond(fits, first(short), first(length), head, hidden, targets, order)


def _sums(logits: Float[Array, "batch length vocab"], batch: Batch, loss: LossConfig) -> Sums:
    targets, weights = batch["decoder_target_tokens"], batch["weights"]
    losses = token_losses(logits, targets, loss, soft_targets(batch))
    real = batch["decoder_loss_weights"].astype(jnp.float32)
    label = real * batch["decoder_label_weights"]
    correct = _is_argmax(logits, targets)
    return {
        "loss": jnp.sum((losses.cross_entropy + losses.z_loss) * weights),
        "label_loss": jnp.sum(losses.cross_entropy * label),
        "label_correct": jnp.sum(correct * label),
        "label_tokens": label.sum(),
        "explanation_loss": jnp.sum(losses.cross_entropy * (real - label)),
        "explanation_tokens": jnp.sum(real - label),
    }


def _is_argmax(
    logits: Float[Array, "batch length vocab"], tokens: Int[Array, "batch length"]
) -> Bool[Array, "batch length"]:
    """Whether `jnp.argmax` would give these tokens: no logit is larger, nor an earlier one as large.

    A CPU does not vectorise argmax: it took 3 % of a small T5's training step.
    """
    ids = jnp.arange(logits.shape[-1], dtype=tokens.dtype)
    chosen = logit_of(logits, tokens)[..., None]
    beaten = (logits > chosen) | ((logits == chosen) & (ids < tokens[..., None])) | jnp.isnan(logits)
    return ~beaten.any(axis=-1)
