"""A checkpoint that CTranslate2 scores on the CPU, in fp32 or int8: the same inputs, the same log-odds."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32, Int32

from exaranker.checkpoints.card import ModelCard
from exaranker.checkpoints.convert.ctranslate2 import EXTRA, converted
from exaranker.checkpoints.folder import PREFIX, find_checkpoint, read_card
from exaranker.checkpoints.store import stored_tokenizer
from exaranker.devices import processor
from exaranker.errors import InputError, require
from exaranker.logs import warn
from exaranker.models import family_of
from exaranker.rank.length_buckets import TextBatch
from exaranker.rank.loaded_model import LoadedModel
from exaranker.rank.target_features import Tokens
from exaranker.resume import file_stamps
from exaranker.templates import label_ids
from exaranker.tokenization import Tokenizer


@dataclass(frozen=True)
class CTranslate2Model:
    """Does for a `Reranker` what `LoadedModel` does; explanations it has decoded by that one, loaded when asked for."""

    path: Path  # MODEL_DIR/checkpoint_N
    card: ModelCard  # with its label ids
    tokenizer: Tokenizer
    base: str | Path | None  # of an adapter, if it is not where it was in training
    dtype: str  # "float32" or "int8"
    engine: Any  # ctranslate2.Translator, or Generator of a decoder-only model
    pieces: list[str]  # by token id, as the translator is given them

    platform = "cpu"
    num_devices = 1  # its threads share each batch

    @classmethod
    def from_checkpoint(
        cls, directory: str | Path, dtype: str | None = None, base: str | Path | None = None
    ) -> "CTranslate2Model":
        """Loads MODEL_DIR (its newest checkpoint) or MODEL_DIR/checkpoint_N, converting it once; fp32 by default.

        Raises:
            InputError: as `LoadedModel.from_checkpoint`, the process has an accelerator, CTranslate2 is not
                installed, or it computes no such model.
        """
        if (platform := jax.default_backend()) != "cpu":
            hint = "leave out --engine and --dtype int8, or set JAX_PLATFORMS=cpu"
            raise InputError(f"CTranslate2 ranks on a CPU, and this process has a {platform}", hint=hint)
        library = require("ctranslate2", EXTRA)
        model_dir, step = find_checkpoint(directory)
        path = model_dir / f"{PREFIX}_{step}"
        dtype = dtype or "float32"
        card, tokenizer = read_card(path), stored_tokenizer(path, base)
        card = replace(card, label_ids=label_ids(tokenizer, card.template))
        folder = converted(path, card, dtype, base)
        if dtype == "int8" and processor.overflows_in_int8():
            warn("this processor has no units for int8 (VNNI): some sums overflow, scores are less exact")
        is_decoder = family_of(card.config).is_decoder_only
        load = library.Generator if is_decoder else library.Translator
        engine = load(str(folder), compute_type=dtype, inter_threads=1, intra_threads=len(os.sched_getaffinity(0)))
        pieces = [] if is_decoder else json.loads((folder / "shared_vocabulary.json").read_bytes())
        return cls(path, card, tokenizer, base, dtype, engine, pieces)

    def __repr__(self) -> str:
        return f"CTranslate2Model({str(self.path)!r}, template={self.card.template.name!r}, dtype={self.dtype!r})"

    def fingerprint(self) -> list[Any]:
        """Which weights and engine: what results depend on, beside the inputs and their batches."""
        version = require("ctranslate2", EXTRA).__version__
        return ["ctranslate2", version, self.dtype, file_stamps(self.path.rglob("*"), self.path)]

    def log_odds(self, batch: TextBatch) -> Float32[np.ndarray, " rows"]:
        """Log-odds of relevance at the first answer token; rows of no text are not computed."""
        texts = batch.tokens[batch.rows]
        found = np.full(len(batch.tokens), np.nan, np.float32)
        found[batch.rows] = self._of_texts(texts) if self.pieces else self._of_prompts(texts)
        return found

    def generate(
        self, inputs: Int32[np.ndarray, "rows length"], prefix: Tokens = (), *, max_new_tokens: int
    ) -> list[list[int]]:
        """As `LoadedModel.generate`, in JAX."""
        return self._in_jax.generate(inputs, prefix, max_new_tokens=max_new_tokens)

    def generate_stream(
        self, inputs: Int32[np.ndarray, "rows length"], prefix: Tokens = (), *, max_new_tokens: int
    ) -> Iterator[int]:
        """As `LoadedModel.generate_stream`, in JAX."""
        return self._in_jax.generate_stream(inputs, prefix, max_new_tokens=max_new_tokens)

    @cached_property
    def _in_jax(self) -> LoadedModel:
        return LoadedModel.from_checkpoint(self.path, base=self.base)

    def _of_texts(self, rows: Int32[np.ndarray, "rows length"]) -> Float32[np.ndarray, " rows"]:
        """One greedy step of an encoder-decoder."""
        texts = [[self.pieces[token] for token in row if token] for row in rows.tolist()]
        found = self.engine.translate_batch(
            texts, beam_size=1, max_input_length=0, max_decoding_length=1, return_logits_vocab=True
        )
        labels = list(self.card.label_ids or ())
        logits = np.stack([np.asarray(row.logits[0][0])[labels] for row in found])
        return logits[:, 1] - logits[:, 0]

    def _of_prompts(self, rows: Int32[np.ndarray, "rows length"]) -> Float32[np.ndarray, " rows"]:
        """One pass of a decoder, whose head gives log-odds; an id 0 before another token is no padding."""
        lengths = np.max(np.where(rows != 0, np.arange(1, rows.shape[1] + 1), 1), axis=1).astype(np.int32)
        view = require("ctranslate2", EXTRA).StorageView.from_array
        found = np.asarray(self.engine.forward_batch(view(rows), view(lengths)))
        return found[np.arange(len(rows)), lengths - 1, 0]
