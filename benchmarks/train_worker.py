"""One engine's training step on one core; `train_step.py` starts two of these and lets them step in turns.

Prints what setting up cost as a line of JSON, then answers every line of standard input with the figures of some steps.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from exaranker.devices.malloc import keep_freed_memory
from exaranker.models import ModelConfig, family_of
from exaranker.models.decoder import DecoderConfig
from exaranker.models.t5 import T5Config

V1_0: dict[str, Any] = {"mlp_activations": ("relu",), "logits_via_embedding": True, "scale_logits": True}
SHAPES: dict[str, ModelConfig] = {
    "t5-small": T5Config(32128, 512, 8, 6, 6, 64, 2048, **V1_0),
    "t5-base": T5Config(32128, 768, 12, 12, 12, 64, 3072, **V1_0),
    "smollm2-135m": DecoderConfig(),
}
# SmolLM2-135M in transformers' words.
SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
ROWS, SOURCE, TARGET = 8, 160, 64
IGNORED = -100  # transformers' label of a token without loss
DROPOUT, LEARNING_RATE = 0.1, 3e-5
Step = Callable[[], float]  # runs one step and returns its loss


def tokens(vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets without padding, the same for both engines."""
    random = np.random.default_rng(0)
    return random.integers(2, vocab_size, (ROWS, SOURCE)), random.integers(2, vocab_size, (ROWS, TARGET))


def ours(shape: str, dtype: str) -> Step:
    """The step that `exaranker train` runs."""
    import dataclasses

    from exaranker.devices.mesh import global_batch
    from exaranker.train.config import DataConfig, TrainConfig
    from exaranker.train.optimizers import AdamW, LearningRate
    from exaranker.train.setup import assemble, layout, random_state

    model = dataclasses.replace(SHAPES[shape], dtype=dtype)
    data = DataConfig("unused", {"inputs": SOURCE, "targets": TARGET}, batch_size=ROWS, pack=False)
    optimizer = AdamW(LearningRate(LEARNING_RATE))
    config = TrainConfig("unused", model, data, 1, optimizer=optimizer, dropout_rate=_dropout(shape))
    setup = assemble(config)
    state, arrays = random_state(setup), global_batch(setup.mesh, features(shape))

    def step() -> float:
        nonlocal state
        with layout(setup.mesh):
            state, sums = setup.step(state, arrays)
        return float(sums["loss"] / sums["weights"])

    return step


def transformers(shape: str, dtype: str) -> Step:
    """Hugging Face's model in torch with its fastest settings: bf16 autocast, bf16 units for fp32, fused AdamW."""
    import torch

    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("medium")
    torch.manual_seed(0)
    model = _huggingface(shape).train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, fused=True)
    batch = {name: torch.from_numpy(array).long() for name, array in _huggingface_batch(shape).items()}

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


TRAINERS = {"ours": ours, "transformers": transformers}


def _dropout(shape: str) -> float:
    """Llama has none: transformers offers it for attention weights only."""
    return 0.0 if family_of(SHAPES[shape]).is_decoder_only else DROPOUT


def features(shape: str) -> dict[str, np.ndarray]:
    inputs, targets = tokens(SHAPES[shape].vocab_size)
    batch = {"encoder_input_tokens": inputs}
    if family_of(SHAPES[shape]).is_decoder_only:
        batch = {"decoder_causal_attention": np.pad(np.ones_like(inputs), ((0, 0), (0, TARGET)))}
        targets = np.concatenate([inputs, targets], axis=1)
    batch |= {"decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1], "decoder_target_tokens": targets}
    batch = {name: array.astype(np.int32) for name, array in batch.items()}
    is_answer = np.arange(targets.shape[1]) >= targets.shape[1] - TARGET
    batch["decoder_loss_weights"] = np.broadcast_to(is_answer, targets.shape).astype(np.int32)
    return batch | {"decoder_label_weights": np.zeros(targets.shape, np.float32)}


def _huggingface(shape: str) -> Any:
    import transformers

    if shape == "smollm2-135m":
        config, family = transformers.LlamaConfig(**SMOLLM2), transformers.AutoModelForCausalLM
    else:
        ours: Any = SHAPES[shape]
        sizes = {"d_model": ours.emb_dim, "d_ff": ours.mlp_dim, "d_kv": ours.head_dim, "num_heads": ours.num_heads}
        sizes |= {"vocab_size": ours.vocab_size, "num_layers": ours.num_encoder_layers, "decoder_start_token_id": 0}
        config, family = transformers.T5Config(**sizes, dropout_rate=DROPOUT), transformers.AutoModelForSeq2SeqLM
    return family.from_config(config, attn_implementation="sdpa")


def _huggingface_batch(shape: str) -> dict[str, np.ndarray]:
    inputs, targets = tokens(SHAPES[shape].vocab_size)
    if not family_of(SHAPES[shape]).is_decoder_only:
        return {"input_ids": inputs, "labels": targets}
    whole = np.concatenate([inputs, targets], axis=1)
    return {"input_ids": whole, "labels": np.where(np.arange(SOURCE + TARGET) < SOURCE, IGNORED, whole)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=TRAINERS)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("dtype", choices=("float32", "bfloat16"))
    parser.add_argument("steps", type=int, help="per line of input")
    args = parser.parse_args()
    keep_freed_memory()  # as `exaranker train` does; both engines gain
    step = TRAINERS[args.engine](args.shape, args.dtype)
    began = time.process_time()
    losses = [step()]
    print(json.dumps({"first_step": time.process_time() - began}), flush=True)
    step()
    for _ in sys.stdin:
        began = time.process_time()
        losses += [step() for _ in range(args.steps)]
        seconds = (time.process_time() - began) / args.steps
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak_bytes": peak, "losses": losses}), flush=True)


if __name__ == "__main__":
    main()
