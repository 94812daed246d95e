"""Whether the step ever waits for its input: what the pipeline delivers, and the share of a real run spent waiting.

    python benchmarks/input_pipeline.py [--pairs FILE] [--steps 24] [--json FILE]

The pipeline reads the TFRecords, fills the template, tokenizes, and packs or pads. Its rate is per CPU-second, over
batches of the length that the recipes have (512 + 2). The run is T5-small on batches of 8 x (160 + 2) tokens: the
smallest model of the recipes, whose steps are the shortest. The goal is a wait below 2 % of the step.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from exaranker.cli import main as exaranker
from exaranker.files import write_json
from exaranker.files.shipped import shipped
from exaranker.models.t5 import T5Config
from exaranker.tasks import register_dataset
from exaranker.templates import ENCODER_DECODER
from exaranker.train import CheckpointConfig, DataConfig, EvalConfig, TrainConfig
from exaranker.train.batches import Batches, BatchSpec
from exaranker.train.log import read_metrics
from exaranker.train.run import train

SAMPLE = shipped("examples/sample")
VOCABULARY = str(SAMPLE / "spiece.model")
TASK = "exaranker_sample_label"
T5_SMALL = T5Config(
    vocab_size=32128, emb_dim=512, num_heads=8, num_encoder_layers=6, num_decoder_layers=6, head_dim=64, mlp_dim=2048
)


class Figure(NamedTuple):
    name: str
    value: float
    unit: str
    goal: str = ""


def delivered(dataset: Path, pack: bool, seconds: float = 5.0) -> Figure:
    """Tokens that are not padding, per CPU-second, once the pipeline is warm."""
    register_dataset("sample", dataset, VOCABULARY)
    batches = Batches(BatchSpec(TASK, "train", {"inputs": 512, "targets": 2}, 32, ENCODER_DECODER, pack=pack))
    for _ in range(4):
        next(batches)
    tokens, began, spent = 0, time.monotonic(), time.process_time()
    while time.monotonic() - began < seconds:
        arrays = next(batches).arrays
        tokens += sum(int(np.count_nonzero(arrays[f"{side}_tokens"])) for side in ("encoder_input", "decoder_target"))
    how = "packed" if pack else "padded"
    return Figure(f"input, {how}", tokens / (time.process_time() - spent), "tokens/CPU-s")


def waited(dataset: Path, steps: int, folder: str) -> list[Figure]:
    """The second half of a run of T5-small, with everything that a run does besides."""
    data = DataConfig(TASK, {"inputs": 160, "targets": 2}, 8, VOCABULARY, str(dataset), pack=False)
    saving, evaluation = CheckpointConfig(period=steps), EvalConfig(period=0)
    train(TrainConfig(folder, T5_SMALL, data, steps, checkpoint=saving, eval=evaluation, log_period=steps // 2))
    row = read_metrics(Path(folder))[-1]
    return [
        Figure("T5-small's step", 1 / row["steps_per_second"], "s"),
        Figure("of it waiting for input", 100 * row["input_wait"], "%", "< 2"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, default=SAMPLE / "pairs.tsv", help="default: the sample")
    parser.add_argument("--steps", type=int, default=24, help="of T5-small (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = Path(folder) / "dataset"
        exaranker(["explain", "--engine", "none", "--pairs", str(options.pairs), "--output_dir", str(dataset)])
        figures = [delivered(dataset, pack) for pack in (True, False)]
        figures += waited(dataset, options.steps, os.path.join(folder, "model"))
    for figure in figures:
        print(f"{figure.name:30} {figure.value:12,.2f} {figure.unit:14} {figure.goal}")
    if options.json:
        write_json(options.json, [figure._asdict() for figure in figures])


if __name__ == "__main__":
    main()
