"""The rerank verb: runs, explanations, resuming after a kill, several devices, and bad input."""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import pytest
import seqio

from exaranker.checkpoints.store import load_for_inference, save_model
from exaranker.cli import main
from exaranker.errors import InputError
from exaranker.rank.inputs import Inputs, read_candidates, read_inputs, warn_of_unknown
from exaranker.rank.job import RerankJob, job_key, rerank
from exaranker.rank.loaded_model import LoadedModel
from exaranker.rank.long_documents import LongDocuments
from exaranker.rank.reranker import Reranker
from exaranker.resume import Advance, Partial
from exaranker.texts.sources import open_texts
from exaranker.tokenization import load_tokenizer
from exaranker.trec import by_query, ranked, read_run


def words(folder: Path, checkpoint: Path, *flags: str) -> list[str]:
    files = [f"--{name}={folder / name}.tsv" for name in ("queries", "passages")]
    runs = [f"--run={folder / 'run.trec'}", f"--output={folder / 'out.trec'}"]
    return ["rerank", f"--checkpoint={checkpoint}", *files, *runs, "--max_length=128", *flags]


def job(folder: Path, checkpoint: Path, **options: Any) -> RerankJob:
    files = {name: folder / f"{name}.tsv" for name in ("queries", "passages")}
    run, output = folder / "run.trec", folder / "out.trec"
    return RerankJob(checkpoint=checkpoint, **files, run=run, output=output, max_length=128, **options)


def texts_of(folder: Path) -> Inputs:
    queries, passages = (open_texts(folder / f"{part}.tsv", part) for part in ("queries", "passages"))
    return read_inputs(folder / "run.trec", read_candidates(folder / "run.trec"), queries, passages, folder)


def test_a_run_is_reranked_and_explained(
    checkpoint: Path, collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(words(collection, checkpoint, "--explain_top_k=2"))
    reranked = by_query(read_run(collection / "out.trec"))
    assert {query: sorted(doc.doc_id for doc in docs) for query, docs in reranked.items()} == {
        "q1": ["p1", "p3", "p4", "p5"],
        "q2": ["p1", "p2", "p6"],
    }
    assert all(docs == ranked(docs) for docs in reranked.values())
    rows = [json.loads(line) for line in (collection / "out.trec.explanations.jsonl").read_text().splitlines()]
    assert [(row["query_id"], row["rank"]) for row in rows] == [("q1", 1), ("q1", 2), ("q2", 1), ("q2", 2)]
    assert [row["doc_id"] for row in rows] == [doc.doc_id for docs in reranked.values() for doc in docs[:2]]
    assert [row["score"] for row in rows] == [doc.score for docs in reranked.values() for doc in docs[:2]]
    assert all(row["label"] == ("true" if row["score"] > 0 else "false") for row in rows)
    assert re.search(r"score: 100%.* 7/7 .*(passage/s|s/passage)", capsys.readouterr().err)
    assert not list(collection.glob("*.partial"))


def test_depth_keeps_the_best_of_the_given_run(t5_checkpoint: Path, collection: Path) -> None:
    rerank(job(collection, t5_checkpoint, depth=2))
    assert sorted((doc.query_id, doc.doc_id) for doc in read_run(collection / "out.trec")) == [
        ("q1", "p1"), ("q1", "p5"), ("q2", "p2"), ("q2", "p6"),
    ]  # fmt: skip


def test_only_the_passages_of_the_run_are_kept(collection: Path) -> None:
    assert set(texts_of(collection).passages) == {"p1", "p2", "p3", "p4", "p5", "p6"}


def test_a_killed_job_continues_and_gives_the_same_bytes(t5_checkpoint: Path, collection: Path) -> None:
    """Killed with SIGKILL while it scores, in a process of its own."""
    enlarge(collection, queries=40)
    options = ["--token_budget=128", "--explain_top_k=1"]
    undisturbed, killed = collection, collection.parent / "killed"
    shutil.copytree(collection, killed)
    main(words(undisturbed, t5_checkpoint, *options))

    partial = killed / "out.trec.partial"
    process = subprocess.Popen([sys.executable, "-m", "exaranker.cli", *words(killed, t5_checkpoint, *options)])
    while process.poll() is None and not (partial.is_file() and len(partial.read_text().splitlines()) > 2):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "out.trec").exists()

    main(words(killed, t5_checkpoint, *options))
    for name in ("out.trec", "out.trec.explanations.jsonl"):
        assert (killed / name).read_bytes() == (undisturbed / name).read_bytes()


@pytest.fixture
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is read by the first job only."""
    monkeypatch.setattr(LoadedModel, "from_checkpoint", functools.cache(LoadedModel.from_checkpoint))


@pytest.mark.slow
def test_a_job_killed_at_any_step_continues_and_gives_the_same_bytes(
    t5_checkpoint: Path, collection: Path, left_by_kills: Callable[..., list[Path]], loaded_once: None
) -> None:
    def work(folder: Path) -> None:
        options = {"token_budget": 16, "explain_top_k": 1}  # windows of 4 pairs
        rerank(replace(job(collection, t5_checkpoint, **options), output=folder / "out.trec"))

    kills = left_by_kills(work)
    assert len(kills) > 10
    for left in kills:
        work(left)
        assert contents(left) == contents(collection / "whole")
    assert set(contents(collection / "whole")) == {"out.trec", "out.trec.explanations.jsonl"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_another_text_of_a_query_costs_its_own_window_only(
    t5_checkpoint: Path, collection: Path, monkeypatch: pytest.MonkeyPatch, loaded_once: None
) -> None:
    small = job(collection, t5_checkpoint, token_budget=16)  # windows of 4 pairs: q1's and q2's
    scored: list[tuple[str, str]] = []
    score_window = Reranker.score_window

    def noted(self: Reranker, pairs: list[tuple[str, str]], advance: Advance) -> Any:
        scored.extend(pairs)
        return score_window(self, pairs, advance)

    monkeypatch.setattr(Reranker, "score_window", noted)
    monkeypatch.setattr("exaranker.rank.job.write_run", lambda *args, **kwargs: sys.exit(1))  # all is scored
    with pytest.raises(SystemExit):
        rerank(small)
    assert [query for query, _ in scored] == ["how do bees make honey"] * 4 + ["where does the nile begin"] * 3
    (collection / "queries.tsv").write_text("q1\thow do bees make honey\nq2\twhere does it begin\n")
    del scored[:]
    with pytest.raises(SystemExit):
        rerank(small)
    assert [query for query, _ in scored] == ["where does it begin"] * 3


def test_two_outputs_never_share_their_explanations(collection: Path, tmp_path: Path) -> None:
    first, second = (
        replace(job(collection, tmp_path), output=tmp_path / name).explanations for name in ("dl19.t5", "dl19.seed1")
    )
    assert (first.name, second.name) == ("dl19.t5.explanations.jsonl", "dl19.seed1.explanations.jsonl")


def test_a_job_says_what_it_replaces(
    t5_checkpoint: Path, collection: Path, capsys: pytest.CaptureFixture[str], loaded_once: None
) -> None:
    (collection / "out.trec").write_text("an earlier run")
    (collection / "out.trec.explanations.jsonl").write_text("of that run")
    rerank(job(collection, t5_checkpoint))
    told = capsys.readouterr().err
    assert f"{collection / 'out.trec'} is there already and will be replaced\n" in told
    assert "out.trec.explanations.jsonl is there already and stays: it explains an earlier run, not this one\n" in told


def test_an_input_is_no_output(t5_checkpoint: Path, collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (collection / "run.trec").read_text()
    with pytest.raises(InputError, match=r"run\.trec: this output is also an input of the command"):
        rerank(replace(job(collection, t5_checkpoint), output=collection / "run.trec"))
    assert (collection / "run.trec").read_text() == before


def test_a_checkpoint_that_writes_no_explanations_is_refused_before_scoring(
    t5_checkpoint: Path, collection: Path, tmp_path: Path
) -> None:
    """The end of the text is the likeliest token whatever the decoder reads, as after training on labels alone."""
    card, params, tokenizer = load_for_inference(t5_checkpoint)
    hidden = params["decoder"]["decoder_norm"]
    hidden["scale"] = jax.numpy.zeros_like(hidden["scale"])  # all logits are equal: the first id, padding, is taken
    save_model(collection / "silent", card, params, tokenizer)
    with pytest.raises(
        InputError, match=r"silent/checkpoint_0: this checkpoint writes no explanations: .* \(it seems to be trained"
    ):
        rerank(job(collection, collection / "silent", explain_top_k=1))
    assert not list(collection.glob("out.trec*"))


@pytest.mark.parametrize(
    ("rows", "by_score", "by_rank"),
    [
        (["p1 1 0.15", "p2 2 0.25", "p3 3 0.35"], ["p3", "p2"], ["p1", "p2"]),  # distances
        (["p1 1 0", "p2 2 0", "p3 3 0"], ["p3", "p2"], ["p1", "p2"]),
    ],
)
def test_a_depth_by_score_and_by_rank(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[str], by_score: list[str], by_rank: list[str]
) -> None:
    run = tmp_path / "run.trec"
    run.write_text("".join(f"q1 Q0 {row} tag\n" for row in rows))
    told = "the best 2 by score are not those by rank in 1 of 1 queries, such as 'q1': those by {} are taken"
    for depth_by, expected in (("score", by_score), ("rank", by_rank)):
        assert [doc.doc_id for doc in read_candidates(run, 2, depth_by)] == expected
        assert told.format(depth_by) in capsys.readouterr().err
    assert len(read_candidates(run, 3, "rank")) == 3
    assert capsys.readouterr().err == ""


def test_a_rank_that_is_no_number(tmp_path: Path) -> None:
    (tmp_path / "run.trec").write_text("q1 Q0 p1 first 1 tag\n")
    assert len(read_candidates(tmp_path / "run.trec", 1, "score")) == 1
    with pytest.raises(InputError, match=r"run\.trec:1: rank 'first' is not a whole number"):
        read_candidates(tmp_path / "run.trec", 1, "rank")


def test_texts_of_a_script_that_the_vocabulary_lacks(
    t5_checkpoint: Path, collection: Path, capsys: pytest.CaptureFixture[str], loaded_once: None
) -> None:
    (collection / "queries.tsv").write_text("q1\tなぜ空は青いのですか\nq2\twhere does the nile begin\n")
    vocabulary = Path(seqio.__file__).parent / "test_data/sentencepiece/sentencepiece.model"
    model = replace(LoadedModel.from_checkpoint(t5_checkpoint), tokenizer=load_tokenizer(vocabulary))
    warn_of_unknown(model, texts_of(collection))
    assert capsys.readouterr().err.splitlines() == [
        "1 of 2 queries (50%) are written in characters that this checkpoint's vocabulary lacks, such as 'q1' "
        "(100% of it is unknown): their scores say little, and many will be equal",
        "1 of 6 passages (17%) are written in characters that this checkpoint's vocabulary lacks, such as 'p2' "
        "(21% of it is unknown): their scores say little, and many will be equal",
    ]


def enlarge(folder: Path, queries: int) -> None:
    """Repeats the queries under new ids."""
    (folder / "queries.tsv").write_text("".join(f"q{i}\thow do {i} bees make honey\n" for i in range(queries)))
    rows = (f"q{i} Q0 p{p} {p} {9 - p} bm25\n" for i in range(queries) for p in range(1, 7))
    (folder / "run.trec").write_text("".join(rows))


def test_two_devices_score_as_one(t5_checkpoint: Path, collection: Path, same_score: float) -> None:
    rerank(job(collection, t5_checkpoint))
    alone = {doc[:2]: doc.score for doc in read_run(collection / "out.trec")}
    flags = os.environ.get("XLA_FLAGS", "")
    environment = {**os.environ, "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-m", "exaranker.cli", *words(collection, t5_checkpoint, "--explain_top_k=1")]
    subprocess.run(command, env=environment, check=True)
    assert {doc[:2]: doc.score for doc in read_run(collection / "out.trec")} == pytest.approx(alone, abs=same_score)


def test_what_other_devices_have_finished_is_not_continued(t5_checkpoint: Path, collection: Path) -> None:
    """They score in other windows and round otherwise, so the bytes would be those of neither."""
    reranker, inputs = Reranker.from_checkpoint(t5_checkpoint, max_length=128), texts_of(collection)
    began = Partial(collection / "out.trec", job_key(reranker, asdict(LongDocuments())))
    window = {"identity": lambda doc: inputs.pairs([doc]), "desc": "", "unit": ""}
    best = [99.0, [0, 1]]
    assert list(began.map(lambda docs, _: [best] * 7, [inputs.candidates], **window)) == [best] * 7
    kept = (collection / "out.trec.partial").read_text()
    flags = os.environ.get("XLA_FLAGS", "")
    environment = {**os.environ, "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-m", "exaranker.cli", *words(collection, t5_checkpoint)]
    subprocess.run(command, env=environment, check=True)
    assert all(abs(doc.score) < 90 for doc in read_run(collection / "out.trec"))
    (collection / "out.trec.partial").write_text(kept)
    rerank(job(collection, t5_checkpoint))
    assert all(doc.score == 99.0 for doc in read_run(collection / "out.trec"))


def test_scores_that_are_no_numbers_are_refused(t5_checkpoint: Path, collection: Path) -> None:
    card, params, tokenizer = load_for_inference(t5_checkpoint)
    save_model(collection / "diverged", card, jax.tree.map(lambda leaf: leaf * float("nan"), params), tokenizer)
    with pytest.raises(
        InputError, match=r"diverged/checkpoint_0: the score of passage 'p1' for query 'q1' is nan \(the training"
    ):
        rerank(job(collection, collection / "diverged"))
    assert not (collection / "out.trec").exists()


def test_queries_without_candidates_are_counted(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (collection / "queries.tsv").open("a") as stream:
        stream.write("q3\tnot in the run\nq4\tnor this\n")
    inputs = texts_of(collection)
    assert {doc.query_id for doc in inputs.candidates} == {"q1", "q2"}
    assert f"2 of 4 queries have no candidates in {collection / 'run.trec'}" in capsys.readouterr().err


def test_a_folder_as_output_is_refused_before_any_work(collection: Path, tmp_path: Path) -> None:
    (collection / "out.trec").mkdir()
    with pytest.raises(InputError, match=r"out\.trec: is a folder, expected a file to write"):
        rerank(job(collection, tmp_path / "no checkpoint is needed to see it"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.trec", "q1 Q0 p1 1 2 t\nq9 Q0 p1 1 2 t\n", "run.trec:2: query id 'q9' is not in "),
        ("run.trec", "q1 Q0 p1 1 2 t\nq1 Q0 p9 2 1 t\nq2 Q0 p9 2 1 t\n", "run.trec:2: passage id 'p9' is not in "),
        ("run.trec", "q1 Q0 p1 1 2\n", "run.trec:1: expected 6 columns"),
        ("run.trec", "", "run.trec: the file is empty"),
        (
            "queries.tsv",
            "q1\tone\tmore\n",
            "queries.tsv:1: expected an id and a text as 2 tab-sep",
        ),
        ("passages.tsv", "p1\ta\np1\tb\n", "passages.tsv:2: id 'p1' comes a second time"),
    ],
)
def test_bad_files(
    tmp_path: Path, collection: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, message: str
) -> None:
    (collection / name).write_text(text)
    assert message in refused(words(collection, tmp_path), capsys)


def test_bad_utf8(collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (collection / "passages.tsv").write_bytes(b"p1\tcaf\xe9\n")
    assert "passages.tsv:1: invalid UTF-8 at byte 6 of the line: 0xe9" in refused(words(collection, tmp_path), capsys)


def test_a_folder_without_a_complete_checkpoint(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (collection / "model" / "checkpoint_5").mkdir(parents=True)
    told = refused(words(collection, collection / "model"), capsys)
    assert "model: no complete checkpoint here, found: checkpoint_5" in told
    assert "no such directory" in refused(words(collection, collection / "nowhere"), capsys)


def test_a_question_that_does_not_fit(
    t5_checkpoint: Path, collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused([*words(collection, t5_checkpoint), "--max_length=8"], capsys)
    assert re.search(r"queries\.tsv: query 'q1' alone needs (\d+) tokens, --max_length is 8 \(2 such queries\)", told)
    assert re.search(r"\(shorten them, or give --max_length \d+ or more\)", told)


@pytest.mark.parametrize("flag", ["--depth=0", "--explain_top_k=-1", "--token_budget=0", "--max_length=0"])
def test_bad_flags(collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str) -> None:
    name, value = flag.split("=")
    assert f"{name} {value}, expected at least" in refused([*words(collection, tmp_path), flag], capsys)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Runs a verb that must exit 2 without an output, and returns its one line."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    output = next(word for word in arguments if word.startswith("--output=")).partition("=")[2]
    assert not Path(output).exists()
    return capsys.readouterr().err
