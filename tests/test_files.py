import gzip

import pytest

from exaranker.errors import InputError, nearest, require
from exaranker.files import (
    atomic_path,
    open_input,
    prepare_output,
    read_json,
    read_lines,
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
