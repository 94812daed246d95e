"""Paths in a store, of each kind (`conftest.py`): a process dies at any of its requests to it."""

import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exaranker import files
from exaranker.cli import main
from exaranker.errors import InputError
from exaranker.files import lease, locks, mirror, writing
from exaranker.files.shipped import shipped

SAMPLE = shipped("examples/sample")


class Killed(BaseException):
    """The process is dead: nothing of it reaches the store any more."""


class Dying:
    """A store that the process reaches until its `last`-th change, which is done or, if odd, is not."""

    changes = ("pipe_file", "rm_file", "put_file")

    def __init__(self, store, last: float, count: list[int]):
        self._store, self._last, self._count = store, last, count

    def put(self, paths, keys):
        for path, key in zip(paths, keys, strict=True):
            self.put_file(path, key)

    def __getattr__(self, name: str):
        def call(*args, **kwargs):
            if self._count[0] >= self._last:
                raise Killed
            self._count[0] += name in self.changes
            if self._count[0] >= self._last and self._last % 2:
                raise Killed
            result = getattr(self._store, name)(*args, **kwargs)
            if self._count[0] >= self._last:
                raise Killed
            return result

        return call


@pytest.fixture
def process(store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[int]]]:
    """Begins a new process, which dies of its `last`-th change; returns the count of its changes."""
    monkeypatch.setenv("EXARANKER_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lease, "SETTLE", 0.0)
    opened, state = mirror.opened, (mirror._made, mirror._entered, mirror._seen, mirror._pushed)

    def begin(last: float = float("inf")) -> list[int]:
        count = [0]
        for part in state:
            part.clear()

        def open_dying(path: Path):
            inner, key = opened(path)
            return Dying(inner, last, count), key

        for module in (mirror, lease):
            monkeypatch.setattr(module, "opened", open_dying)
        return count

    begin()
    yield begin
    for part in state:
        part.clear()


def contents(store, prefix: str) -> dict[str, bytes]:
    return {key.removeprefix(prefix): store.cat_file(key) for key in store.find(prefix)}


def fill(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_words_with_a_url_become_the_mirror_s(store, bucket, process):
    store.pipe_file("bucket/words/run.trec", b"1 Q0 2 1 0.5 x\n")
    for before in ("", "--run=", "bm25=", "--run=bm25="):
        word = files.localised(f"{before}{bucket}/words/run.trec")
        assert word.startswith(f"{before}/")
        assert Path(word.rpartition("=")[2]).read_text() == "1 Q0 2 1 0.5 x\n"
        assert files.named(f"{word}: line 1") == f"{before}{bucket}/words/run.trec: line 1"
    for word in ("--server_url=http://host:8000/v1", "https://host/x", "beir/scifact/train", "a=b/c.trec", "s3:x"):
        assert files.localised(word) == word


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "SCHEME:/bucket/x",
            r"SCHEME:/bucket/x is no path \(name a local path, or a store's as scheme://bucket/name\)",
        ),
        ("https://host/x", "https://host/x is no path"),
        ("file:///tmp/x", "file:///tmp/x is no path"),
        ("s4://bucket/x", r"no store is called s4:// \(s3://, gs://, or another that fsspec knows\)"),
        ("SCHEME://bucket/../x", "names no place in a store"),
        ("SCHEME://", "names no place in a store"),
        (
            "SCHEME://nowhere/x",
            r"^SCHEME://nowhere/x: FileNotFoundError: .* \(check bucket, endpoint and credentials, ",
        ),
    ],
)
def test_what_is_no_path_is_refused_and_no_folder_called_s3_is_made(process, scheme, tmp_path, path, message):
    path, message = (text.replace("SCHEME", scheme) for text in (path, message))
    for enter in (files.prepare_output, files.open_input):
        with pytest.raises(InputError, match=message):
            enter(path)
    assert {entry.name for entry in tmp_path.iterdir()} <= {"cache"}


def test_a_verb_reads_and_writes_there_and_says_so_in_the_user_s_words(store, bucket, process, capsys):
    for name in ("queries.tsv", "passages.tsv"):
        store.put_file(str(SAMPLE / name), f"bucket/verb/{name}")
    texts = ["--queries", f"{bucket}/verb/queries.tsv", f"--passages={bucket}/verb/passages.tsv"]
    main(["retrieve", *texts, "--output", f"{bucket}/verb/run.trec", "--k", "3"])
    assert capsys.readouterr().out.startswith(f"{bucket}/verb/run.trec: 189 passages for 63 of 63 queries")
    main(["evaluate", "--qrels", str(SAMPLE / "qrels.txt"), "--run", f"{bucket}/verb/run.trec", "--output=r.json"])
    assert json.loads(Path("r.json").read_text())["runs"][0]["file"] == f"{bucket}/verb/run.trec"
    with pytest.raises(SystemExit):
        main(["inspect", f"{bucket}/verb"])
    assert f"error: {bucket}/verb: no manifest.json here" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["demo", "--output_dir", f"{bucket}/demo"])
    assert "each of its stages is a process of its own" in capsys.readouterr().err
    assert sorted(contents(store, "bucket/verb/")) == ["passages.tsv", "queries.tsv", "run.trec"]


def test_what_changed_there_comes_and_what_went_goes(store, bucket, process):
    for name in ("a", "b", "c/d"):
        store.pipe_file(f"bucket/changes/{name}", name.encode())
    folder = files.local_path(f"{bucket}/changes")
    before = (folder / "a").stat().st_mtime_ns
    store.pipe_file("bucket/changes/b", b"new")
    store.rm_file("bucket/changes/c/d")
    files.fetch(folder)
    assert {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()} == {"a": "a", "b": "new"}
    process()
    assert (files.local_path(f"{bucket}/changes/a")).stat().st_mtime_ns == before  # the same to a resumed job


def test_a_folder_is_whole_or_absent_whenever_its_writer_dies(store, bucket, process):
    for last in range(1, 100):
        count = process(last)
        place = f"folder{last}/model"
        try:
            with writing.atomic_folder(f"{bucket}/{place}") as aside:
                fill(aside, card="new", params__a="1", params__b="2")
        except Killed:
            pass
        process()
        read = files.local_path(f"{bucket}/{place}")
        names = sorted(str(path.relative_to(read)) for path in read.rglob("*") if path.is_file())
        assert names in ([], ["card", "params/a", "params/b"])
        if not names:
            fill(read, other="of a later attempt, which was of other files")
            mirror.push_whole(read)
            assert contents(store, f"bucket/{place}/").keys() == {"other"}
        if count[0] < last:
            break
    assert last == 8  # lock, mark, three files, no mark, no lock: seven changes


def test_some_checkpoint_is_whole_whenever_training_dies(store, bucket, process):
    for last in range(1, 100):
        process()
        place = f"{bucket}/model{last}"
        with files.claim_folder(place) as folder:
            fill(folder, checkpoint_1__card="1", checkpoint_1__params="1", tokenizer__x="x")
        count = process(last)
        try:
            folder = files.local_path(place)
            fill(folder, checkpoint_2__card="2", checkpoint_2__params="2", metrics="rows")
            for path in sorted((folder / "checkpoint_1").iterdir()):
                path.unlink()
            (folder / "checkpoint_1").rmdir()
            fill(folder, **{"checkpoint_3.orbax-checkpoint-tmp__card": "half"})
            files.push(folder)
        except Killed:
            pass
        process()
        found = Counter(path.parent.name for path in files.local_path(place).glob("checkpoint_*/*"))
        assert found in ({"checkpoint_1": 2}, {"checkpoint_1": 2, "checkpoint_2": 2}, {"checkpoint_2": 2})
        if count[0] < last:
            break
    assert found == {"checkpoint_2": 2}
    assert contents(store, f"bucket/model{last}/").keys() == {
        "checkpoint_2/card",
        "checkpoint_2/params",
        "metrics",
        "tokenizer/x",
    }


def test_explain_killed_at_any_change_ends_with_the_same_bytes(store, bucket, process, monkeypatch):
    from exaranker.preprocess.config import ExplainerConfig
    from exaranker.preprocess.engines.given import GivenJob, write_given
    from exaranker.preprocess.pairs.selection import select
    from exaranker.preprocess.pairs.sources import open_given
    from exaranker.preprocess.pairs.text import InputConfig

    rows = [
        {
            "query": f"what is {i}",
            "passage": f"{i} is a number",
            "label": i % 2,
            "explanation": f"It says {i}." * (i != 3),
        }
        for i in range(6)
    ]
    store.pipe_file("bucket/in/pairs.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())

    def explain(output: str) -> None:
        source = open_given(str(files.local_path(f"{bucket}/in/pairs.jsonl")), InputConfig(explainer="me"), None)
        job = GivenJob(
            select(source.reader, 1, None, False), source.path, ExplainerConfig(shard_size=3), source.left_out
        )
        write_given(job, files.local_path(f"{bucket}/{output}"))

    def written(output: str) -> dict[str, bytes]:
        return {name: data for name, data in contents(store, f"bucket/{output}/").items() if name != "run.json"}

    count = process()
    explain("undisturbed")
    expected, changes = written("undisturbed"), count[0]
    assert len(expected) == 4  # two shards, one rejected row, the manifest
    monkeypatch.setattr(lease, "_is_dead", lambda other: True)  # it was this very process
    for last in range(1, changes + 1):
        process(last)
        with pytest.raises(Killed):
            explain(f"killed{last}")
        process()
        explain(f"killed{last}")
        assert written(f"killed{last}") == expected


def test_one_writer_holds_a_place(store, bucket, process, monkeypatch):
    place, lock, before = f"{bucket}/held", "bucket/held/.writer", time.time()
    with files.claim_folder(place):
        held = json.loads(store.cat_file(lock))
        monkeypatch.setattr(locks, "_held", {})
        process()  # another process of this machine
        monkeypatch.setattr(lease, "_is_dead", lambda other: False)
        with pytest.raises(
            InputError, match=rf'another process is writing here: {{"pid": {os.getpid()}, .*its lock ends'
        ):
            files.claim_folder(place).__enter__()
        monkeypatch.undo()
    assert before <= held["until"] - lease.LEASE <= time.time()


@pytest.mark.parametrize(
    ("change", "is_dead"),
    [
        ({}, False),
        ({"pid": 2**22 + 1}, True),  # beyond what Linux gives out
        ({"machine": "another", "pid": 1}, False),
        ({"machine": "another", "until": 0}, True),
    ],
)
def test_a_dead_owner_s_lock_ends(store, bucket, process, change, is_dead):
    place, lock = f"{bucket}/dead", "bucket/dead/.writer"
    with files.claim_folder(place):
        held = json.loads(store.cat_file(lock))
    store.pipe_file(lock, json.dumps({**held, **change}).encode())
    if is_dead:
        with files.claim_folder(place):
            assert json.loads(store.cat_file(lock))["token"] != held["token"]
    else:
        with pytest.raises(InputError, match="another process is writing here"):
            files.claim_folder(place).__enter__()
    store.pipe_file(lock, b"{}")


def test_who_could_not_renew_its_lock_uploads_no_more(store, bucket, process, monkeypatch):
    monkeypatch.setattr(lease, "LEASE", 0.0)
    message = "could not renew its lock here, and another may have written meanwhile"
    with pytest.raises(InputError, match=message), files.claim_folder(f"{bucket}/lost") as folder:
        fill(folder, late="x")
    assert not store.exists("bucket/lost/late")


def test_mirrors_of_killed_processes_are_removed_by_the_next(process, tmp_path):
    home = tmp_path / "cache/mirrors"
    fill(home / "dead", s3__bucket__x="x")
    (home / "dead.lock").touch()
    assert re.fullmatch(r"[0-9a-f]{32}", mirror._root().name)
    assert not (home / "dead").exists()
