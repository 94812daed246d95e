"""The training loss: token cross-entropy with z-loss and label smoothing, normalised as T5X does.

Label tokens and explanation tokens are weighted apart (arXiv 2305.02301: the explanation supplies most target tokens).
Everything that depends on the whole batch goes into one weight per token, so that microbatches simply add up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from exaranker.checks import Rule, at_least, check, from_to_below
from exaranker.errors import InputError

# T5X's SpecialLossNormalizingFactor, by the same names.
SPECIAL_FACTORS = ("NUM_REAL_TARGET_TOKENS", "NUM_TOTAL_TARGET_TOKENS", "AVERAGE_PER_SEQUENCE")
NORMALISATION = Rule(
    f"a number more than 0, None or one of {', '.join(SPECIAL_FACTORS)}",
    lambda factor: factor in SPECIAL_FACTORS if isinstance(factor, str) else factor > 0,
    SPECIAL_FACTORS,
)


@dataclass(frozen=True)
class LossConfig:
    """How token losses become one number.

    `loss_normalizing_factor` divides the summed loss: a number, None for the plain sum, or one of T5X's special names.
    """

    z_loss: Annotated[float, at_least(0)] = 1e-4
    label_smoothing: Annotated[float, from_to_below(0, 1)] = 0.0
    label_weight: Annotated[float, at_least(0)] = 1.0
    explanation_weight: Annotated[float, at_least(0)] = 1.0
    loss_normalizing_factor: Annotated[float | str | None, NORMALISATION] = None

    def __post_init__(self) -> None:
        check(self)
        if self.label_weight == self.explanation_weight == 0:
            raise InputError("LABEL_WEIGHT and EXPLANATION_WEIGHT are both 0: nothing would be learnt")


class TokenLosses(NamedTuple):
    """Per target token, in nats: `cross_entropy` (the smallest possible smoothed value is 0) and `z_loss`."""

    cross_entropy: Float[Array, "batch length"]
    z_loss: Float[Array, "batch length"]


class SoftTargets(NamedTuple):
    """Per target token, a second token that takes `shares` (0 to 1) of the probability from the first."""

    tokens: Int[Array, "batch length"]
    shares: Float[Array, "batch length"]


def soft_targets(batch: Mapping[str, Any]) -> SoftTargets | None:
    """The soft labels of a batch, if its task has them."""
    if "decoder_other_labels" not in batch:
        return None
    return SoftTargets(batch["decoder_other_labels"], batch["decoder_other_label_shares"])


def token_losses(
    logits: Float[Array, "batch length vocab"],
    targets: Int[Array, "batch length"],
    config: LossConfig,
    soft: SoftTargets | None = None,
) -> TokenLosses:
    """Cross-entropy and z-loss (z * log(Z)^2, arXiv 2204.02311 section 5) of every token, unweighted."""
    log_z = jax.nn.logsumexp(logits, axis=-1)
    target_log_prob = logit_of(logits, targets) - log_z
    if soft is not None:
        other_log_prob = logit_of(logits, soft.tokens) - log_z
        target_log_prob += soft.shares * (other_log_prob - target_log_prob)
    cross_entropy = -target_log_prob
    if config.label_smoothing:
        cross_entropy = _smoothed(target_log_prob, logits, log_z, config.label_smoothing)
    return TokenLosses(cross_entropy, config.z_loss * jnp.square(log_z))


def loss_weights(batch: Mapping[str, Any], config: LossConfig) -> Float[Array, "batch length"]:
    """The weight of each target token: label or explanation weight over the batch's normalisation; 0 on padding."""
    weights, divisor = _weights_and_divisor(batch, config)
    return weights / divisor


def total_weight(batch: Mapping[str, Any], config: LossConfig) -> Float[Array, ""]:
    """What `loss_weights` add up to, divided once: hundreds of fractions added in fp32 are off by some 1e-6."""
    weights, divisor = _weights_and_divisor(batch, config)
    return weights.sum() / divisor


def _weights_and_divisor(batch: Mapping[str, Any], config: LossConfig) -> tuple[Float[Array, "batch length"], Any]:
    is_label = batch["decoder_label_weights"]
    parts = config.label_weight * is_label + config.explanation_weight * (1.0 - is_label)
    weights = (batch["decoder_loss_weights"] * parts).astype(jnp.float32)
    factor = config.loss_normalizing_factor
    if factor == "AVERAGE_PER_SEQUENCE":
        weights = _average_per_sequence(weights, batch.get("decoder_segment_ids"))
    if factor in ("AVERAGE_PER_SEQUENCE", "NUM_REAL_TARGET_TOKENS"):
        return weights, jnp.maximum(weights.sum(), 1e-9)
    if factor == "NUM_TOTAL_TARGET_TOKENS":
        return weights, weights.size
    return weights, 1.0 if factor is None else float(factor)


def logit_of(
    logits: Float[Array, "batch length vocab"], tokens: Int[Array, "batch length"]
) -> Float[Array, "batch length"]:
    """The logit of the given token at each position."""
    # A masked sum instead of a gather: it stays local where the vocabulary is sharded.
    is_token = jnp.arange(logits.shape[-1], dtype=tokens.dtype) == tokens[..., None]
    return jnp.sum(jnp.where(is_token, logits, 0.0), axis=-1)


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
    return weights / jnp.maximum(per_sequence, 1e-9)
