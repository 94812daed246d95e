"""A loaded checkpoint as SeqIO's inference asks for it: predictions, and scores of given targets, in fixed batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from exaranker.errors import InputError
from exaranker.rank.length_buckets import pad_batch, static_length
from exaranker.rank.loaded_model import LoadedModel, TargetScore
from exaranker.rank.target_features import Tokens


@dataclass(frozen=True)
class InferenceModel:
    """Works on batches of `batch_size` rows; rows of like length meet, so little is padding.

    The same rows in the same order always give the same results.
    """

    model: LoadedModel
    batch_size: int
    lengths: dict[str, int]  # most tokens of `inputs` and `targets`

    def __post_init__(self) -> None:
        devices = self.model.mesh.size
        if self.batch_size % devices:
            raise InputError(f"BATCH_SIZE {self.batch_size} is not a multiple of the {devices} devices")

    def predict(self, inputs: Sequence[Tokens]) -> list[list[int]]:
        """The most likely continuations, greedily, without their end, at most `lengths["targets"]` tokens."""
        results: dict[int, list[int]] = {}
        for group in self._groups(inputs):
            length = static_length(len(inputs[group[0]]), self.lengths["inputs"])
            tokens = pad_batch(inputs, group, (self.batch_size, length))
            generated = self.model.generate(tokens, max_new_tokens=self.lengths["targets"])
            results |= dict(zip(group, generated, strict=False))
        return [results[index] for index in range(len(inputs))]

    def score(self, inputs: Sequence[Tokens], targets: Sequence[Tokens], labels: tuple[int, int]) -> list[TargetScore]:
        """Scores each target after its input; `labels` are the ids (irrelevant, relevant)."""
        results: dict[int, TargetScore] = {}
        whole = [[*source, *target] for source, target in zip(inputs, targets, strict=True)]
        for group in self._groups(whole):
            rows = [*group, *group[:1] * (self.batch_size - len(group))]
            pairs = ([inputs[i] for i in rows], [targets[i] for i in rows])
            results |= dict(zip(group, self.model.score_targets(*pairs, labels, self.lengths), strict=False))
        return [results[index] for index in range(len(inputs))]

    def _groups(self, texts: Sequence[Tokens]) -> Iterator[list[int]]:
        """Indices of rows that make a batch, longest first."""
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        return (order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size))
