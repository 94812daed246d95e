"""Passages per CPU-second of T5 reranking: ours against transformers, same weights, same passages, same batches.

    python benchmarks/rerank.py [--queries FILE --passages FILE --run FILE --vocabulary FILE] [--json FILE]

Every engine scores the same pairs once per round, rounds alternate, and the round with the least CPU time counts: on a
busy machine wall time says nothing, and even CPU time only bears comparison between neighbours. Weights are random (no
engine's speed depends on them) and both engines' scores are compared.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np
import torch
from transformers import AutoModelForSeq2SeqLM

from exaranker import models
from exaranker.checkpoints.card import ModelCard
from exaranker.checkpoints.convert.huggingface import write_huggingface
from exaranker.checkpoints.store import save_model
from exaranker.files import write_json
from exaranker.models.t5 import T5Config
from exaranker.rank.length_buckets import length_batches
from exaranker.rank.reranker import QueryPassage, Reranker
from exaranker.shipped import shipped
from exaranker.templates import EXARANKER
from exaranker.texts.rows import read_texts
from exaranker.tokenization import Tokenizer, load_tokenizer
from exaranker.trec import read_run

V1_0 = {"mlp_activations": ("relu",), "logits_via_embedding": True, "scale_logits": True}
SHAPES = {
    "t5-small": T5Config(32128, 512, 8, 6, 6, 64, 2048, **V1_0),
    "t5-base": T5Config(32128, 768, 12, 12, 12, 64, 3072, **V1_0),
}
DTYPES = ("float32", "bfloat16")
Score = Callable[[Sequence[QueryPassage]], np.ndarray]


class Row(NamedTuple):
    shape: str
    engine: str
    dtype: str
    passages_per_cpu_second: float
    seconds_to_first_scores: float  # wall time of the first round: compiling, or warming up
    largest_difference: float  # of log-odds, from ours in float32


def ours(directory: Path, dtype: str, token_budget: int) -> Score:
    return Reranker.from_checkpoint(directory, dtype=dtype, token_budget=token_budget).score_window


def transformers(directory: Path, dtype: str, token_budget: int, encode: Reranker) -> Score:
    """Encoder and one decoder step, without gradients, on batches of the same shapes as ours."""
    torch.set_float32_matmul_precision("medium")  # lets torch use bf16 units for fp32 products: twice its speed
    model = AutoModelForSeq2SeqLM.from_pretrained(directory, dtype=getattr(torch, dtype)).eval()
    labels = list(encode.model.card.label_ids or ())

    @torch.inference_mode()
    def score(pairs: Sequence[QueryPassage]) -> np.ndarray:
        scores = np.empty(len(pairs), np.float32)
        inputs = [encode.encode(query, passage) for query, passage in pairs]
        for batch in length_batches(inputs, max_length=512, token_budget=token_budget):
            tokens = torch.from_numpy(batch.tokens).long()
            start = torch.zeros((len(tokens), 1), dtype=torch.long)
            output = model(input_ids=tokens, attention_mask=(tokens != 0).long(), decoder_input_ids=start)
            irrelevant, relevant = output.logits[:, 0, labels].float().unbind(-1)
            scores[batch.indices] = (relevant - irrelevant).numpy()[: len(batch.indices)]
        return scores

    return score


def random_model(config: T5Config, tokenizer: Tokenizer, folder: Path) -> tuple[Path, Path]:
    """The same random weights as a checkpoint of ours and as a Hugging Face directory."""
    tokens = np.ones((1, 8), np.int32)
    batch = {"encoder_input_tokens": tokens, "decoder_input_tokens": tokens}
    params = nn.meta.unbox(jax.jit(models.build(config).init)(jax.random.key(0), batch)["params"])
    save_model(folder / "ours", ModelCard(config, EXARANKER, tokenizer.digest), params, tokenizer)
    write_huggingface(folder / "theirs", config, params, tokenizer)
    return folder / "ours", folder / "theirs"


def measure(
    engines: dict[tuple[str, str], Score], pairs: Sequence[QueryPassage], rounds: int
) -> list[tuple[float, float]]:
    """(least CPU seconds of a round, wall seconds of the first round) per engine; rounds alternate."""
    first = [_timed(score, pairs, time.perf_counter) for score in engines.values()]
    spent = [[_timed(score, pairs, time.process_time) for score in engines.values()] for _ in range(rounds)]
    return [(min(column), wall) for column, wall in zip(zip(*spent, strict=True), first, strict=True)]


def _timed(score: Score, pairs: Sequence[QueryPassage], clock: Callable[[], float]) -> float:
    began = clock()
    score(pairs)
    return clock() - began


def compare(
    name: str, tokenizer: Tokenizer, pairs: Sequence[QueryPassage], rounds: int, budgets: tuple[int, int]
) -> list[Row]:
    """All engines on one shape."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, huggingface = random_model(SHAPES[name], tokenizer, Path(folder))
        reference = Reranker.from_checkpoint(checkpoint, dtype="float32", token_budget=budgets[0])
        engines: dict[tuple[str, str], Score] = {("ours", "float32"): reference.score_window}
        engines["ours", "bfloat16"] = ours(checkpoint, "bfloat16", budgets[0])
        for dtype in DTYPES:
            engines["transformers", dtype] = transformers(huggingface, dtype, budgets[1], reference)
    figures = measure(engines, pairs, rounds)
    exact = reference.score_window(pairs)
    return [
        Row(name, engine, dtype, len(pairs) / cpu, wall, float(np.abs(score(pairs) - exact).max()))
        for ((engine, dtype), score), (cpu, wall) in zip(engines.items(), figures, strict=True)
    ]


def table(rows: Sequence[Row]) -> str:
    lines = [
        f"{'shape':9} {'engine':13} {'dtype':9} {'passages/CPU-s':>14} {'ratio':>6} {'first, s':>9} {'difference':>11}"
    ]
    for row in rows:
        peer = next(r for r in rows if r[:3] == (row.shape, "transformers", row.dtype))
        ratio = row.passages_per_cpu_second / peer.passages_per_cpu_second
        lines.append(
            f"{row.shape:9} {row.engine:13} {row.dtype:9} {row.passages_per_cpu_second:14.2f} {ratio:6.2f} "
            f"{row.seconds_to_first_scores:9.1f} {row.largest_difference:11.1e}"
        )
    return "\n".join(lines)


def main() -> None:
    sample = shipped("examples/sample")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=Path, default=sample / "queries.tsv")
    parser.add_argument("--passages", type=Path, default=sample / "passages.tsv")
    parser.add_argument("--run", type=Path, help="pairs to score; without it every query meets every passage, in turn")
    parser.add_argument("--vocabulary", type=Path, default=sample / "spiece.model")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--pairs", type=int, default=128, help="pairs per round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds per engine (default: %(default)s)")
    parser.add_argument(
        "--token_budgets", type=int, nargs=2, default=(1024, 1024), metavar=("OURS", "THEIRS"), help="tokens per batch"
    )
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    queries, passages = read_texts(args.queries), read_texts(args.passages)
    if args.run:
        pairs = [(queries[doc.query_id], passages[doc.doc_id]) for doc in read_run(args.run)]
    else:
        pairs = list(zip(cycle(queries.values()), passages.values(), strict=False))
    chosen = pairs[:: max(1, len(pairs) // args.pairs)][: args.pairs]
    tokenizer = load_tokenizer(args.vocabulary)
    rows = [
        row for name in args.shapes for row in compare(name, tokenizer, chosen, args.rounds, tuple(args.token_budgets))
    ]
    print(table(rows))
    if args.json:
        write_json(args.json, [row._asdict() for row in rows])


if __name__ == "__main__":
    main()
