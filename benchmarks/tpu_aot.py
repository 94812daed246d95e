"""Would it fit, and how fast could it be? The real train and rerank steps, compiled for TPUs on a machine without any.

    pip install --target /tmp/libtpu --no-deps libtpu==0.0.42.1     # 700 MB; only for this study
    python benchmarks/tpu_aot.py --libtpu /tmp/libtpu --json tpu.json

Each cell (step, model, topology) compiles in a process of its own; those already in the --json file are kept, so an
interrupted study continues. `docs/hardware.md` says how to read the table.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from exaranker.files import read_json, write_json

MODELS = ("t5_1_0/base", "t5_1_0/large", "t5_1_0/3b", "t5_1_0/11b")
TOPOLOGIES = ("v5e:2x4", "v5e:4x4", "v4:2x2x2", "v5p:2x2x2", "v6e:4x4")
STEPS = ("train", "rerank")
RECIPE = ("t5x_configs/exaranker_base.gin",)  # AdamW, 128 rows of 512 + 512 tokens; the same for every size
GIB = 2**30
Cell = Mapping[str, Any]


def compile_cell(step: str, model: str, topology: str, recipe: list[str], libtpu: str, timeout: float) -> Cell:
    """The figures of one cell, or what went wrong."""
    script = str(Path(__file__).with_name("tpu_cell.py"))
    words = ["--step", step, "--model", model, "--topology", topology, "--libtpu", libtpu, "--recipe", *recipe]
    try:
        done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"error": f"not compiled within {timeout:.0f} s"}
    if done.returncode:
        return {"error": (done.stderr.strip() or "killed").splitlines()[-1][:300]}
    return json.loads(done.stdout.splitlines()[-1])


def table(cells: Mapping[str, Cell]) -> str:
    """Markdown, one row per cell."""
    head = "step model topology mesh remat micro GiB fits TFLOPs traffic,GiB sent,GiB FLOPs/B bound step,ms MFU"
    names = [name.replace(",", ", ") for name in head.split()]
    rows = [names, ["---"] * len(names), *(_row(key, cell) for key, cell in cells.items())]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _row(key: str, cell: Cell) -> list[str]:
    step, model, topology = key.split()
    opening = [step, model, topology]
    if "error" in cell:
        return [*opening, cell["error"], *[""] * 11]
    opening += [" x ".join(f"{axis} {size}" for axis, size in cell["mesh"].items() if size > 1)]
    opening += [cell.get("remat", ""), str(cell.get("microbatches", "")), f"{cell['bytes_per_device'] / GIB:.1f}"]
    if not cell["fits"]:
        return [*opening, "no", *[""] * 7]
    devices = 1
    for size in cell["mesh"].values():
        devices *= size
    flops, traffic = cell["flops_per_device"], cell["memory_traffic_per_device"]
    mfu = cell["model_flops"] / devices / cell["peak_flops"] / cell["step_seconds"]
    figures = [f"{flops / 1e12:.1f}", f"{traffic / GIB:.0f}", _sent(cell["sent_per_device"]), f"{flops / traffic:.0f}"]
    return [*opening, "yes", *figures, cell["bound"], f"{cell['step_seconds'] * 1e3:.0f}", f"{mfu:.0%}"]


def _sent(kinds: Mapping[str, float]) -> str:
    listed = (f"{kind} {size / GIB:.2f}" for kind, size in sorted(kinds.items()) if size >= 0.005 * GIB)
    return ", ".join(listed) or "0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--libtpu", required=True, help="folder that libtpu was installed into")
    parser.add_argument("--models", nargs="+", default=MODELS, help="files of gin/models (default: %(default)s)")
    parser.add_argument("--topologies", nargs="+", default=TOPOLOGIES, help="(default: %(default)s)")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument(
        "--recipe", nargs="+", default=RECIPE, help="gin files that say all but the model (default: %(default)s)"
    )
    parser.add_argument("--timeout", type=float, default=1200.0, help="seconds per cell (default: %(default)s)")
    parser.add_argument(
        "--json", type=Path, required=True, help="file of this recipe's figures; what it has is not redone"
    )
    args = parser.parse_args()
    cells: dict[str, Cell] = read_json(args.json) if args.json.exists() else {}
    asked = {
        f"{step} {model} {topology}": (step, model, topology)
        for step, model, topology in product(args.steps, args.models, args.topologies)
    }
    for key, (step, model, topology) in asked.items():
        if key not in cells or "error" in cells[key]:
            cells[key] = compile_cell(step, model, topology, args.recipe, args.libtpu, args.timeout)
            print(key, cells[key], file=sys.stderr, flush=True)
            write_json(args.json, cells)
    print(table({key: cells[key] for key in asked}))


if __name__ == "__main__":
    main()
