"""Padded batches of inputs and given targets, in the features that a module of each family takes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from exaranker.models import ModelFamily
from exaranker.rank.length_buckets import pad_batch, static_length

Tokens = Sequence[int]
Features = dict[str, Any]


def target_features(
    family: ModelFamily, inputs: Sequence[Tokens], targets: Sequence[Tokens], lengths: Mapping[str, int]
) -> Features:
    """One padded batch; `lengths` are the most tokens of `inputs` and `targets`."""
    build = decoder_only_features if family.is_decoder_only else encoder_decoder_features
    return build(inputs, targets, lengths)


def encoder_decoder_features(
    inputs: Sequence[Tokens], targets: Sequence[Tokens], lengths: Mapping[str, int]
) -> Features:
    """One padded batch, in SeqIO's words: the decoder reads 0 and then the target shifted by one.

    >>> encoder_decoder_features([[7, 1]], [[5, 1]], {"inputs": 2, "targets": 2})["decoder_input_tokens"]
    array([[0, 5]], dtype=int32)
    """
    length = static_length(max(map(len, targets)), lengths["targets"])
    return {
        "encoder_input_tokens": _padded(inputs, static_length(max(map(len, inputs)), lengths["inputs"])),
        "decoder_input_tokens": _padded([[0, *target[:-1]] for target in targets], length),
        "decoder_target_tokens": _padded(targets, length),
        "decoder_loss_weights": _padded([[1] * len(target) for target in targets], length),
    }


def decoder_only_features(inputs: Sequence[Tokens], targets: Sequence[Tokens], lengths: Mapping[str, int]) -> Features:
    """One padded batch: prompt and target in one sequence, the loss on the target only.

    >>> decoder_only_features([[7, 8]], [[5, 1]], {"inputs": 2, "targets": 2})["decoder_loss_weights"]
    array([[0, 1, 1]], dtype=int32)
    """
    pairs = list(zip(inputs, targets, strict=True))
    whole = [[*prompt, *target] for prompt, target in pairs]
    length = static_length(max(map(len, whole)) - 1, lengths["inputs"] + lengths["targets"] - 1)
    weights = [[0] * (len(prompt) - 1) + [1] * len(target) for prompt, target in pairs]
    return {
        "decoder_input_tokens": _padded([tokens[:-1] for tokens in whole], length),
        "decoder_target_tokens": _padded([tokens[1:] for tokens in whole], length),
        "decoder_loss_weights": _padded(weights, length),
        "decoder_causal_attention": _padded([[1] * len(prompt) for prompt in inputs], length),
    }


def _padded(rows: Sequence[Tokens], length: int) -> Int[np.ndarray, "rows length"]:
    return pad_batch(rows, list(range(len(rows))), (len(rows), length))
