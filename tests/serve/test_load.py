"""The benchmark of the server under load runs to its end, and counts no answer that is lost or another's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_fifteen_clients_of_whom_three_misbehave(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")  # of the peers, whose weights benchmarks/ makes
    command = [sys.executable, str(ROOT / "benchmarks/serve.py"), f"--checkpoint={checkpoint}"]
    command += ["--clients=15", "--seconds=3", "--queries=1", f"--json={tmp_path / 'figures.json'}"]
    printed = subprocess.check_output(command, text=True)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["lost"], figures["wrong scores"]) == (0, 0)
    assert figures["answers"] > 12
    assert figures["misbehaved"] > 3
    assert "p50 and p95, s, by passages of a request" in printed
