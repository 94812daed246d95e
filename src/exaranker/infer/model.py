"""A checkpoint of either family as SeqIO's inference asks for it: greedy predictions, and scores of given targets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from exaranker.errors import InputError
from exaranker.losses.token import LossConfig, token_losses
from exaranker.models import family_of
from exaranker.models.decoding import greedy_generate
from exaranker.rank.length_buckets import bucket, pad_batch
from exaranker.rank.reranker import Reranker
from exaranker.tokenization import until

Tokens = Sequence[int]
Features = dict[str, Any]


class Score(NamedTuple):
    """How likely a given target is (natural log, its end included), and what a reranker reads off its first token."""

    log_likelihood: float
    log_odds: float  # logit(relevant) - logit(irrelevant) at the first step, whatever the target says


@dataclass(frozen=True)
class InferenceModel:
    """A loaded checkpoint that works on batches of `batch_size` rows; rows of like length meet, so little is padding.

    The same rows in the same order always give the same results.
    """

    reranker: Reranker
    batch_size: int
    lengths: dict[str, int]  # most tokens of `inputs` and `targets`

    def __post_init__(self) -> None:
        devices = self.reranker.mesh.size
        if self.batch_size % devices:
            raise InputError(f"BATCH_SIZE {self.batch_size} is not a multiple of the {devices} devices")

    def predict(self, inputs: Sequence[Tokens]) -> list[list[int]]:
        """The most likely continuations, greedily, without their end, at most `lengths["targets"]` tokens."""
        model = self.reranker
        results: dict[int, list[int]] = {}
        nothing = self._split(np.zeros((self.batch_size, 0), np.int32))
        for group in self._groups(inputs):
            length = bucket(len(inputs[group[0]]), self.lengths["inputs"])
            tokens = pad_batch(inputs, group, (self.batch_size, length)).tokens
            generated = greedy_generate(
                model.module,
                model.params,
                self._split(tokens),
                nothing,
                max_new_tokens=self.lengths["targets"],
                eos_id=self._eos_id,
            )
            results |= {i: until(ids, self._eos_id) for i, ids in zip(group, np.asarray(generated), strict=False)}
        return [results[index] for index in range(len(inputs))]

    def score(self, inputs: Sequence[Tokens], targets: Sequence[Tokens], labels: tuple[int, int]) -> list[Score]:
        """Scores each target after its input; `labels` are the ids (irrelevant, relevant)."""
        results: dict[int, Score] = {}
        whole = [[*source, *target] for source, target in zip(inputs, targets, strict=True)]
        for group in self._groups(whole):
            padded = [*group, *group[:1] * (self.batch_size - len(group))]
            features = self._features([inputs[i] for i in padded], [targets[i] for i in padded])
            batch = {name: self._split(array) for name, array in features.items()}
            scores = target_scores(self.reranker.module, self.reranker.params, batch, np.array(labels))
            rows = zip(group, *(np.asarray(column) for column in scores), strict=False)
            results |= {i: Score(float(likelihood), float(odds)) for i, likelihood, odds in rows}
        return [results[index] for index in range(len(inputs))]

    def _groups(self, texts: Sequence[Tokens]) -> Iterator[list[int]]:
        """Indices of rows that make a batch, longest first."""
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        return (order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size))

    def _features(self, inputs: Sequence[Tokens], targets: Sequence[Tokens]) -> Features:
        is_decoder_only = family_of(self.reranker.card.config).is_decoder_only
        build = decoder_only_features if is_decoder_only else encoder_decoder_features
        return build(inputs, targets, self.lengths)

    @property
    def _eos_id(self) -> int:
        return self.reranker.tokenizer.eos_id

    def _split(self, rows: np.ndarray) -> Array:
        return jax.device_put(rows, NamedSharding(self.reranker.mesh, PartitionSpec("data")))


@partial(jax.jit, static_argnames="module")
def target_scores(
    module: nn.Module, params: Any, features: Features, labels: Int[Array, "2"]
) -> tuple[Float[Array, " rows"], Float[Array, " rows"]]:
    """(log-likelihood of the weighted targets, log-odds of the labels at the first of them), in fp32."""
    logits: Any = module.apply({"params": params}, features)
    weights = features["decoder_loss_weights"]
    losses = token_losses(logits, features["decoder_target_tokens"], LossConfig(z_loss=0.0))
    first = jnp.argmax(weights, axis=1)
    at_first = jnp.take_along_axis(logits[:, :, labels], first[:, None, None], axis=1)[:, 0]
    return -jnp.sum(losses.cross_entropy * weights, axis=1), at_first[:, 1] - at_first[:, 0]


def encoder_decoder_features(inputs: Sequence[Tokens], targets: Sequence[Tokens], lengths: dict[str, int]) -> Features:
    """One padded batch, in SeqIO's words: the decoder reads 0 and then the target shifted by one.

    >>> encoder_decoder_features([[7, 1]], [[5, 1]], {"inputs": 2, "targets": 2})["decoder_input_tokens"]
    array([[0, 5]], dtype=int32)
    """
    length = bucket(max(map(len, targets)), lengths["targets"])
    return {
        "encoder_input_tokens": _padded(inputs, bucket(max(map(len, inputs)), lengths["inputs"])),
        "decoder_input_tokens": _padded([[0, *target[:-1]] for target in targets], length),
        "decoder_target_tokens": _padded(targets, length),
        "decoder_loss_weights": _padded([[1] * len(target) for target in targets], length),
    }


def decoder_only_features(inputs: Sequence[Tokens], targets: Sequence[Tokens], lengths: dict[str, int]) -> Features:
    """One padded batch: prompt and target in one sequence, the loss on the target only.

    >>> decoder_only_features([[7, 8]], [[5, 1]], {"inputs": 2, "targets": 2})["decoder_loss_weights"]
    array([[0, 1, 1]], dtype=int32)
    """
    pairs = list(zip(inputs, targets, strict=True))
    whole = [[*prompt, *target] for prompt, target in pairs]
    length = bucket(max(map(len, whole)) - 1, lengths["inputs"] + lengths["targets"] - 1)
    weights = [[0] * (len(prompt) - 1) + [1] * len(target) for prompt, target in pairs]
    return {
        "decoder_input_tokens": _padded([tokens[:-1] for tokens in whole], length),
        "decoder_target_tokens": _padded([tokens[1:] for tokens in whole], length),
        "decoder_loss_weights": _padded(weights, length),
        "decoder_causal_attention": _padded([[1] * len(prompt) for prompt in inputs], length),
    }


def _padded(rows: Sequence[Tokens], length: int) -> Int[np.ndarray, "rows length"]:
    return pad_batch(rows, list(range(len(rows))), (len(rows), length)).tokens
