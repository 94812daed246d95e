"""A checkpoint of either family, ready to answer: label log-odds, greedy text, and how likely given targets are."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Float32, Int, Int32

from exaranker import models
from exaranker.checkpoints.card import ModelCard
from exaranker.checkpoints.folder import PREFIX, find_checkpoint
from exaranker.checkpoints.store import load_for_inference
from exaranker.devices.compilation_cache import keep_compiled
from exaranker.devices.processor import fitting_dtype
from exaranker.losses.token import LossConfig, token_losses
from exaranker.models.decoding import first_step_logits, greedy_generate, greedy_tokens
from exaranker.models.matmul import round_kernels
from exaranker.rank.length_buckets import TextBatch
from exaranker.rank.target_features import Features, Tokens, target_features
from exaranker.resume import file_stamps
from exaranker.templates import label_ids
from exaranker.tokenization import Tokenizer, until


class TargetScore(NamedTuple):
    """How likely a given target is (natural log, its end included), and what a reranker reads off its first token."""

    log_likelihood: float
    log_odds: float  # logit(relevant) - logit(irrelevant) at the first step, whatever the target says


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint's card, weights and tokenizer on a mesh of one axis: each batch is split over its devices.

    Token arrays are right-padded with 0, and their rows are a multiple of `num_devices`.
    """

    path: Path  # MODEL_DIR/checkpoint_N
    card: ModelCard  # with its label ids, and the dtype it runs in
    module: nn.Module
    params: Any
    tokenizer: Tokenizer
    mesh: Mesh

    @classmethod
    def from_checkpoint(
        cls, directory: str | Path, dtype: str | None = None, base: str | Path | None = None
    ) -> "LoadedModel":
        """Loads MODEL_DIR (its newest checkpoint) or MODEL_DIR/checkpoint_N onto all local devices.

        `dtype` ("float32", "bfloat16") replaces the one of the model's configuration, which else is kept unless the
        processor would emulate it; `base` is the checkpoint that an adapter is of, if it is not where it was in
        training.

        Raises:
            InputError: there is no complete checkpoint, its tokenizer is not the one it was trained with, or an
                adapter's base is not there.
        """
        keep_compiled()
        model_dir, step = find_checkpoint(directory)
        path = model_dir / f"{PREFIX}_{step}"
        mesh = Mesh(np.array(jax.local_devices()), ("data",))
        card, params, tokenizer = load_for_inference(path, base=base, shardings=NamedSharding(mesh, PartitionSpec()))
        config = replace(card.config, dtype=dtype or fitting_dtype(mesh.devices.flat[0], card.config.dtype))
        card = replace(card, config=config, label_ids=card.label_ids or label_ids(tokenizer, card.template))
        return cls(path, card, models.build(config), round_kernels(params, config.dtype), tokenizer, mesh)

    @property
    def num_devices(self) -> int:
        """How many devices share a batch's rows."""
        return self.mesh.size

    @property
    def platform(self) -> str:
        """The kind of device: cpu, gpu or tpu."""
        return str(self.mesh.devices.flat[0].platform)

    @property
    def dtype(self) -> str:
        """Of matrix products."""
        return self.card.config.dtype

    def __repr__(self) -> str:
        return f"LoadedModel({str(self.path)!r}, template={self.card.template.name!r}, devices={self.mesh.size})"

    def fingerprint(self) -> list[Any]:
        """Which weights and devices: what results depend on to the last bit, beside the inputs and their batches."""
        kinds = [device.device_kind for device in self.mesh.devices.flat]
        return [self.card.config.dtype, kinds, file_stamps(self.path.rglob("*"), self.path)]

    def log_odds(self, batch: TextBatch) -> Float32[Array, " rows"]:
        """Log-odds of relevance at the first answer token; the result is waited for when it is read."""
        labels, shape = np.array(self.card.label_ids), batch.shape.ragged
        return label_log_odds(first_step_logits(self.module, self.params, self._split(batch.tokens), labels, shape))

    def generate(
        self, inputs: Int32[np.ndarray, "rows length"], prefix: Tokens = (), *, max_new_tokens: int
    ) -> list[list[int]]:
        """The most likely continuation of each row after the same forced `prefix`, without it and without its end."""
        forced = np.tile(np.array(prefix, np.int32), (len(inputs), 1))
        rows = (self._split(inputs), self._split(forced))
        eos_id = self.tokenizer.eos_id
        tokens = greedy_generate(self.module, self.params, *rows, max_new_tokens=max_new_tokens, eos_id=eos_id)
        return [until(row, eos_id) for row in np.asarray(tokens)]

    def generate_stream(
        self, inputs: Int32[np.ndarray, "rows length"], prefix: Tokens = (), *, max_new_tokens: int
    ) -> Iterator[int]:
        """What `generate` gives for the first row, token by token."""
        forced = np.tile(np.array(prefix, np.int32), (len(inputs), 1))
        rows = (self._split(inputs), self._split(forced))
        eos_id = self.tokenizer.eos_id
        for tokens in greedy_tokens(self.module, self.params, *rows, max_new_tokens=max_new_tokens, eos_id=eos_id):
            if tokens[0] == eos_id:
                return
            yield int(tokens[0])

    def score_targets(
        self, inputs: Sequence[Tokens], targets: Sequence[Tokens], labels: tuple[int, int], lengths: Mapping[str, int]
    ) -> list[TargetScore]:
        """Scores each target after its input; `lengths` are the most tokens of `inputs` and `targets`."""
        features = target_features(models.family_of(self.card.config), inputs, targets, lengths)
        batch = {name: self._split(array) for name, array in features.items()}
        columns = _target_scores(self.module, self.params, batch, np.array(labels))
        return [TargetScore(*row) for row in zip(*(np.asarray(column).tolist() for column in columns), strict=True)]

    def _split(self, rows: np.ndarray) -> Array:
        return jax.device_put(rows, NamedSharding(self.mesh, PartitionSpec("data")))


def label_log_odds(logits: Float[Array, "rows 2"]) -> Float[Array, " rows"]:
    """The score of a passage: logit(relevant) - logit(irrelevant), which never saturates as a probability does.

    >>> label_log_odds(np.array([[-1.0, 2.5]])).tolist()
    [3.5]
    """
    return logits[:, 1] - logits[:, 0]


def probability(log_odds: float) -> float:
    """Of relevance, against irrelevance: the sigmoid of a score, without overflow.

    >>> probability(0.0), probability(-1000.0)
    (0.5, 0.0)
    """
    return 0.5 + 0.5 * math.tanh(log_odds / 2)


@partial(jax.jit, static_argnames="module")
def _target_scores(
    module: nn.Module, params: Any, features: Features, labels: Int[Array, "2"]
) -> tuple[Float[Array, " rows"], Float[Array, " rows"]]:
    """(log-likelihood of the weighted targets, log-odds of the labels at the first of them), in fp32."""
    logits: Any = module.apply({"params": params}, features)
    weights = features["decoder_loss_weights"]
    losses = token_losses(logits, features["decoder_target_tokens"], LossConfig(z_loss=0.0))
    first = jnp.argmax(weights, axis=1)
    at_first = jnp.take_along_axis(logits[:, :, labels], first[:, None, None], axis=1)[:, 0]
    return -jnp.sum(losses.cross_entropy * weights, axis=1), label_log_odds(at_first)
