#!/usr/bin/env python
"""A launch script for every cell of the papers' grid, and what each will take: ranker x explainer x number of pairs.

    python scripts/experiments/grid.py OUTPUT --triples triples.train.small.tsv.gz [--rankers base --pairs 15k]
    OUTPUT/base.llama2_7b_chat.15k.sh                # explains, trains, reranks, evaluates; killed, it goes on
    DRY_RUN=1 OUTPUT/base.llama2_7b_chat.15k.sh      # explanations must be there: checks and sizes the training

Cells share the explanations of an explainer and the rankers' initial checkpoints. Hours are rooflines of compiled
steps and the arithmetic of docs/explain_at_scale.md, dollars are of the prices in grid.yaml: plan with them, do not
trust them.
"""

import argparse
import shlex
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from exaranker.files import write_text

HERE = Path(__file__).parent
SCRIPT = """#!/bin/sh
# {what}
set -eu
cd "$(dirname "$0")"
if [ -z "${{DRY_RUN:-}}" ]; then
  exaranker {explain}
  [ -d {initial} ] || exaranker import --checkpoint {checkpoint} --format hf --output {initial}
fi
exaranker {train} ${{DRY_RUN:+--dry_run}}
[ -z "${{DRY_RUN:-}}" ] || exit 0
mkdir -p runs
for name in {collections}; do
  first=runs/bm25.$name.trec run={run}
  [ -f $first ] || exaranker retrieve --collection $name --k 100 --output $first
  [ -f $run ] || exaranker rerank --collection $name --checkpoint {model} --run $first --output $run
  exaranker evaluate --collection $name --run $first $run --output $run.json
done
"""


class Cell(NamedTuple):
    ranker: str
    explainer: str
    pairs: str

    @property
    def name(self) -> str:
        return ".".join(self)

    @property
    def is_labels(self) -> bool:
        return self.explainer == "labels"

    @property
    def explanations(self) -> str:
        return f"sets/{self.explainer}.{self.pairs}"


class Cost(NamedTuple):
    steps: int
    explain_hours: float
    train_hours: float
    dollars: float


def main() -> None:
    grid = yaml.safe_load((HERE / "grid.yaml").read_text())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--triples", required=True, help="MS MARCO's triples.train.small.tsv.gz")
    for axis in ("rankers", "explainers", "pairs"):
        parser.add_argument(f"--{axis}", nargs="+", choices=grid[axis], default=list(grid[axis]))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    cells = [Cell(*axes) for axes in product(args.rankers, args.explainers, args.pairs)]
    for cell in cells:
        path = args.output / f"{cell.name}.sh"
        write_text(path, script(cell, cost(cell, grid), args.triples, grid))
        path.chmod(0o755)
    print(table({cell: cost(cell, grid) for cell in cells}))


def cost(cell: Cell, grid: dict[str, Any]) -> Cost:
    """Hours of explaining on the explainer's GPUs, of training on the TPU slice, and the dollars of both."""
    rows, explainer, gpu, prices = (
        grid["pairs"][cell.pairs],
        grid["explainers"][cell.explainer],
        grid["gpu"],
        grid["prices"],
    )
    steps = -(-grid["epochs"] * rows // grid["batch"])
    train = steps * grid["rankers"][cell.ranker]["step_ms"] / 3.6e6
    operations = rows * 2e9 * explainer["parameters"] * gpu["tokens"]
    explain = operations / (explainer["gpus"] * gpu["flops"] * gpu["utilisation"] * 3600) if explainer["gpus"] else 0.0
    dollars = train * prices["chips"] * prices["chip_hour"] + explain * explainer["gpus"] * prices["gpu_hour"]
    return Cost(steps, explain, train, dollars)


def script(cell: Cell, cost: Cost, triples: str, grid: dict[str, Any]) -> str:
    """The commands of a cell, each of which goes on where it was."""
    ranker = grid["rankers"][cell.ranker]
    initial, model = f"initial/{cell.ranker}", f"models/{cell.name}"
    pairs = ["--pairs", triples, "--gin_file", f"pairs/msmarco_{cell.pairs}.gin"]
    source = ["--engine", "none"] if cell.is_labels else ["--gin_file", f"explainers/{cell.explainer}.gin"]
    macros = {
        "MODEL_DIR": model,
        "DATASET_DIR": cell.explanations,
        "INITIAL_CHECKPOINT_PATH": initial,
        "VOCABULARY_PATH": f"{initial}/tokenizer",
        "MIXTURE_OR_TASK_NAME": f"exaranker_msmarco_{'label' if cell.is_labels else 'label_explanation'}",
        "TRAIN_STEPS": cost.steps,
        "TRAIN_STEPS_RELATIVE": cost.steps,
    }
    bindings = [f"--gin.{name}={value!r}" for name, value in macros.items()]
    return SCRIPT.format(
        what=f"{cell.name}: {cost.steps:,} steps, {cost.explain_hours:.1f} h of explaining, "
        f"{cost.train_hours:.1f} h of training, ${cost.dollars:.0f}",
        explain=shlex.join(["explain", *pairs, *source, "--output_dir", cell.explanations]),
        checkpoint=ranker["checkpoint"],
        initial=initial,
        train=shlex.join(["train", "--gin_file", f"t5x_configs/{ranker['config']}.gin", *bindings]),
        collections=" ".join(grid["collections"]),
        model=model,
        run=f"runs/{cell.name}.$name.trec",
    )


def table(costs: dict[Cell, Cost]) -> str:
    columns = ("ranker", "explainer", "pairs", "steps", "explaining, h", "training, h", "$")
    rows = [
        (*cell, f"{cost.steps:,}", f"{cost.explain_hours:.1f}", f"{cost.train_hours:.1f}", f"{cost.dollars:.0f}")
        for cell, cost in costs.items()
    ]
    lines = [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]
    dollars = sum(cost.dollars for cost in costs.values())
    return "\n".join([*lines, f"{len(rows)} cells, ${dollars:,.0f}; explanations that cells share count in each"])


if __name__ == "__main__":
    main()
