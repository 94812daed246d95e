"""The whole pipeline, run as a newcomer runs it, on fewer pairs."""

import json
import subprocess
import sys

import pytest

from exaranker import demo, schema
from exaranker.shipped import shipped


@pytest.fixture(scope="module")
def finished(tmp_path_factory, optimized):
    """(output folder, what was printed) of a demo on few pairs, for a few steps."""
    output = tmp_path_factory.mktemp("demo")
    return output, run_demo(output)


def run_demo(output):
    words = ["demo", "--output_dir", str(output), "--pairs", "32", "--train_steps", "8"]
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
    bm25 = demo.stages(tmp_path, sample, shipped("t5x_configs"), 8, 8)[0]
    demo.run_or_reuse(bm25, tmp_path, "[1/7]")
    (run,) = bm25.writes
    whole = run.read_bytes()
    run.write_bytes(whole[:100])
    demo.run_or_reuse(bm25, tmp_path, "[1/7]")
    assert run.read_bytes() == whole


def test_a_finished_stage_is_reused_and_says_so(tmp_path, capsys):
    bm25 = demo.stages(tmp_path, shipped("examples/sample"), shipped("t5x_configs"), 8, 8)[0]
    seconds = demo.run_or_reuse(bm25, tmp_path, "[1/7]")
    written = bm25.writes[0].stat().st_mtime_ns
    assert demo.run_or_reuse(bm25, tmp_path, "[1/7]") == seconds
    assert capsys.readouterr().out.endswith(f"[1/7] bm25: finished before, re-used ({seconds:.0f} s then)\n")
    assert bm25.writes[0].stat().st_mtime_ns == written


def test_a_stage_that_fails_ends_the_demo_and_leaves_no_record(tmp_path, capfd):
    stage = demo.Stage("bm25", ["retrieve", "--queries", "none.tsv", "--passages", "x", "--output", "y"], [], [])
    with pytest.raises(SystemExit) as stopped:
        demo.run_or_reuse(stage, tmp_path, "[1/7]")
    assert stopped.value.code == 1
    said = capfd.readouterr().err
    assert "none.tsv: no such file" in said
    assert "the stage 'bm25' failed; the same command will continue there" in said
    assert not (tmp_path / "stages").exists()


def test_what_a_stage_reads_an_earlier_one_writes_or_the_sample_has(tmp_path):
    sample, configs = shipped("examples/sample"), shipped("t5x_configs")
    written = {tmp_path / "explanations" / "manifest.json"}
    for stage in demo.stages(tmp_path / "", sample, configs, 8, 8):
        assert all(path in written or path.is_file() for path in stage.reads), stage.name
        written |= set(stage.writes)
