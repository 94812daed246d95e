"""Model families: what each one is, in one table that all other code asks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from exaranker.models.decoder import DecoderConfig, DecoderOnly
from exaranker.models.qwen3 import Qwen3Config
from exaranker.models.t5 import T5, T5Config
from exaranker.models.t5gemma import T5Gemma, T5GemmaConfig
from exaranker.models.t5gemma2 import T5Gemma2, T5Gemma2Config
from exaranker.templates import DECODER_ONLY, ENCODER_DECODER

ModelConfig = T5Config | T5GemmaConfig | DecoderConfig | Qwen3Config | T5Gemma2Config
BatchShapes = dict[str, tuple[tuple[int, int], Any]]  # feature -> ((rows, length), dtype)


class Stack(NamedTuple):
    """Layers of one shape: how many, over how many positions, how many each of these attends to, and how wide."""

    layers: int
    positions: int
    keys: int
    widths: Any  # has emb_dim, num_heads, head_dim, mlp_dim


class Lengths(NamedTuple):
    """Positions of a batch's rows: what an encoder reads (0 without one), and what the decoder reads."""

    encoder: int
    decoder: int


@dataclass(frozen=True)
class ModelFamily:
    """What is the same for all sizes of an architecture."""

    name: str  # in model cards
    config: type[ModelConfig]
    module: type[nn.Module]
    template_family: str  # how inputs and targets are framed: templates.ENCODER_DECODER or DECODER_ONLY
    depths: tuple[str, ...]  # the fields that count layers, one per stack, the encoder's first

    @property
    def is_decoder_only(self) -> bool:
        """One sequence of prompt and answer; the module then has `hidden` and `logits` apart, and names its `head`."""
        return self.template_family == DECODER_ONLY

    def lengths(self, task_lengths: Mapping[str, int]) -> Lengths:
        """Positions of rows whose inputs and targets have these lengths.

        >>> FAMILIES["decoder"].lengths({"inputs": 512, "targets": 128})
        Lengths(encoder=0, decoder=640)
        """
        inputs, targets = task_lengths["inputs"], task_lengths["targets"]
        return Lengths(0, inputs + targets) if self.is_decoder_only else Lengths(inputs, targets)

    def stacks(self, config: ModelConfig, lengths: Lengths) -> list[Stack]:
        """The stacks of a model, the encoder's first; a decoder attends to the encoded input too.

        >>> [stack[:3] for stack in FAMILIES["t5"].stacks(T5Config(), Lengths(512, 128))]
        [(8, 512, 512), (8, 128, 640)]
        """
        encoder, decoder = lengths
        spans = {"encoder": (encoder, encoder), "decoder": (decoder, decoder + encoder)}
        if self.is_decoder_only:
            del spans["encoder"]
        return [
            # Stacks of unlike widths are fields of their own.
            Stack(getattr(config, depth), *span, getattr(config, side, config))
            for depth, (side, span) in zip(self.depths, spans.items(), strict=True)
        ]

    def at_depth(self, config: ModelConfig, layers: int) -> ModelConfig:
        """The same model with another number of layers in each stack."""
        depths: dict[str, Any] = dict.fromkeys(self.depths, layers)
        return replace(config, **depths)

    def batch_shapes(self, rows: int, task_lengths: Mapping[str, int], pack: bool) -> BatchShapes:
        """The features of a training batch, as SeqIO's feature converters name them.

        >>> list(FAMILIES["decoder"].batch_shapes(8, {"inputs": 512, "targets": 128}, pack=False))[-1]
        'decoder_causal_attention'
        """
        source, target = ((rows, length) for length in self.lengths(task_lengths))
        shapes: BatchShapes = {
            "decoder_input_tokens": (target, np.int32),
            "decoder_target_tokens": (target, np.int32),
            "decoder_loss_weights": (target, np.int32),
            "decoder_label_weights": (target, np.float32),
        }
        for name in self._more_features(pack):
            shapes[name] = (target if name.startswith("decoder") else source), np.int32
        return shapes

    def _more_features(self, pack: bool) -> Iterator[str]:
        sides = ("decoder",) if self.is_decoder_only else ("encoder", "decoder")
        if pack:
            yield from (f"{side}_{name}" for side in sides for name in ("segment_ids", "positions"))
        yield "decoder_causal_attention" if self.is_decoder_only else "encoder_input_tokens"


TWO_STACKS = ("num_encoder_layers", "num_decoder_layers")
FAMILIES = {
    family.name: family
    for family in (
        ModelFamily("t5", T5Config, T5, ENCODER_DECODER, TWO_STACKS),
        ModelFamily("t5gemma", T5GemmaConfig, T5Gemma, ENCODER_DECODER, TWO_STACKS),
        ModelFamily("t5gemma2", T5Gemma2Config, T5Gemma2, ENCODER_DECODER, TWO_STACKS),
        ModelFamily("decoder", DecoderConfig, DecoderOnly, DECODER_ONLY, ("num_layers",)),
        ModelFamily("qwen3", Qwen3Config, DecoderOnly, DECODER_ONLY, ("num_layers",)),
    )
}


def family_of(config: ModelConfig) -> ModelFamily:
    """The family that a configuration is of.

    >>> family_of(T5Config()).name
    't5'
    """
    return next(family for family in FAMILIES.values() if family.config is type(config))
