#!/usr/bin/env python
"""Trains every arm with every seed and reranks the collections; what is finished is not done again.

    python scripts/experiments/run.py DATA OUTPUT [--arms label explained] [--seeds 1 2 3] [--steps 500]

DATA is the folder that docs/experiments/001-explanations.md describes. `table.py OUTPUT/runs` makes the table.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from exaranker.demo import Stage, run_or_reuse
from exaranker.devices.processor import emulates_bf16

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LABELLED = {  # datasets with labels only: their pairs, and the grade from which a passage is relevant
    "wikiqa": ("pairs/wikiqa-train.tsv", 1),
    "trecqa": ("pairs/trecqa-train.tsv", 1),
    "dl23": ("collections/dl23-judged", 2),
}
DEPTH = {"heldout": 10, "wikiqa-dev": 100, "dl19": 100, "cranfield": 50}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    arms = yaml.safe_load((HERE / "arms.yaml").read_text())
    parser.add_argument("--arms", nargs="+", choices=arms, default=list(arms))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--collections", nargs="+", choices=DEPTH, default=list(DEPTH))
    args = parser.parse_args()
    data, output = args.data.resolve(), args.output.resolve()
    make_pairs(data, output)
    cells = [(name, seed) for seed in args.seeds for name in args.arms]
    sets = sorted({"pool", *LABELLED, *(dataset_of(arms[name]) for name, _ in cells)})
    for name in sets:
        run(make_dataset(name, data, output), output)
    run(Stage("base", words("import --checkpoint smollm2 --format hf --output", output / "smollm2"), [], []), output)
    os.environ["EXARANKER_DATASETS"] = ",".join(f"{name}={output / 'sets' / name}" for name in sets)
    os.environ["EXARANKER_VOCABULARY"] = str(output / "smollm2/tokenizer")
    os.environ["EXARANKER_TEMPLATE"] = "decoder"
    os.environ["PYTHONPATH"] = str(HERE)
    for name, seed in cells:
        run(train(name, arms[name], seed, args.steps, output), output)
        for stage in reranked(f"{name}.{seed}", args.collections, data, output):
            run(stage, output)


def run(stage: Stage, output: Path) -> None:
    run_or_reuse(stage, output, "")


def words(command: str, *paths: Path) -> list[str]:
    return [*command.split(), *map(str, paths)]


def make_pairs(data: Path, output: Path) -> None:
    """The pairs and collections that are made rather than given."""
    for script, source, made in (
        (HERE / "data.py", data / "pairs/msmarco-ranked.jsonl", output / "data"),
        (ROOT / "scripts/pairs_to_collection.py", data / "pairs/wikiqa-dev.tsv", output / "wikiqa-dev"),
    ):
        if not made.is_dir() and os.spawnl(
            os.P_WAIT, sys.executable, sys.executable, str(script), str(source), str(made)
        ):
            sys.exit(1)


def dataset_of(arm: dict[str, Any]) -> str:
    return arm.get("dataset", "ranked")


def make_dataset(name: str, data: Path, output: Path) -> Stage:
    ranked, target = output / "data/ranked.jsonl", output / "sets" / name
    if name in LABELLED:
        source, grade = data / LABELLED[name][0], LABELLED[name][1]
        options = words(f"--engine none --balance --positive_grade {grade} --pairs", source)
    elif name == "pool":
        options = words("--engine none --pairs", output / "data/pool.jsonl")
    elif name == "own":
        options = words("--pairs", ranked)  # the embedded LLM, by vLLM
    else:
        limit = ["--limit", name.removeprefix("ranked")] if name != "ranked" else []
        options = words("--engine given --pairs", ranked) + limit
    return Stage(f"dataset {name}", [*words("explain --output_dir", target), *options], [], [target / "manifest.json"])


def train(name: str, arm: dict[str, Any], seed: int, steps: int, output: Path) -> Stage:
    model = output / "models" / f"{name}.{seed}"
    macros = {
        "MODEL_DIR": str(model),
        "INITIAL_CHECKPOINT_PATH": str(output / "smollm2"),
        "VOCABULARY_PATH": str(output / "smollm2/tokenizer"),
        "MIXTURE_OR_TASK_NAME": f"experiment_{dataset_of(arm)}_{arm['style']}",
        "EXPLANATION_WEIGHT": arm.get("explanation_weight", 1.0),
        "RANDOM_SEED": seed,
        "TRAIN_STEPS": steps,
    } | arm.get("macros", {})
    if emulates_bf16():
        macros["ACTIVATION_DTYPE"] = "float32"
    options = words("train --gin_file", HERE / "smollm2.gin")
    options += ["--gin_search_paths", f"{ROOT}/gin,{ROOT}/t5x_configs"]
    bindings = [f"--gin.{macro}={value!r}" for macro, value in macros.items()]
    return Stage(f"train {name} {seed}", [*options, *bindings], [HERE / "smollm2.gin"], [model])


def reranked(cell: str, collections: list[str], data: Path, output: Path) -> Iterator[Stage]:
    for name in collections:
        folder, first = collection(name, data, output)
        if name == "cranfield":
            texts = words("--queries", folder / "queries.tsv") + words("--passages", folder / "passages.tsv")
            yield Stage("bm25 cranfield", ["retrieve", *texts, "--output", str(first), "--k", "50"], [], [first])
        target = output / "runs" / f"{cell}.{name}.trec"
        target.parent.mkdir(exist_ok=True)
        command = words("rerank --checkpoint", output / "models" / cell) + words("--run", first)
        command += words("--queries", folder / "queries.tsv") + words("--passages", folder / "passages.tsv")
        command += ["--depth", str(DEPTH[name]), "--output", str(target)]
        command += ["--engine", "ctranslate2"] if emulates_bf16() else []
        yield Stage(f"rerank {cell} {name}", command, [first, output / "models" / cell], [target])


def collection(name: str, data: Path, output: Path) -> tuple[Path, Path]:
    """Its folder, and the run that is reranked."""
    if name == "heldout":
        return output / "data/heldout", output / "data/heldout/run.txt"
    if name == "wikiqa-dev":
        return output / "wikiqa-dev", output / "wikiqa-dev/run.in_order.txt"
    if name == "cranfield":
        return data / "collections/cranfield", output / "runs/bm25.0.cranfield.trec"
    return data / "collections/dl19-top100", data / "collections/dl19-top100/run.bm25.txt"


if __name__ == "__main__":
    main()
