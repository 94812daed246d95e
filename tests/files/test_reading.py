import bz2
import gzip
import hashlib
import lzma
import os

import pytest

from exaranker.errors import InputError, nearest, require
from exaranker.files import (
    atomic_path,
    open_input,
    prepare_output,
    read_json,
    read_lines,
    read_yaml,
    sha256_file,
    sha256_json,
    write_json,
    write_text,
)


def test_write_is_whole_or_absent(tmp_path):
    target = tmp_path / "folder" / "a.txt"

    def fail_midway() -> None:
        with atomic_path(target) as aside:
            aside.write_text("half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail_midway()
    assert list(target.parent.iterdir()) == []

    write_text(target, "whole")
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]
    assert target.read_text() == "whole"


def test_json_bytes_do_not_depend_on_key_order(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": "é"})
    write_json(tmp_path / "b.json", {"a": "é", "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_json(tmp_path / "a.json") == {"a": "é", "b": 1}
    assert sha256_json({"b": 1, "a": 2}) == sha256_json({"a": 2, "b": 1})


def test_lines_are_numbered_and_unzipped(tmp_path):
    with gzip.open(tmp_path / "lines.gz", "wb") as stream:
        stream.write("one\r\ntwo é\n".encode())
    assert list(read_lines(tmp_path / "lines.gz")) == [(1, "one"), (2, "two é")]


def test_only_newlines_end_a_line(tmp_path):
    """Not what `str.splitlines` takes for one: such characters are in real passages."""
    line = "id\ta\x85b\u2028c\u2029d\re\x0bf\x0cg\x1ch"
    (tmp_path / "lines").write_bytes(f"{line}\n{line}\r\n{line}".encode())
    assert list(read_lines(tmp_path / "lines")) == [(1, line), (2, line), (3, line)]


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    (tmp_path / "lines").write_bytes("\ufeffq1\tone\n\ufefftwo\n".encode())
    assert list(read_lines(tmp_path / "lines")) == [(1, "q1\tone"), (2, "\ufefftwo")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"", mtime=0), "lines.gz: the file is empty"),
        (b"q1 Q0 d1 1 2.0 t\n", "lines.gz: the gzip file is truncated or damaged: Not a gzipped file"),
        (
            gzip.compress(b"one\n", mtime=0)[:-12],
            "lines.gz: the gzip file is truncated or damaged: Compressed file ended",
        ),
    ],
    ids=["empty", "not gzip", "cut off"],
)
def test_gzip_without_a_line(tmp_path, content, message):
    (tmp_path / "lines.gz").write_bytes(content)
    with pytest.raises(InputError) as caught:
        list(read_lines(tmp_path / "lines.gz"))
    assert message in str(caught.value)


def test_an_output_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a folder, expected a file to write"):
        prepare_output(tmp_path)
    with pytest.raises(InputError, match=r"file: cannot make this folder: File exists"):
        prepare_output(tmp_path / "file" / "run.trec")
    assert prepare_output(tmp_path / "a" / "b" / "run.trec").parent.is_dir()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file (check the path)"),
        (b"", "the file is empty"),
        (b"good\nbad \xff\n", ":2: invalid UTF-8 at byte 4 of the line: 0xff"),
    ],
)
def test_unreadable_input_is_named(tmp_path, content, message):
    path = tmp_path / "pairs.tsv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        list(read_lines(path))
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_folder_is_not_a_file(tmp_path):
    with pytest.raises(InputError, match="is a folder, expected a file"):
        open_input(tmp_path)


def test_broken_json_is_named(tmp_path):
    write_text(tmp_path / "a.json", "{")
    with pytest.raises(InputError, match=r"a\.json: not valid JSON: Expecting property name"):
        read_json(tmp_path / "a.json")


def test_nearest_names():
    assert nearest("lable", ["label", "keywords"]) == "did you mean label?"
    assert nearest("zzz", ["label", "keywords"]) == "known: keywords, label"


def test_missing_package_names_its_extra():
    with pytest.raises(InputError, match=r"needs the package no_such_package \(pip install 'exaranker\[train\]'\)"):
        require("no_such_package", "train")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (
            "run.trec",
            gzip.compress(b"q Q0 d 1 1.0 t\n", mtime=0),
            "this is a gzip file, but its name does not end in .gz (rename it to run.trec.gz)",
        ),
        (
            "run.trec.bz2",
            bz2.compress(b"q Q0 d 1 1.0 t\n"),
            "this is a bzip2 file, expected plain text or *.gz (decompress it: bunzip2 -k run.trec.bz2)",
        ),
        (
            "run.trec",
            lzma.compress(b"q Q0 d 1 1.0 t\n"),
            "this is a xz file, expected plain text or *.gz "
            "(decompress it: unxz -k run.trec (after renaming it to run.trec.xz))",
        ),
        *(
            (
                "pairs.tsv",
                "1\tcafé\tA passage.\n".encode(encoding),
                f"the file is {named.upper()}, expected UTF-8 (convert the file with: iconv -f {named} -t utf-8)",
            )
            for encoding, named in [
                ("utf-16", "utf-16"),
                ("utf-16-le", "utf-16le"),
                ("utf-16-be", "utf-16be"),
                ("utf-32", "utf-32"),
            ]
        ),
    ],
)
def test_what_is_no_plain_text_says_what_it_is(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        list(read_lines(tmp_path / name))
    assert str(caught.value) == f"{tmp_path / name}: {reason}"


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("is it “done”? Yes – it is.".encode("cp1252"), "convert the file with: iconv -f cp1252 -t utf-8"),
        ("café au lait".encode("latin1"), "convert the file with: iconv -f latin1 -t utf-8"),
        (
            "“cut off in the middle of caf".encode() + b"\xc3",
            "the rest is UTF-8, so these bytes are damaged: drop them with iconv -c -f utf-8 -t utf-8",
        ),
    ],
)
def test_the_remedy_fits_the_encoding(tmp_path, line, remedy):
    (tmp_path / "a").write_bytes(b"fine\n" + line + b"\n")
    with pytest.raises(InputError) as caught:
        list(read_lines(tmp_path / "a"))
    assert ":2: invalid UTF-8 at byte " in str(caught.value)
    assert str(caught.value).endswith(f"({remedy})")


def test_a_pipe_is_read_as_often_as_a_file(tmp_path):
    """As a shell's <(...): read for its digest, then for its rows."""
    reader, writer = os.pipe()
    os.write(writer, b"one\ntwo\n")
    os.close(writer)
    path = f"/dev/fd/{reader}"
    assert sha256_file(path) == hashlib.sha256(b"one\ntwo\n").hexdigest()
    assert list(read_lines(path)) == [(1, "one"), (2, "two")]
    os.close(reader)
    with pytest.raises(InputError, match=r"no such file \(this process has no such descriptor"):
        list(read_lines(path))
    with pytest.raises(InputError, match="is a device, expected a file"):
        list(read_lines("/dev/zero"))


def test_a_yaml_key_that_comes_twice_is_refused_and_a_merged_one_is_replaced(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("first: &x {rows: 1, depth: 2}\nsecond:\n  <<: *x\n  rows: 3\n")
    assert read_yaml(path)["second"] == {"rows": 3, "depth": 2}
    path.write_text("- name: x\n  run: r\n  'name': y\n")
    with pytest.raises(InputError, match=r"a\.yaml:3: not valid YAML: the key 'name' comes twice"):
        read_yaml(path)
