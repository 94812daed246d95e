"""CPU-seconds for the explanations of a batch: our greedy decoding beside transformers' `generate`, same weights.

    python benchmarks/generate.py [--shapes t5-base smollm2-135m] [--json FILE]

Eight passages, 64 tokens each after the label, both engines in turns in one process, on as many threads as torch takes;
the least CPU time of the rounds counts, the first round (compiling, or warming up) apart. Ratios are geometric means
over the rounds with the 95 % interval of Student's t. Texts are compared token by token in float32.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import transformers as hf
from jaxtyping import Int32
from rerank import SHAPES, SMOLLM2, interval, make_model

from exaranker.files import write_json
from exaranker.files.shipped import shipped
from exaranker.rank.arguments import QueryPassage
from exaranker.rank.length_buckets import pad_batch, static_length
from exaranker.rank.reranker import Reranker
from exaranker.templates import explanation_prefix
from exaranker.texts.rows import read_texts

DTYPES = ("float32", "bfloat16")
Generate = Callable[[], list[list[int]]]


class Row(NamedTuple):
    shape: str
    dtype: str
    engine: str
    cpu_seconds: float  # of the batch, in the round with the least
    tokens: int  # written in it
    times_ours: tuple[float, float, float]  # CPU time over ours of the same round: mean, 95 % interval
    first_round: float  # CPU-seconds


def ours(reranker: Reranker, inputs: Sequence[Sequence[int]], prefix: Sequence[int], new: int) -> Generate:
    shape = (len(inputs), static_length(max(map(len, inputs)), reranker.max_length))
    tokens = pad_batch(inputs, list(range(len(inputs))), shape)
    return lambda: reranker.model.generate(tokens, prefix, max_new_tokens=new)


def theirs(
    folder: Path, dtype: str, inputs: Sequence[Sequence[int]], prefix: Sequence[int], new: int, eos: int
) -> Generate:
    has_encoder = hf.AutoConfig.from_pretrained(folder).is_encoder_decoder
    load = hf.AutoModelForSeq2SeqLM if has_encoder else hf.AutoModelForCausalLM
    model = load.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="sdpa").eval()
    how = {"max_new_tokens": new, "do_sample": False, "pad_token_id": 0, "eos_token_id": eos}
    read = inputs if has_encoder else [[*tokens, *prefix] for tokens in inputs]
    padded, mask = _padded(read, left=not has_encoder)
    if has_encoder:
        how["decoder_input_ids"] = torch.tensor([[0, *prefix]] * len(inputs))
    skipped = 1 + len(prefix) if has_encoder else padded.shape[1]

    def generate() -> list[list[int]]:
        with torch.inference_mode():
            found = model.generate(torch.from_numpy(padded), attention_mask=torch.from_numpy(mask), **how)
        return [_until(row, eos) for row in found[:, skipped:].tolist()]

    return generate


def _padded(rows: Sequence[Sequence[int]], left: bool) -> tuple[Int32[np.ndarray, "rows length"], np.ndarray]:
    longest = max(map(len, rows))
    tokens, mask = np.zeros((2, len(rows), longest), np.int64)
    for index, row in enumerate(rows):
        place = slice(longest - len(row), None) if left else slice(len(row))
        tokens[index, place], mask[index, place] = row, 1
    return tokens, mask


def _until(row: list[int], eos: int) -> list[int]:
    return row[: row.index(eos)] if eos in row else row


def compare(name: str, vocabulary: Path, pairs: Sequence[QueryPassage], rounds: int, new: int) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, huggingface = make_model(name, vocabulary, Path(folder))
        for dtype in DTYPES:
            reranker = Reranker.from_checkpoint(checkpoint, dtype=dtype)
            tokenizer, template = reranker.model.tokenizer, reranker.model.card.template
            inputs = [reranker.encode(*pair) for pair in pairs]
            prefix = explanation_prefix(tokenizer, template, relevant=True)
            engines = {
                "ours": ours(reranker, inputs, prefix, new),
                "transformers": theirs(huggingface, dtype, inputs, prefix, new, tokenizer.eos_id),
            }
            spent: dict[str, list[float]] = {engine: [] for engine in engines}
            written = {}
            for _ in range(rounds + 1):
                for engine, generate in engines.items():
                    began = time.process_time()
                    written[engine] = generate()
                    spent[engine].append(time.process_time() - began)
            same = sum(map(list.__eq__, *written.values()))
            print(f"{name} {dtype}: {same} of {len(pairs)} texts are the same")
            for engine, (first, *others) in spent.items():
                ratios = [mine / base for mine, base in zip(others, spent["ours"][1:], strict=True)]
                tokens = sum(map(len, written[engine]))
                rows.append(Row(name, dtype, engine, min(others), tokens, interval(ratios), first))
    return rows


def table(rows: Sequence[Row]) -> str:
    lines = [f"{'shape':12} {'dtype':9} {'engine':13} {'CPU-s':>6} {'tokens':>6} {'times ours':>19} {'first':>6}"]
    for row in rows:
        ratio = "{:.2f} ({:.2f}-{:.2f})".format(*row.times_ours)
        lines.append(
            f"{row.shape:12} {row.dtype:9} {row.engine:13} {row.cpu_seconds:6.2f} {row.tokens:6} {ratio:>19} "
            f"{row.first_round:6.1f}"
        )
    return "\n".join(lines)


def main() -> None:
    sample = shipped("examples/sample")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=[*SHAPES, SMOLLM2], default=["t5-base", SMOLLM2])
    parser.add_argument("--vocabulary", type=Path, default=sample / "spiece.model")
    parser.add_argument("--rows", type=int, default=8, help="explanations side by side (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=64, help="of an explanation (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="per engine (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    queries, passages = (read_texts(sample / name).values() for name in ("queries.tsv", "passages.tsv"))
    pairs = list(islice(zip(cycle(queries), passages, strict=False), args.rows))
    rows = [row for name in args.shapes for row in compare(name, args.vocabulary, pairs, args.rounds, args.tokens)]
    print(table(rows))
    if args.json:
        write_json(args.json, [row._asdict() for row in rows])


if __name__ == "__main__":
    main()
