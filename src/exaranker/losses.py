"""The training loss: token cross-entropy with z-loss and label smoothing, normalised as T5X does.

Label tokens and explanation tokens are weighted apart (arXiv 2305.02301: the explanation supplies most target tokens).
Everything that depends on the whole batch goes into one weight per token, so that microbatches simply add up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from exaranker.errors import InputError, nearest

# T5X's SpecialLossNormalizingFactor, by the same names.
SPECIAL_FACTORS = ("NUM_REAL_TARGET_TOKENS", "NUM_TOTAL_TARGET_TOKENS", "AVERAGE_PER_SEQUENCE")


@dataclass(frozen=True)
class LossConfig:
    """How token losses become one number.

    `loss_normalizing_factor` divides the summed loss: a number, None for the plain sum, or one of T5X's special names.
    """

    z_loss: float = 1e-4
    label_smoothing: float = 0.0
    label_weight: float = 1.0
    explanation_weight: float = 1.0
    loss_normalizing_factor: float | str | None = None

    def __post_init__(self) -> None:
        factor = self.loss_normalizing_factor
        if isinstance(factor, str) and factor not in SPECIAL_FACTORS:
            raise InputError(f"unknown LOSS_NORMALIZING_FACTOR {factor!r}", hint=nearest(factor, SPECIAL_FACTORS))


class TokenLosses(NamedTuple):
    """Per target token, in nats: `cross_entropy` (the smallest possible smoothed value is 0) and `z_loss`."""

    cross_entropy: Float[Array, "batch length"]
    z_loss: Float[Array, "batch length"]


def token_losses(
    logits: Float[Array, "batch length vocab"], targets: Int[Array, "batch length"], config: LossConfig
) -> TokenLosses:
    """Cross-entropy and z-loss (z * log(Z)^2, arXiv 2204.02311 section 5) of every token, unweighted."""
    log_z = jax.nn.logsumexp(logits, axis=-1)
    # A masked sum instead of a gather: it stays local where the vocabulary is sharded.
    is_target = jnp.arange(logits.shape[-1], dtype=targets.dtype) == targets[..., None]
    target_log_prob = jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1) - log_z
    cross_entropy = -target_log_prob
    if config.label_smoothing:
        cross_entropy = _smoothed(target_log_prob, logits, log_z, config.label_smoothing)
    return TokenLosses(cross_entropy, config.z_loss * jnp.square(log_z))


def loss_weights(batch: Mapping[str, Any], config: LossConfig) -> Float[Array, "batch length"]:
    """The weight of each target token: label or explanation weight over the batch's normalisation; 0 on padding."""
    is_label = batch["decoder_label_weights"]
    parts = config.label_weight * is_label + config.explanation_weight * (1.0 - is_label)
    weights = (batch["decoder_loss_weights"] * parts).astype(jnp.float32)
    factor = config.loss_normalizing_factor
    if factor is None:
        return weights
    if factor == "NUM_REAL_TARGET_TOKENS":
        return weights / jnp.maximum(weights.sum(), 1e-9)
    if factor == "NUM_TOTAL_TARGET_TOKENS":
        return weights / weights.size
    if factor == "AVERAGE_PER_SEQUENCE":
        return _average_per_sequence(weights, batch.get("decoder_segment_ids"))
    return weights / float(factor)


def _smoothed(
    target_log_prob: Float[Array, "batch length"],
    logits: Float[Array, "batch length vocab"],
    log_z: Float[Array, "batch length"],
    smoothing: float,
) -> Float[Array, "batch length"]:
    """As T5X: the rest of the mass is spread over the other pieces, and the entropy of that target is taken off."""
    vocab = logits.shape[-1]
    confidence, low = 1.0 - smoothing, smoothing / (vocab - 1)
    all_log_probs = logits.sum(axis=-1) - vocab * log_z
    entropy = -(confidence * jnp.log(confidence) + (vocab - 1) * low * jnp.log(low + 1e-20))
    return -(confidence - low) * target_log_prob - low * all_log_probs - entropy


def _average_per_sequence(
    weights: Float[Array, "batch length"], segment_ids: Int[Array, "batch length"] | None
) -> Float[Array, "batch length"]:
    """Every sequence counts the same however long it is, also when several are packed into a row."""
    segments = jnp.ones(weights.shape, jnp.int32) if segment_ids is None else segment_ids
    same_sequence = segments[:, :, None] == segments[:, None, :]
    per_sequence = jnp.einsum("bk,bqk->bq", weights, same_sequence)
    averaged = weights / jnp.maximum(per_sequence, 1e-9)
    return averaged / jnp.maximum(averaged.sum(), 1e-9)
