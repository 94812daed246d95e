"""CPU-milliseconds per passage of T5 reranking: ours and its peers, same weights, same passages, same batches.

    python benchmarks/rerank.py [--queries FILE --passages FILE --run FILE --vocabulary FILE] [--json FILE]

Every engine scores the same pairs once per round, rounds alternate, and the round with the least CPU time counts: on a
busy machine wall time says nothing, and even CPU time only bears comparison between neighbours. Ratios to ours are
medians over the rounds, with their range. Weights are random (no engine's speed depends on them), and all scores are
compared with ours in float32. The share of the peak is of torch's fp32 product of two matrices, in the same rounds.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np
import torch
from peers import Score, ctranslate2_cpu, openvino_cpu, scorer, transformers
from scipy.stats import kendalltau

from exaranker import models
from exaranker.checkpoints.card import ModelCard
from exaranker.checkpoints.convert.huggingface import write_huggingface
from exaranker.checkpoints.store import save_model
from exaranker.devices.flops import forward_flops
from exaranker.files import write_json
from exaranker.models.t5 import T5Config
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
PEERS = {
    ("transformers", "float32"): transformers,
    ("transformers", "bfloat16"): transformers,
    ("ctranslate2", "float32"): ctranslate2_cpu,
    ("ctranslate2", "int8"): ctranslate2_cpu,
    ("openvino", "float32"): openvino_cpu,
    ("openvino", "bfloat16"): openvino_cpu,
}


class Row(NamedTuple):
    shape: str
    engine: str
    dtype: str
    cpu_ms_per_passage: float  # in the round with the least
    times_ours: tuple[float, float, float]  # CPU time over ours in float32 of the same round: median, least, most
    peak_share: float  # of torch's fp32 product in the same process
    seconds_to_first_scores: float  # wall time of the first round: compiling, or warming up
    largest_difference: float  # of log-odds, from ours in float32
    kendall_tau: float  # of the ranking of all pairs, against ours in float32


def ours(directory: Path, dtype: str, token_budget: int) -> Score:
    return Reranker.from_checkpoint(directory, dtype=dtype, token_budget=token_budget).score_window


def random_model(config: T5Config, tokenizer: Tokenizer, folder: Path) -> tuple[Path, Path]:
    """The same random weights as a checkpoint of ours and as a Hugging Face directory."""
    tokens = np.ones((1, 8), np.int32)
    batch = {"encoder_input_tokens": tokens, "decoder_input_tokens": tokens}
    params = nn.meta.unbox(jax.jit(models.build(config).init)(jax.random.key(0), batch)["params"])
    save_model(folder / "ours", ModelCard(config, EXARANKER, tokenizer.digest), params, tokenizer)
    write_huggingface(folder / "theirs", config, params, tokenizer)
    tokenizer.save(folder / "theirs")
    return folder / "ours", folder / "theirs"


def measure(
    engines: dict[tuple[str, str], Score], pairs: Sequence[QueryPassage], rounds: int
) -> tuple[list[float], list[list[float]]]:
    """Wall seconds of each engine's first round, and CPU seconds of the others: a list per engine. Rounds alternate."""
    first = [_timed(score, pairs, time.perf_counter) for score in engines.values()]
    spent = [[_timed(score, pairs, time.process_time) for score in engines.values()] for _ in range(rounds)]
    return first, [list(column) for column in zip(*spent, strict=True)]


def _timed(score: Score, pairs: Sequence[QueryPassage], clock: Callable[[], float]) -> float:
    began = clock()
    score(pairs)
    return clock() - began


def product_flops(seconds: float = 2.0) -> float:
    """FLOP per CPU-second of torch's fp32 product of a T5-base MLP, the best of as many as fit."""
    a, b = torch.ones((1024, 768)), torch.ones((768, 3072))
    spent = []
    while sum(spent) < seconds:
        began = time.process_time()
        a @ b
        spent.append(time.process_time() - began)
    return 2 * a.numel() * b.shape[1] / min(spent)


def compare(
    name: str, tokenizer: Tokenizer, pairs: Sequence[QueryPassage], rounds: int, budgets: tuple[int, int]
) -> list[Row]:
    """All engines on one shape."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, huggingface = random_model(SHAPES[name], tokenizer, Path(folder))
        reference = Reranker.from_checkpoint(checkpoint, dtype="float32", token_budget=budgets[0])
        engines: dict[tuple[str, str], Score] = {("ours", "float32"): reference.score_window}
        engines["ours", "bfloat16"] = ours(checkpoint, "bfloat16", budgets[0])
        for (peer, dtype), load in PEERS.items():
            engines[peer, dtype] = scorer(load(huggingface, dtype), budgets[1], reference)
        first, spent = measure(engines, pairs, rounds)
        scores = [score(pairs) for score in engines.values()]
    flops = _flops(reference, pairs)
    peak = product_flops()
    return [
        Row(
            name,
            *engine,
            cpu_ms_per_passage=1000 * min(cpu) / len(pairs),
            times_ours=_spread([mine / base for mine, base in zip(cpu, spent[0], strict=True)]),
            peak_share=flops / min(cpu) / peak,
            seconds_to_first_scores=wall,
            largest_difference=float(np.abs(score - scores[0]).max()),
            kendall_tau=float(kendalltau(score, scores[0]).statistic),
        )
        for engine, wall, cpu, score in zip(engines, first, spent, scores, strict=True)
    ]


def _flops(reranker: Reranker, pairs: Sequence[QueryPassage]) -> float:
    """What the model needs for all pairs: the encoder and one decoder step, without padding."""
    model = reranker.model
    rows = [{"encoder_input_tokens": np.zeros((1, len(reranker.encode(*pair))))} for pair in pairs]
    step = {"decoder_input_tokens": np.zeros((1, 1))}
    return sum(forward_flops(model.card.config, model.params, row | step) for row in rows)


def _spread(ratios: Sequence[float]) -> tuple[float, float, float]:
    return median(ratios), min(ratios), max(ratios)


def table(rows: Sequence[Row]) -> str:
    lines = [
        f"{'shape':9} {'engine':13} {'dtype':9} {'CPU-ms/passage':>14} {'times ours':>19} {'peak':>5} {'first, s':>9} "
        f"{'difference':>11} {'tau':>6}"
    ]
    for row in rows:
        middle, least, most = row.times_ours
        lines.append(
            f"{row.shape:9} {row.engine:13} {row.dtype:9} {row.cpu_ms_per_passage:14.1f} "
            f"{f'{middle:.2f} ({least:.2f}-{most:.2f})':>19} {row.peak_share:5.0%} "
            f"{row.seconds_to_first_scores:9.1f} {row.largest_difference:11.1e} {row.kendall_tau:6.3f}"
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
