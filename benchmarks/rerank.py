"""CPU-milliseconds per passage of reranking: ours and its peers, same weights, same passages.

    python benchmarks/rerank.py [--queries FILE --passages FILE --run FILE --vocabulary FILE] [--json FILE]

Every engine scores the same pairs once per round, rounds alternate, and the round with the least CPU time counts: on a
busy machine wall time says nothing, and even CPU time only bears comparison between neighbours. Ratios to ours in
float32 are geometric means over the rounds, with the 95 % interval of Student's t on their logarithms. A T5's weights
are random (no engine's speed depends on them), SmolLM2's are its own; all scores are compared with ours in float32.
`--checkpoint` takes trained weights, whose log-odds lie further apart: only those show what a dtype does to a ranking.
Peers are given batches sorted by length, of as many tokens as ours, their padding included.
The share of the peak is of torch's fp32 product of two matrices. `--peers` takes fewer of them at a time, where memory
is short, and `--types` fewer types, where a processor emulates one; an engine that cannot be had is named with the
reason.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import torch
from peers import Score, ctranslate2_cpu, onnxruntime_cpu, openvino_cpu, scorer, transformers
from scipy.stats import kendalltau
from scipy.stats import t as student

from exaranker import models
from exaranker.checkpoints.card import ModelCard
from exaranker.checkpoints.convert.huggingface import read_huggingface, write_huggingface
from exaranker.checkpoints.store import save_model
from exaranker.devices.flops import forward_flops
from exaranker.embedded.llm import embedded_llm_dir
from exaranker.files import write_json
from exaranker.files.shipped import shipped
from exaranker.models.t5 import T5Config
from exaranker.rank.arguments import QueryPassage
from exaranker.rank.loaded_model import LoadedModel
from exaranker.rank.reranker import Reranker
from exaranker.templates import EXARANKER, TEMPLATES
from exaranker.texts.rows import read_texts
from exaranker.tokenization import load_tokenizer
from exaranker.trec import read_run

V1_0: dict[str, Any] = {"mlp_activations": ("relu",), "logits_via_embedding": True, "scale_logits": True}
SHAPES = {
    "t5-small": T5Config(32128, 512, 8, 6, 6, 64, 2048, **V1_0),
    "t5-base": T5Config(32128, 768, 12, 12, 12, 64, 3072, **V1_0),
}
SMOLLM2 = "smollm2-135m"
TYPES = ("float32", "bfloat16", "int8")
OURS = {
    "jax": ("float32", "bfloat16"),
    "ctranslate2": ("float32", "int8"),
}
PEERS = {
    "transformers": (transformers, ("float32", "bfloat16")),
    "ctranslate2": (ctranslate2_cpu, ("float32", "int8")),
    "openvino": (openvino_cpu, ("float32", "bfloat16")),
    "onnxruntime": (onnxruntime_cpu, ("float32", "int8")),
}


class Row(NamedTuple):
    shape: str
    engine: str
    dtype: str
    cpu_ms_per_passage: float  # in the round with the least
    times_ours: tuple[float, float, float]  # CPU time over ours in float32 of the same round: mean, 95 % interval
    peak_share: float  # of torch's fp32 product in the same process
    seconds_to_first_scores: float  # wall time of the first round: compiling, or warming up
    largest_difference: float  # of log-odds, from ours in float32
    kendall_tau: float  # of the ranking of all pairs, against ours in float32


def make_model(name: str, vocabulary: Path, folder: Path) -> tuple[Path, Path]:
    """The same weights as a checkpoint of ours and as a Hugging Face directory."""
    if name == SMOLLM2:
        tokenizer, template = load_tokenizer(embedded_llm_dir()), TEMPLATES["decoder"]
        config, params = read_huggingface(embedded_llm_dir())
    else:
        tokenizer, template, config = load_tokenizer(vocabulary), EXARANKER, SHAPES[name]
        tokens = np.ones((1, 8), np.int32)
        batch = {"encoder_input_tokens": tokens, "decoder_input_tokens": tokens}
        params = nn.meta.unbox(jax.jit(models.build(config).init)(jax.random.key(0), batch)["params"])
    save_model(folder / "ours", ModelCard(config, template, tokenizer.digest), params, tokenizer)
    write_huggingface(folder / "theirs", config, params, tokenizer)
    tokenizer.save(folder / "theirs")
    return folder / "ours", folder / "theirs"


def trained_model(checkpoint: Path, folder: Path) -> tuple[Path, Path]:
    """A checkpoint of ours, and its weights as a Hugging Face directory."""
    model = LoadedModel.from_checkpoint(checkpoint, dtype="float32")
    write_huggingface(folder / "theirs", model.card.config, model.params, model.tokenizer)
    model.tokenizer.save(folder / "theirs")
    return checkpoint, folder / "theirs"


def load_all(
    checkpoint: Path, huggingface: Path, reference: Reranker, peers: Sequence[str], types: Collection[str], budget: int
) -> dict[tuple[str, str], Score]:
    """What scores, by engine and type; ours in float32 comes first."""

    def ours(engine: str, dtype: str) -> Score:
        if (engine, dtype) == ("jax", "float32"):
            return reference.score_window
        return Reranker.from_checkpoint(
            checkpoint, engine=engine, dtype=dtype, token_budget=reference.token_budget
        ).score_window

    def theirs(peer: str, dtype: str) -> Score:
        return scorer(PEERS[peer][0](huggingface, dtype), budget, reference)

    loaders = {(f"ours, {name}", dtype): partial(ours, name, dtype) for name, types in OURS.items() for dtype in types}
    loaders |= {(peer, dtype): partial(theirs, peer, dtype) for peer in peers for dtype in PEERS[peer][1]}
    loaded = {}
    for engine, load in loaders.items():
        if engine[1] not in types:
            continue
        try:
            loaded[engine] = load()
        except Exception as error:  # exporters raise many types
            print(f"left out: {' '.join(engine)}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    return loaded


def measure(
    engines: Sequence[Score], pairs: Sequence[QueryPassage], rounds: int
) -> tuple[list[np.ndarray], list[float], list[list[float]]]:
    """Scores and wall seconds of each engine's first round, and CPU seconds of the others. Rounds alternate."""
    scores, first = zip(*(_timed(score, pairs, time.perf_counter) for score in engines), strict=True)
    spent = [[_timed(score, pairs, time.process_time)[1] for score in engines] for _ in range(rounds)]
    return list(scores), list(first), [list(column) for column in zip(*spent, strict=True)]


def _timed(score: Score, pairs: Sequence[QueryPassage], clock: Callable[[], float]) -> tuple[np.ndarray, float]:
    began = clock()
    return score(pairs), clock() - began


def product_flops(seconds: float = 2.0) -> float:
    """FLOP per CPU-second of torch's fp32 product of a T5-base MLP, the best of as many as fit."""
    a, b = torch.ones((1024, 768)), torch.ones((768, 3072))
    spent: list[float] = []
    while sum(spent) < seconds:
        began = time.process_time()
        a @ b
        spent.append(time.process_time() - began)
    return 2 * a.numel() * b.shape[1] / min(spent)


def compare(
    name: str,
    make: Callable[[Path], tuple[Path, Path]],
    pairs: Sequence[QueryPassage],
    rounds: int,
    budgets: tuple[int, int],
    peers: Sequence[str],
    types: Collection[str],
) -> list[Row]:
    """All engines on one model, which `make` puts into a folder as ours and as a Hugging Face directory."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, huggingface = make(Path(folder))
        reference = Reranker.from_checkpoint(checkpoint, dtype="float32", token_budget=budgets[0])
        engines = load_all(checkpoint, huggingface, reference, peers, types, budgets[1])
        scores, first, spent = measure(list(engines.values()), pairs, rounds)
    flops = _flops(reference, pairs)
    peak = product_flops()
    return [
        Row(
            name,
            *engine,
            cpu_ms_per_passage=1000 * min(cpu) / len(pairs),
            times_ours=interval([mine / base for mine, base in zip(cpu, spent[0], strict=True)]),
            peak_share=flops / min(cpu) / peak,
            seconds_to_first_scores=wall,
            largest_difference=float(np.abs(score - scores[0]).max()),
            kendall_tau=float(kendalltau(score, scores[0]).statistic),
        )
        for engine, wall, cpu, score in zip(engines, first, spent, scores, strict=True)
    ]


def _flops(reranker: Reranker, pairs: Sequence[QueryPassage]) -> float:
    """What the model needs for all pairs without padding: an encoder and one decoder step, or a prompt."""
    model = reranker.model
    assert isinstance(model, LoadedModel)  # of our own engine in fp32
    config, params = model.card.config, model.params
    lengths = [len(reranker.encode(*pair)) for pair in pairs]
    if models.family_of(config).is_decoder_only:
        return sum(forward_flops(config, params, {"decoder_input_tokens": np.zeros((1, n))}) for n in lengths)
    step = {"decoder_input_tokens": np.zeros((1, 1))}
    return sum(forward_flops(config, params, step | {"encoder_input_tokens": np.zeros((1, n))}) for n in lengths)


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    logs = np.log(ratios)
    mean = float(logs.mean())
    half = float(student.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))) if len(logs) > 1 else 0.0
    low, high = np.exp([mean - half, mean + half])
    return float(np.exp(mean)), float(low), float(high)


def table(rows: Sequence[Row]) -> str:
    lines = [
        f"{'shape':12} {'engine':17} {'dtype':9} {'CPU-ms/passage':>14} {'times ours':>19} {'peak':>5} {'first, s':>9} "
        f"{'difference':>11} {'tau':>6}"
    ]
    for row in rows:
        middle, least, most = row.times_ours
        lines.append(
            f"{row.shape:12} {row.engine:17} {row.dtype:9} {row.cpu_ms_per_passage:14.1f} "
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
    parser.add_argument("--shapes", nargs="+", choices=[*SHAPES, SMOLLM2], default=list(SHAPES))
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="a trained checkpoint, in place of shapes")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES), help="float32 is always there")
    parser.add_argument("--pairs", type=int, default=128, help="pairs per round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of every engine (default: %(default)s)")
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
    how = (args.rounds, tuple(args.token_budgets), args.peers, {"float32", *args.types})
    if args.checkpoint:
        makers = {args.checkpoint.name: partial(trained_model, args.checkpoint)}
    else:
        makers = {name: partial(make_model, name, args.vocabulary) for name in args.shapes}
    rows = [row for name, make in makers.items() for row in compare(name, make, chosen, *how)]
    print(table(rows))
    if args.json:
        write_json(args.json, [row._asdict() for row in rows])


if __name__ == "__main__":
    main()
