"""The peers that `benchmarks/rerank.py` runs beside us: each scores pairs by label log-odds from a Hugging Face folder.

Every peer is given the same batches, on as many threads as `torch.get_num_threads()` says.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from jaxtyping import Float32, Int32

from exaranker.rank.arguments import QueryPassage
from exaranker.rank.length_buckets import pad_batch, static_length
from exaranker.rank.reranker import Reranker

Score = Callable[[Sequence[QueryPassage]], np.ndarray]
Logits = Callable[[Int32[np.ndarray, "rows length"]], Float32[np.ndarray, "rows vocab"]]  # of the first answer token


class FirstStep(torch.nn.Module):
    """Logits of the first answer token, with scaled-dot-product attention."""

    def __init__(self, folder: Path, dtype: str):
        super().__init__()
        self.has_encoder = hf.AutoConfig.from_pretrained(folder).is_encoder_decoder
        load = hf.AutoModelForSeq2SeqLM if self.has_encoder else hf.AutoModelForCausalLM
        self.model = load.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="sdpa")
        self.eval()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mask = (tokens != 0).long()
        if self.has_encoder:
            start = torch.zeros_like(tokens[:, :1])
            step = self.model(input_ids=tokens, attention_mask=mask, decoder_input_ids=start, use_cache=False)
            return step.logits[:, 0].float()
        hidden = self.model.model(input_ids=tokens, attention_mask=mask, use_cache=False).last_hidden_state
        last = hidden[torch.arange(tokens.shape[0]), mask.sum(dim=1) - 1]  # no prompt of ours holds an id 0
        return self.model.lm_head(last).float()


def transformers(folder: Path, dtype: str) -> Logits:
    torch.set_float32_matmul_precision("medium")  # lets torch use bf16 units for fp32 products: twice its speed
    step = torch.inference_mode()(FirstStep(folder, dtype))
    return lambda tokens: step(torch.from_numpy(tokens).long()).numpy()


def openvino_cpu(folder: Path, dtype: str) -> Logits:
    """The program of `transformers`, traced once and compiled for this processor."""
    import openvino

    traced = openvino.convert_model(FirstStep(folder, "float32"), example_input=torch.ones((2, 16), dtype=torch.long))
    precision = {"float32": "f32", "bfloat16": "bf16"}[dtype]
    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.compile_model(traced, "CPU", options)
    return lambda tokens: compiled(tokens.astype(np.int64))[0]


def onnxruntime_cpu(folder: Path, dtype: str) -> Logits:
    """The same program by torch.onnx.export (which needs onnx and onnxscript); int8 by ONNX Runtime's own quantiser."""
    import onnxruntime
    from onnxruntime.quantization import quantize_dynamic

    sizes = {"tokens": {0: torch.export.Dim("rows"), 1: torch.export.Dim("length", max=1024)}}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as aside:
        path = Path(aside) / "model.onnx"
        example = torch.ones((2, 16), dtype=torch.long)
        with torch.inference_mode():
            torch.onnx.export(FirstStep(folder, "float32"), (example,), path, dynamo=True, dynamic_shapes=sizes)
        if dtype == "int8":
            quantize_dynamic(path, quantised := path.with_name("int8.onnx"), per_channel=True)
            path = quantised
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (name,) = (given.name for given in session.get_inputs())
    return lambda tokens: session.run(None, {name: tokens.astype(np.int64)})[0]


def ctranslate2_cpu(folder: Path, dtype: str) -> Logits:
    """One greedy step, or a forward pass, and its logits; `int8` quantises weights and activations."""
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    target = folder.with_name(f"ctranslate2_{dtype}")
    TransformersConverter(str(folder)).convert(str(target), quantization=dtype)
    threads: Any = {"compute_type": dtype, "intra_threads": torch.get_num_threads(), "inter_threads": 1}
    if not hf.AutoConfig.from_pretrained(folder).is_encoder_decoder:
        generator = ctranslate2.Generator(str(target), **threads)
        return lambda tokens: _forward(ctranslate2.StorageView.from_array, generator, tokens)
    translator = ctranslate2.Translator(str(target), **threads)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)

    def logits(tokens: Int32[np.ndarray, "rows length"]) -> Float32[np.ndarray, "rows vocab"]:
        source = [tokenizer.convert_ids_to_tokens([token for token in row if token]) for row in tokens.tolist()]
        found = translator.translate_batch(source, beam_size=1, max_decoding_length=1, return_logits_vocab=True)
        return np.stack([np.asarray(row.logits[0][0]) for row in found])

    return logits


def _forward(view: Any, generator: Any, tokens: Int32[np.ndarray, "rows length"]) -> Float32[np.ndarray, "rows vocab"]:
    lengths = (tokens != 0).sum(axis=1, dtype=np.int32)
    found = np.asarray(generator.forward_batch(view(np.ascontiguousarray(tokens)), view(lengths)))
    return found[np.arange(len(tokens)), lengths - 1]


def scorer(logits: Logits, budget: int, reranker: Reranker) -> Score:
    """Log-odds of all pairs, in batches of like lengths."""
    assert reranker.model.card.label_ids is not None
    irrelevant, relevant = reranker.model.card.label_ids

    def score(pairs: Sequence[QueryPassage]) -> np.ndarray:
        scores = np.empty(len(pairs), np.float32)
        inputs = [reranker.encode(query, passage) for query, passage in pairs]
        for indices, tokens in padded_batches(inputs, reranker.max_length, budget):
            found = logits(tokens)
            scores[indices] = found[:, relevant] - found[:, irrelevant]
        return scores

    return score


def padded_batches(
    inputs: Sequence[Sequence[int]], max_length: int, budget: int
) -> Iterator[tuple[list[int], Int32[np.ndarray, "rows length"]]]:
    """Sorted by length, `budget` tokens a batch, padding included: which inputs it has, and their tokens."""
    order = sorted(range(len(inputs)), key=lambda index: -len(inputs[index]))
    while order:
        length = static_length(len(inputs[order[0]]), max_length)
        rows = max(1, budget // length)
        indices, order = order[:rows], order[rows:]
        yield indices, pad_batch(inputs, indices, (len(indices), length))
