"""The whole pipeline, run as a newcomer runs it, on fewer pairs."""

import json
import subprocess
import sys

import pytest

from exaranker import demo, schema
from exaranker.resources import shipped


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(output folder, what was printed) of a demo on 32 pairs."""
    output = tmp_path_factory.mktemp("demo")
    return output, run_demo(output)


def run_demo(output):
    words = ["demo", "--output_dir", str(output), "--pairs", "32"]
    return subprocess.run(
        [sys.executable, "-m", "exaranker.cli", *words], check=True, stdout=subprocess.PIPE, text=True, timeout=800
    ).stdout


@pytest.mark.slow
def test_demo_explains_trains_reranks_and_evaluates(finished):
    output, printed = finished
    manifest = schema.verify(output / "explanations")
    assert sum(shard["rows"] for shard in manifest["shards"]) > 16
    results = json.loads((output / "results.json").read_text())
    assert results["qrels"]["queries"] == 63
    bm25, *rerankers = [run["means"]["nDCG@10"] for run in results["runs"]]
    assert 0.45 < bm25 < 0.85
    assert all(0 < value < 1 for value in rerankers)
    for value in (bm25, *rerankers):
        assert f"| {value:.4f} |" in printed
    assert printed.count("top passage: ") == 3
    assert "Above BM25: " in printed


@pytest.mark.slow
def test_a_second_demo_reuses_every_stage(finished):
    output, _ = finished
    printed = run_demo(output)
    assert printed.count("finished before, re-used") == 7
    assert "$ exaranker" not in printed


def test_a_stage_is_run_again_when_what_it_wrote_has_changed(tmp_path):
    sample = shipped("examples/sample")
    bm25 = demo.stages(tmp_path, sample, shipped("t5x_configs"), 8)[0]
    demo.run_or_reuse(bm25, tmp_path, "[1/7]")
    whole = bm25.writes.read_bytes()
    bm25.writes.write_bytes(whole[:100])
    demo.run_or_reuse(bm25, tmp_path, "[1/7]")
    assert bm25.writes.read_bytes() == whole
