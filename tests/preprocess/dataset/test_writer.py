"""Faults of the machine: a disk that fills up, a process that still writes, a clock that jumps, ids that repeat."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from exaranker import schema
from exaranker.errors import InputError
from exaranker.files import read_json, write_json
from exaranker.preprocess.engines.base import Completion
from exaranker.preprocess.explain import explain
from exaranker.preprocess.pairs.text import with_text_ids

WRITER = """
import sys, time
from exaranker.preprocess.dataset.writer import Plan, open_dataset
with open_dataset(sys.argv[1], Plan({}, {}, 4, 4)):
    print("writing", flush=True)
    time.sleep(600)
"""
FORKING_WRITER = WRITER.replace("print(", "import os; child = os.fork(); child and print(child, ")


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name not in ("run.json", ".writer")}


@contextmanager
def small_disk(folder, kilobytes):
    """A tmpfs of that size, mounted on `folder`; needs the right to mount."""
    folder.mkdir()
    options = f"size={kilobytes}k"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no right to mount a small disk: {done.stderr.strip()}")
    try:
        yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}k", str(folder)], check=True)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def many_pairs():
    """48 pairs with passages of some 2 kB: 25 kB a shard of 12."""
    return [with_text_ids(f"question {i}", f"{i} " + "says so " * 250, i % 2) for i in range(48)]


@pytest.mark.parametrize("kilobytes", [24, 48, 88])
def test_a_full_disk_is_named_and_loses_nothing(tmp_path, make_job, many_pairs, kilobytes):
    """Too small for the first shard, for the second, for the last; then there is room."""
    job = make_job(many_pairs, shard_size=12)
    explain(job, tmp_path / "whole")
    disk = tmp_path / "disk"
    with small_disk(disk, kilobytes) as resize:
        with pytest.raises(InputError, match=rf"{disk}.*: no space left .*free some and run the same command again"):
            explain(job, disk / "out")
        left = sorted(path.name for path in (disk / "out").iterdir())
        assert not [name for name in left if name.endswith(".aside")]
        for shard in [*(disk / "out").glob("explanations-*")]:
            assert shard.read_bytes() == (tmp_path / "whole" / shard.name).read_bytes()
        with pytest.raises(InputError, match=r"unfinished|no manifest.json here"):
            schema.verify(disk / "out")
        resize(4096)
        explain(job, disk / "out")
        assert contents(disk / "out") == contents(tmp_path / "whole")


def test_a_full_disk_on_the_command_line_is_one_line_and_exit_code_2(tmp_path):
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("".join(f"1\tquestion {i}\t{i} {'says so ' * 400}\n" for i in range(16)))
    command = [sys.executable, "-m", "exaranker.cli", "explain", "--engine", "none", "--pairs", str(pairs)]
    with small_disk(tmp_path / "disk", 24):
        out = str(tmp_path / "disk" / "out")
        done = subprocess.run([*command, "--output_dir", out], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"exaranker explain: error: {out}")
    assert "Traceback" not in done.stderr


def test_a_file_larger_than_allowed_is_named(tmp_path):
    """RLIMIT_FSIZE, as quotas of batch systems set it, in a process of its own."""
    script = (
        "import resource, signal, sys; from exaranker.files import write_bytes\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_bytes(sys.argv[1], bytes(5000))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "f")], capture_output=True, text=True)
    assert f"InputError: {tmp_path}: no space left" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", [[], ["deeper"]])
def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, make_job, pairs, below):
    (tmp_path / "file").touch()
    folder = tmp_path.joinpath("file", *below)
    with pytest.raises(InputError, match=rf"{folder}: cannot write here: \w.* \(make room, or give another --output_d"):
        explain(make_job(pairs), folder)


def test_another_process_that_writes_is_named_and_its_death_frees_the_folder(tmp_path, make_job, pairs):
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "writing\n"
        with pytest.raises(InputError, match=rf'another process is writing here: {{"pid": {process.pid}, "host"'):
            explain(make_job(pairs), tmp_path)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    (tmp_path / schema.MANIFEST).unlink()  # of the other process's settings
    assert explain(make_job(pairs), tmp_path)["complete"]


def test_a_child_that_outlives_a_killed_writer_does_not_hold_its_folder(tmp_path, make_job, pairs):
    process = subprocess.Popen([sys.executable, "-c", FORKING_WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline().split()[0])
    try:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        (tmp_path / schema.MANIFEST).unlink()  # of the other process's settings
        assert explain(make_job(pairs), tmp_path)["complete"]
        os.kill(child, 0)  # it lives
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("hours", [-48, 48])
def test_no_byte_depends_on_the_clock(tmp_path, make_job, pairs, monkeypatch, hours):
    explain(make_job(pairs), tmp_path / "a")
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600 * hours)
    explain(make_job(pairs[:4]), tmp_path / "b")
    explain(make_job(pairs), tmp_path / "c")
    assert contents(tmp_path / "a") == contents(tmp_path / "c")
    os.utime(tmp_path / "a" / schema.MANIFEST, (0, 0))
    assert explain(make_job(pairs), tmp_path / "a")["complete"]


def test_a_damaged_finished_dataset_is_refused_until_it_is_repaired(tmp_path, make_job, pairs, function_engine, capsys):
    explain(make_job(pairs), tmp_path)
    before = contents(tmp_path)
    shard = next(path for path in sorted(tmp_path.iterdir()) if path.suffix == ".tfrecord")
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x00")
    with pytest.raises(InputError, match=rf"{shard}: sha256 \w+…, the manifest says \w+… \(run the same `exaranker"):
        schema.verify(tmp_path)
    engine = function_engine()
    explain(make_job(pairs, engine), tmp_path)
    said = capsys.readouterr().err
    assert f"{shard} is missing or damaged: its shard is generated again" in said
    assert "not the same" not in said
    assert engine.calls == [4]
    assert contents(tmp_path) == before


def test_a_repaired_shard_that_came_out_otherwise_is_told_of(tmp_path, make_job, pairs, function_engine, capsys):
    explain(make_job(pairs), tmp_path)
    shard = next(tmp_path.glob("explanations-00001-*"))
    shard.unlink()
    explain(make_job(pairs, function_engine(lambda _: Completion("it names it.", "stop", 3, -0.1))), tmp_path)
    assert f"{shard.name} was generated again, but is not the same: always" in capsys.readouterr().err


def test_a_manifest_that_is_no_manifest_is_refused(tmp_path, make_job, pairs):
    explain(make_job(pairs), tmp_path)
    path = tmp_path / schema.MANIFEST
    path.write_text(path.read_text()[:100])
    with pytest.raises(InputError, match=rf"{path}: not valid JSON"):
        explain(make_job(pairs), tmp_path)
    write_json(path, {"settings": {}})
    with pytest.raises(InputError, match=r"begun with other settings: engine.name: None -> 'function'"):
        explain(make_job(pairs), tmp_path)


def test_a_changed_llm_is_refused_and_shown(tmp_path, make_job, pairs):
    explain(make_job(pairs), tmp_path)
    other = make_job(pairs)._replace(explainer="llama", llm_digest="sha256:1")
    with pytest.raises(InputError, match=r"llm.digest: 'sha256:0' -> 'sha256:1'; llm.name: 'fake' -> 'llama'"):
        explain(other, tmp_path)


def test_a_dataset_of_another_schema_is_refused(tmp_path, make_job, pairs):
    explain(make_job(pairs), tmp_path)
    path = tmp_path / schema.MANIFEST
    write_json(path, {**read_json(path), "schema_version": 0})
    with pytest.raises(InputError, match=r"begun with other settings: schema_version: 0 -> 1 \(give another"):
        explain(make_job(pairs), tmp_path)


def test_an_engine_that_answers_too_little_writes_nothing(tmp_path, make_job, pairs, function_engine):
    class Forgetful(function_engine):
        def generate(self, prompts, sampling, prefix):
            return [[Completion("it says so.", "stop", 3, -0.1)]] * (len(prompts) - 1)

    with pytest.raises(ValueError, match=r"function 1 gave 3 answers to 4 prompts"):
        explain(make_job(pairs, Forgetful()), tmp_path)
    assert not list(tmp_path.glob("explanations-*"))
