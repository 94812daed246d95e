"""Jobs in several processes: whole queries to each, and joined the bytes of the undivided job."""

import subprocess
import sys
from pathlib import Path

import pytest

from exaranker.cli import main
from exaranker.errors import InputError
from exaranker.rank.merge import merge
from exaranker.rank.shards import JobShard, Sizes, explanation_windows, of_shard, scoring_windows
from exaranker.trec import ScoredDoc

FILES = ("out.trec", "out.trec.explanations.jsonl")


def run_of(*counts: int) -> list[ScoredDoc]:
    return [ScoredDoc(f"q{query}", f"d{doc}", 1.0) for query, count in enumerate(counts) for doc in range(count)]


def sizes_of(windows: list[list[ScoredDoc]]) -> list[tuple[str, int]]:
    return [("".join(dict.fromkeys(doc.query_id for doc in window)), len(window)) for window in windows]


def test_a_window_has_whole_queries_or_a_part_of_one() -> None:
    run = run_of(3, 3, 3, 11, 2)
    assert sizes_of(scoring_windows(run, 5)) == [("q0q1", 6), ("q2q3", 7), ("q3", 7), ("q4", 2)]
    assert sizes_of(scoring_windows(run, 100)) == [("q0q1q2q3q4", 22)]


@pytest.mark.parametrize("sizes", [Sizes(5, 4, 0), Sizes(5, 4, 2)])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_windows_of_shards_are_those_of_the_whole(sizes: Sizes, count: int) -> None:
    run = run_of(3, 3, 3, 11, 2, 7, 1, 1, 9)
    shards = [of_shard(run, JobShard(index, count), sizes) for index in range(count)]
    assert [doc for shard in shards for doc in shard] == run
    assert [one for shard in shards for one in scoring_windows(shard, 5)] == scoring_windows(run, 5)
    best = [doc for doc in run if doc.doc_id in ("d0", "d1")]
    explained = [
        one
        for shard in shards
        for one in explanation_windows([doc for doc in best if doc in shard], shard, Sizes(5, 4, 2))
    ]
    if sizes.top_k:
        assert explained == explanation_windows(best, run, sizes)


def test_more_shards_than_parts() -> None:
    with pytest.raises(
        InputError, match=r"--num_shards 4, but this run has only 3 parts of whole queries \(a part has"
    ):
        of_shard(run_of(3, 3, 3), JobShard(0, 4), Sizes(2, 4, 0))


def test_shards_in_processes_of_their_own_give_the_bytes_of_one(t5_checkpoint: Path, collection: Path) -> None:
    """Two processes at once, one of them killed after its first window and started again, then merged."""
    (collection / "queries.tsv").write_text("".join(f"q{i}\thow do {i} bees make honey\n" for i in range(80)))
    rows = (f"q{i} Q0 p{p} {p} {9 - p} bm25\n" for i in range(80) for p in range(1, 7))
    (collection / "run.trec").write_text("".join(rows))
    files = [f"--{name}={collection / name}.tsv" for name in ("queries", "passages")]
    words = ["rerank", f"--checkpoint={t5_checkpoint}", *files, f"--run={collection / 'run.trec'}", "--max_length=128"]
    words += ["--token_budget=128", "--explain_top_k=1"]
    main([*words, f"--output={collection / 'whole.trec'}"])

    command = [sys.executable, "-m", "exaranker.cli", *words, f"--output={collection / 'out.trec'}", "--num_shards=2"]
    shards = [subprocess.Popen([*command, f"--shard_index={index}"]) for index in range(2)]
    assert [shard.wait() for shard in shards] == [0, 0]
    runs = sorted(map(str, collection.glob("out.trec.shard-*")), reverse=True)
    assert len(runs) == 4
    main(["merge", *runs, f"--output={collection / 'out.trec'}"])
    for name in FILES:
        assert (collection / name).read_bytes() == (collection / name.replace("out", "whole")).read_bytes()


def test_what_is_not_a_job_s_shards_is_refused(tmp_path: Path) -> None:
    for name, query in (("a.trec.shard-00000-of-00002", "q1"), ("b.trec", "q1"), ("c.trec", "q1")):
        (tmp_path / name).write_text(f"{query} Q0 d 1 1.0 t\n")
    shard, first, second = (tmp_path / name for name in ("a.trec.shard-00000-of-00002", "b.trec", "c.trec"))
    with pytest.raises(InputError, match=r"a\.trec\.shard-00001-of-00002: this shard is missing \(1 of 2 are\)"):
        merge([shard], tmp_path / "out")
    with pytest.raises(InputError, match="these runs are not the shards of one job"):
        merge([shard, first], tmp_path / "out")
    with pytest.raises(InputError, match=r"query 'q1' is in .*b\.trec too \(1 such queries\)"):
        merge([first, second], tmp_path / "out")
    with pytest.raises(InputError, match=r"explanations\.jsonl: this is no run \(give the runs"):
        merge([tmp_path / "a.trec.explanations.jsonl"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_merge_says_what_it_replaces_and_what_it_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for query in "ab":
        (tmp_path / f"{query}.trec").write_text(f"{query} Q0 p1 1 1.0 tag\n")
    (tmp_path / "out.trec").write_text("c Q0 p1 1 1.0 tag\n")
    (tmp_path / "out.trec.explanations.jsonl").write_text("{}\n")
    merge([tmp_path / "a.trec", tmp_path / "b.trec"], tmp_path / "out.trec")
    told = capsys.readouterr().err
    assert f"{tmp_path / 'out.trec'} is there already and will be replaced\n" in told
    assert "out.trec.explanations.jsonl is there already and stays: it explains an earlier run, not this one\n" in told
