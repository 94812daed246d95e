"""The peers that `benchmarks/rerank.py` runs beside us: each scores pairs by label log-odds from a Hugging Face folder.

Every peer is given batches of the same shapes, on as many threads as `torch.get_num_threads()` says.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import openvino
import torch
from ctranslate2.converters import TransformersConverter
from jaxtyping import Float32, Int32
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from exaranker.rank.length_buckets import length_batches
from exaranker.rank.reranker import QueryPassage, Reranker

Score = Callable[[Sequence[QueryPassage]], np.ndarray]
Logits = Callable[[Int32[np.ndarray, "rows length"]], Float32[np.ndarray, "rows vocab"]]  # of the first decoder step


class FirstStep(torch.nn.Module):
    """Encoder and one decoder step, with scaled-dot-product attention."""

    def __init__(self, folder: Path, dtype: str):
        super().__init__()
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="sdpa")
        self.model = model.eval()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        start = torch.zeros((tokens.shape[0], 1), dtype=torch.long)
        mask = (tokens != 0).long()
        return (
            self.model(input_ids=tokens, attention_mask=mask, decoder_input_ids=start, use_cache=False)
            .logits[:, 0]
            .float()
        )


def transformers(folder: Path, dtype: str) -> Logits:
    torch.set_float32_matmul_precision("medium")  # lets torch use bf16 units for fp32 products: twice its speed
    step = torch.inference_mode()(FirstStep(folder, dtype))
    return lambda tokens: step(torch.from_numpy(tokens).long()).numpy()


def openvino_cpu(folder: Path, dtype: str) -> Logits:
    """The program of `transformers`, traced once and compiled for this processor."""
    traced = openvino.convert_model(FirstStep(folder, "float32"), example_input=torch.ones((2, 16), dtype=torch.long))
    precision = {"float32": "f32", "bfloat16": "bf16"}[dtype]
    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.compile_model(traced, "CPU", options)
    return lambda tokens: compiled(tokens.astype(np.int64))[0]


def ctranslate2_cpu(folder: Path, dtype: str) -> Logits:
    """One greedy step and its logits; `int8` quantises weights and activations."""
    target = folder.with_name(f"ctranslate2_{dtype}")
    TransformersConverter(str(folder)).convert(str(target), quantization=dtype)
    translator: Any = ctranslate2.Translator(
        str(target), compute_type=dtype, intra_threads=torch.get_num_threads(), inter_threads=1
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def logits(tokens: Int32[np.ndarray, "rows length"]) -> Float32[np.ndarray, "rows vocab"]:
        source = [tokenizer.convert_ids_to_tokens([token for token in row if token]) for row in tokens.tolist()]
        found = translator.translate_batch(source, beam_size=1, max_decoding_length=1, return_logits_vocab=True)
        return np.stack([np.asarray(row.logits[0][0]) for row in found])

    return logits


def scorer(logits: Logits, budget: int, reranker: Reranker) -> Score:
    """Log-odds of all pairs, batched and padded as we do it."""
    irrelevant, relevant = reranker.model.card.label_ids or ()

    def score(pairs: Sequence[QueryPassage]) -> np.ndarray:
        scores = np.empty(len(pairs), np.float32)
        inputs = [reranker.encode(query, passage) for query, passage in pairs]
        for batch in length_batches(inputs, max_length=reranker.max_length, token_budget=budget):
            found = logits(batch.tokens[: len(batch.indices)])
            scores[batch.indices] = found[:, relevant] - found[:, irrelevant]
        return scores

    return score
