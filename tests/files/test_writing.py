"""Outputs are never inputs, devices or another job's files; they are whole or not there, whoever is killed when."""

import gzip
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from exaranker.errors import InputError
from exaranker.files import (
    atomic_folder,
    atomic_path,
    claim_folder,
    claim_outputs,
    open_output,
    prepare_output,
    read_json,
    read_lines,
    real_path,
    write_json,
    write_text,
)

# Writes half of what it is told to, says so, and waits to be killed or for its stdin to be closed.
WRITER = """
import sys
from exaranker.files import atomic_folder, atomic_path, claim_folder, claim_outputs
kind, path = sys.argv[1:]
def wait():
    print("writing", flush=True); sys.stdin.read()
if kind == "file":
    with atomic_path(path) as aside:
        aside.write_text("half"); wait()
elif kind == "claim":
    with claim_outputs(path): wait()
elif kind == "folder":
    with claim_folder(path): wait()
else:
    with atomic_folder(path) as aside:
        (aside / "weights").write_text("half"); wait()
"""


def start_writer(kind: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, kind, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("make", ["same", "symlink", "hard link", "in a folder"])
def test_an_output_that_is_an_input_is_refused(tmp_path: Path, make: str) -> None:
    source, output = tmp_path / "run.trec", tmp_path / "out.trec"
    source.write_text("q Q0 d 1 1.0 t\n")
    read = source
    if make == "symlink":
        output.symlink_to(source)
    elif make == "hard link":
        os.link(source, output)
    elif make == "in a folder":
        output, read = source, tmp_path
    else:
        output = tmp_path / "nowhere" / ".." / "run.trec"
        (tmp_path / "nowhere").mkdir()
    with pytest.raises(InputError, match="is also an input of the command"), claim_outputs(output, inputs=[read]):
        pass
    assert source.read_text() == "q Q0 d 1 1.0 t\n"


def test_two_outputs_that_are_one_file_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="two outputs of one command are this file"),
        claim_outputs(tmp_path / "a", None, tmp_path / "." / "a"),
    ):
        pass


def test_inputs_that_are_no_local_files_do_not_matter(tmp_path: Path) -> None:
    with claim_outputs(tmp_path / "a", inputs=["beir/scifact/test", None, tmp_path / "missing"]):
        write_text(tmp_path / "a", "written")
    assert names(tmp_path) == ["a"]


def test_devices_and_pipes_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/null"):
        with pytest.raises(InputError, match="is a device or a pipe, which cannot be replaced"):
            write_text(path, "text")
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "a.txt")  # dangling at first
    for text in ("one", "two"):
        write_text(tmp_path / "link", text)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "a.txt").read_text() == "two"
    assert names(tmp_path / "disk") == ["a.txt"]


def test_a_users_own_files_are_left_alone(tmp_path: Path) -> None:
    for name in ("o.trec.tmp", ".o.trec.aside", ".p.trec.00000000.aside", ".o.trec.keep.aside"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "model.tmp").mkdir()
    write_text(tmp_path / "o.trec", "text")
    with atomic_folder(tmp_path / "model") as aside:
        (aside / "weights").write_text("w")
    own = [".o.trec.aside", ".o.trec.keep.aside", ".p.trec.00000000.aside", "model.tmp", "o.trec.tmp"]
    assert names(tmp_path) == sorted([*own, "model", "o.trec"])
    assert (tmp_path / "o.trec.tmp").read_text() == "mine"


def test_permissions_are_kept_and_respected(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o640)
    write_text(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("kind", ["file", "claim", "folder", "atomic folder"])
def test_one_writer_holds_an_output(tmp_path: Path, kind: str) -> None:
    output = tmp_path / "output"
    other = start_writer(kind, output)
    try:
        with pytest.raises(InputError, match=rf'another process is writing here: {{"pid": {other.pid}, '):
            write_any(kind, output)
    finally:
        other.kill()
        other.communicate()
    write_any(kind, output)
    assert names(tmp_path) == ["output"]


@pytest.mark.parametrize("kind", ["file", "folder", "atomic folder"])
def test_what_a_killed_writer_leaves_is_removed_by_the_next(tmp_path: Path, kind: str) -> None:
    output = tmp_path / "output"
    other = start_writer(kind, output)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    assert kind == "folder" or not output.exists()
    write_any(kind, output)
    assert names(tmp_path) == ["output"]
    assert names(output) == ([] if kind == "folder" else ["weights"]) if output.is_dir() else output.read_text() == "w"


def write_any(kind: str, output: Path) -> None:
    if kind == "folder":
        with claim_folder(output):
            pass
    elif kind == "atomic folder":
        with atomic_folder(output) as aside:
            (aside / "weights").write_text("w")
    else:
        with claim_outputs(output):
            write_text(output, "w")


def test_two_writers_never_mix(tmp_path: Path) -> None:
    """Both write the same file as fast as they can: every read finds one text whole, and nobody's write is half."""
    code = (
        "import sys; from exaranker.errors import InputError; from exaranker.files import write_text\n"
        "for _ in range(150):\n"
        "    try: write_text(sys.argv[1], sys.argv[2] * 50_000)\n"
        "    except InputError as error: assert 'another process is writing here' in str(error), error\n"
    )
    target = tmp_path / "results.json"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(target), letter]) for letter in "ab"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if target.exists():
            seen.add(target.read_text())
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen <= {"a" * 50_000, "b" * 50_000}
    assert names(tmp_path) == ["results.json"]


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    with claim_outputs(tmp_path / "a"):
        child = os.fork()
        if not child:
            signal.pause()
    try:
        with claim_outputs(tmp_path / "a"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_gzip_by_suffix_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.txt.gz", "b.txt.gz"):
        with open_output(tmp_path / name) as stream:
            stream.write("one\ntwo é\n")
    assert (tmp_path / "a.txt.gz").read_bytes() == (tmp_path / "b.txt.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.txt.gz").read_bytes()).decode() == "one\ntwo é\n"
    assert list(read_lines(tmp_path / "a.txt.gz")) == [(1, "one"), (2, "two é")]
    write_json(tmp_path / "c.json.gz", {"a": 1})
    assert read_json(tmp_path / "c.json.gz") == {"a": 1}


def test_half_of_a_surrogate_pair_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a text has half of a surrogate pair: \\ud83d"):
        write_text(tmp_path / "a", "smile \ud83d")
    assert names(tmp_path) == []


def test_what_a_library_writes_for_its_owner_alone_is_readable_as_the_folder_is(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "model") as aside:
        (aside / "weights").touch(mode=0o600)
    assert (tmp_path / "model/weights").stat().st_mode & 0o666 == (tmp_path / "model").stat().st_mode & 0o666


def test_a_folder_is_whole_or_absent(tmp_path: Path) -> None:
    def fail_midway() -> None:
        with atomic_folder(tmp_path / "model") as aside:
            (aside / "weights").write_text("half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail_midway()
    assert names(tmp_path) == []
    (tmp_path / "model").mkdir()  # an empty folder is as good as none
    with atomic_folder(tmp_path / "model") as aside:
        (aside / "deep").mkdir()
        (aside / "deep" / "weights").write_text("w")
    assert (tmp_path / "model" / "deep" / "weights").read_text() == "w"
    with pytest.raises(InputError, match="already exists and is not empty"), atomic_folder(tmp_path / "model"):
        pass


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file/run.trec", "file: cannot make this folder: File exists"),
        ("n" * 300, r"File name too long \(choose a shorter name\)"),
        ("n" * 250, r"File name too long \(choose a shorter name\)"),
        ("loop", r"Too many levels of symbolic links \(symbolic links that point at each other"),
        ("/proc/run.trec", "run.trec"),
        ("a\0b", "is no path"),
        ("", "is no path"),
    ],
)
def test_what_the_system_refuses_is_one_line(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match=message) as caught:
        write_text(tmp_path / path if path else path, "text")
    assert "\n" not in str(caught.value)


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert real_path("~/out") == tmp_path / "out"
    write_text("~/out", "text")
    assert list(read_lines("~/out")) == [(1, "text")]
    assert prepare_output("~/a/b").parent.is_dir()


def test_too_many_open_files_is_one_line(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from exaranker.errors import InputError; from exaranker.files import write_text\n"
        "files = [open(sys.executable)]; resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))\n"
        "try: write_text(sys.argv[1], 'text')\n"
        "except InputError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True)
    assert done.stdout == (
        f"{tmp_path / 'a'}: Too many open files (this process may open no more files: raise the limit with ulimit -n)\n"
    )


def test_an_error_in_the_block_of_an_output_keeps_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^{tmp_path / 'missing'}: No such file"), atomic_path(tmp_path / "a"):
        (tmp_path / "missing").read_text()
