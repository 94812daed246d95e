"""The whole pipeline, run as a newcomer runs it, on fewer pairs."""

import json
import shutil
import subprocess
import sys

import pytest

from exaranker import cli, demo, schema
from exaranker.embedded import embedded_ranker_dir
from exaranker.errors import InputError
from exaranker.files.shipped import shipped

QUERIES = 8


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The sample's first queries and pairs, as a folder of one's own."""
    folder, shipped_sample = tmp_path_factory.mktemp("sample"), shipped("examples/sample")
    queries = (shipped_sample / "queries.tsv").read_text().splitlines(keepends=True)[:QUERIES]
    names = {line.partition("\t")[0] for line in queries}
    judged = [line for line in (shipped_sample / "qrels.txt").open() if line.split()[0] in names]
    docs = {line.split()[2] for line in judged}
    passages = [line for line in (shipped_sample / "passages.tsv").open() if line.partition("\t")[0] in docs]
    (folder / "queries.tsv").write_text("".join(queries))
    (folder / "qrels.txt").write_text("".join(judged))
    (folder / "passages.tsv").write_text("".join(passages))
    shutil.copy(shipped_sample / "pairs.tsv", folder)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, optimized, sample):
    """(output folder, what was printed) of a demo on few pairs, for a few steps."""
    output = tmp_path_factory.mktemp("demo")
    return output, run_demo(output, sample)


def run_demo(output, sample):
    words = ["demo", "--output_dir", str(output), "--sample", str(sample), "--pairs", "16", "--train_steps", "2"]
    return subprocess.run(
        [sys.executable, "-m", "exaranker.cli", *words], check=True, stdout=subprocess.PIPE, text=True, timeout=1200
    ).stdout


@pytest.mark.slow
def test_demo_explains_trains_reranks_evaluates_and_reports(finished):
    output, printed = finished
    manifest = schema.verify(output / "explanations")
    assert sum(shard["rows"] for shard in manifest["shards"]) > 8
    results = json.loads((output / "results.json").read_text())
    assert results["qrels"]["queries"] == QUERIES
    means = [run["means"]["nDCG@10"] for run in results["runs"]]
    assert all(0 < value <= 1 for value in means)
    for name, value in zip(demo.NAMES.values(), means, strict=True):
        assert f"| {name} | {value:.4f} |" in printed
    above = [name for name, value in zip(demo.NAMES.values(), means, strict=True) if value > means[0]]
    assert f"Above BM25 in nDCG@10: {'; '.join(above) or 'none'}. " in printed
    assert "the ranker in the box" in above
    assert printed.count("top passage: ") == 3
    assert (output / "report.html").as_uri() in printed
    assert "</html>" in (output / "report.html").read_text()


@pytest.mark.slow
def test_a_second_demo_reuses_every_stage(finished, sample):
    output, _ = finished
    printed = run_demo(output, sample)
    assert printed.count("finished before, re-used") == 9
    assert "$ exaranker" not in printed


def test_a_folder_that_lacks_a_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no queries\.tsv .*the demo reads four files"):
        demo.run_demo(tmp_path / "out", tmp_path, 8, 8)


@pytest.mark.parametrize(
    ("qrels", "reason"),
    [("q 0 p one\n", r"qrels\.txt:1: "), ("other 0 p 1\n", r"qrels\.txt: judges none of the queries \(its first")],
)
def test_judgements_that_cannot_be_used_are_refused_before_any_stage(qrels, reason, sample, tmp_path):
    folder, output = tmp_path / "mine", tmp_path / "out"
    shutil.copytree(sample, folder)
    (folder / "qrels.txt").write_text(qrels)
    with pytest.raises(InputError, match=reason):
        demo.run_demo(output, folder, 8, 8)
    assert not output.exists()


@pytest.mark.parametrize("option", ["--pairs", "--train_steps"])
def test_counts_are_checked_before_any_stage(option, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["demo", "--output_dir", str(tmp_path / "out"), option, "0"])
    assert stopped.value.code == 2
    assert f"{option} 0, expected at least 1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_stage_is_run_again_when_what_it_wrote_has_changed(tmp_path):
    sample = shipped("examples/sample")
    bm25 = demo.stages(tmp_path, sample, tmp_path / "base", 8, 8)[0]
    demo.run_or_reuse(bm25, tmp_path, "[1/9]")
    (run,) = bm25.writes
    whole = run.read_bytes()
    run.write_bytes(whole[:100])
    demo.run_or_reuse(bm25, tmp_path, "[1/9]")
    assert run.read_bytes() == whole


def test_a_finished_stage_is_reused_and_says_so(tmp_path, capsys):
    bm25 = demo.stages(tmp_path, shipped("examples/sample"), tmp_path / "base", 8, 8)[0]
    seconds = demo.run_or_reuse(bm25, tmp_path, "[1/9]")
    written = bm25.writes[0].stat().st_mtime_ns
    assert demo.run_or_reuse(bm25, tmp_path, "[1/9]") == seconds
    assert capsys.readouterr().out.endswith(f"[1/9] bm25: finished before, re-used ({seconds:.0f} s then)\n")
    assert bm25.writes[0].stat().st_mtime_ns == written


def test_a_stage_that_fails_ends_the_demo_and_leaves_no_record(tmp_path, capfd):
    stage = demo.Stage("bm25", ["retrieve", "--queries", "none.tsv", "--passages", "x", "--output", "y"], [], [])
    with pytest.raises(SystemExit) as stopped:
        demo.run_or_reuse(stage, tmp_path, "[1/9]")
    assert stopped.value.code == 1
    said = capfd.readouterr().err
    assert "none.tsv: no such file" in said
    assert "the stage 'bm25' failed; the same command will continue there" in said
    assert not (tmp_path / "stages").exists()


def test_what_a_stage_reads_an_earlier_one_writes_or_the_sample_has(tmp_path):
    sample, base = shipped("examples/sample"), tmp_path / "base"
    written = {tmp_path / "explanations", base, embedded_ranker_dir()}
    for stage in demo.stages(tmp_path / "", sample, base, 8, 8):
        known = [path.is_file() or not written.isdisjoint((path, *path.parents)) for path in stage.reads]
        assert all(known), stage.name
        written |= set(stage.writes)


@pytest.mark.parametrize("emulated", [True, False])
def test_what_is_trained_here_is_in_fp32_where_bf16_would_be_emulated(emulated, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "emulates_bf16", lambda: emulated)
    stages = demo.stages(tmp_path, shipped("examples/sample"), tmp_path / "base", 8, 8)
    commands = {stage.name: stage.command for stage in stages}
    for style in demo.STYLES:
        assert ("--gin.ACTIVATION_DTYPE='\"'\"'float32'" in commands[f"train {style}"]) is emulated
        assert ("--engine ctranslate2" in commands[f"rerank {style}"]) is emulated
    assert "--engine" not in commands[f"rerank {demo.BOXED}"]
