import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from exaranker import __version__, schema
from exaranker.errors import InputError
from exaranker.preprocess.engines.base import Completion
from exaranker.preprocess.explain import explain, summary
from exaranker.preprocess.pairs.text import with_text_ids


def rows(folder):
    return [row for path in schema.shard_paths(folder) for row in schema.read_shard(path)]


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name not in ("run.json", ".writer")}


def test_rows_carry_pair_and_explanation(tmp_path, make_job, pairs):
    explain(make_job(pairs), tmp_path)
    assert schema.verify(tmp_path)["num_shards"] == 3
    got = rows(tmp_path)
    assert [row[:5] for row in got] == [tuple(pair) for pair in pairs]
    assert [row.relevant for row in got] == [1, 0] * 5
    assert got[0].explanation.startswith("The passage is relevant because it speaks of ")
    assert got[1].explanation.startswith("The passage is not relevant because it speaks of ")
    assert (got[0].explainer, got[0].finish_reason, got[0].num_tokens) == ("fake", "stop", 9)


def test_each_shard_says_what_made_it(tmp_path, make_job, pairs):
    for shard in explain(make_job(pairs), tmp_path)["shards"]:
        assert (shard["exaranker"], shard["engine"], shard["repeatable"]) == (__version__, "function 1", "always")


def test_a_second_run_generates_nothing(tmp_path, make_job, pairs, function_engine):
    explain(make_job(pairs), tmp_path)
    before, engine = contents(tmp_path), function_engine()
    explain(make_job(pairs, engine), tmp_path)
    assert engine.calls == []
    assert contents(tmp_path) == before


def test_an_engine_that_dies_loses_only_its_shard(tmp_path, make_job, pairs, function_engine):
    class Dying(function_engine):
        def generate(self, prompts, sampling, prefix):
            if len(self.calls) == 2:
                raise ConnectionError("gone")
            return super().generate(prompts, sampling, prefix)

    with pytest.raises(ConnectionError):
        explain(make_job(pairs, Dying()), tmp_path / "a")
    with pytest.raises(InputError, match=r"the dataset is unfinished: 2 of 3 shards .*run the same"):
        schema.verify(tmp_path / "a")
    engine = function_engine()
    explain(make_job(pairs, engine), tmp_path / "a")
    assert engine.calls == [2]
    explain(make_job(pairs), tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.slow
def test_sigkill_anywhere_then_rerun_gives_the_same_bytes(tmp_path, llm_dir):
    script = Path(__file__).with_name("kill_points.py")
    command = [sys.executable, str(script), str(tmp_path), str(llm_dir), str(tmp_path / "asked")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    kills, _, rest = done.stdout.splitlines()[-1].partition(" kills, ")
    assert int(kills) >= 40
    assert rest.endswith("all equal, at most 4 of 11 pairs repeated")


@pytest.mark.parametrize("damage", ["truncate", "alter", "remove", "rejected"])
def test_a_damaged_shard_is_generated_again(tmp_path, make_job, pairs, function_engine, capsys, damage):
    def some_empty(prompt):
        return Completion("" if "not relevant" in prompt.opening else "it says so.", "stop", 3, -0.1)

    explain(make_job(pairs, function_engine(some_empty)), tmp_path)
    before = contents(tmp_path)
    name = next(name for name in sorted(before) if name.startswith("rejected" if damage == "rejected" else "expl"))
    data = before[name]
    if damage == "remove":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(data[:-3] if damage == "truncate" else bytes([data[0] ^ 1]) + data[1:])
    engine = function_engine(some_empty)
    explain(make_job(pairs, engine), tmp_path)
    assert engine.calls == [4]
    assert contents(tmp_path) == before
    assert f"{name} is missing or damaged: its shard is generated again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.7}, r"sampling.temperature: 0.0 -> 0.7 \(give another --output_dir"),
        ({"prompt": "exaranker"}, r"prompt.name: 'small' -> 'exaranker'; prompt.sha256: '"),
        ({"filters": ()}, r"filters: \['empty', .*\] -> \[\]|filters: .*\.\.\. -> \[\]"),
        ({"shard_size": 5}, "shard_size: 4 -> 5"),
    ],
)
def test_changed_settings_are_refused_and_shown(tmp_path, make_job, pairs, change, message):
    explain(make_job(pairs), tmp_path)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=message):
        explain(make_job(pairs, **change), tmp_path)
    assert contents(tmp_path) == before


def test_changed_input_is_refused(tmp_path, make_job, pairs):
    explain(make_job(pairs), tmp_path)
    with pytest.raises(InputError, match=r"input.pairs: 10 -> 9; input.sha256: "):
        explain(make_job(pairs[1:]), tmp_path)


def test_a_second_writer_is_refused_and_told_who_writes(tmp_path, make_job, pairs, function_engine):
    inside, go_on = threading.Event(), threading.Event()

    class Waiting(function_engine):
        def generate(self, prompts, sampling, prefix):
            inside.set()
            assert go_on.wait(60)
            return super().generate(prompts, sampling, prefix)

    first = threading.Thread(target=explain, args=(make_job(pairs, Waiting()), tmp_path))
    first.start()
    assert inside.wait(60)
    with pytest.raises(InputError, match=rf'another process is writing here: {{"pid": {os.getpid()}, "host": "'):
        explain(make_job(pairs), tmp_path)
    go_on.set()
    first.join()
    assert schema.verify(tmp_path)["complete"]


def test_a_clock_that_jumps_back_changes_nothing(tmp_path, make_job, pairs, monkeypatch):
    explain(make_job(pairs), tmp_path / "a")
    times = iter(range(10_000_000, 0, -100_000))
    monkeypatch.setattr(time, "gmtime", lambda *_: time.localtime(next(times)))
    explain(make_job(pairs), tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert min(json.loads((tmp_path / "b" / "run.json").read_text())["seconds"].values()) >= 0


def test_repeated_ids_with_other_texts_are_all_kept(tmp_path, make_job, pairs):
    same_ids = [pair._replace(query_id="q", doc_id="d") for pair in pairs]
    manifest = explain(make_job([*same_ids, *same_ids[:3]]), tmp_path)
    assert len(rows(tmp_path)) == 10
    assert (manifest["input_counts"]["repeated_ids"], manifest["input_counts"]["duplicate"]) == (9, 3)


def test_rejected_rows_are_kept_aside_with_their_reason(tmp_path, make_job, pairs, function_engine):
    lines = iter(["it says so.", "", "and it is not relevant.", "it says so."])
    engine = function_engine(lambda prompt: Completion(next(lines), "stop", 2, -0.1))
    unwelcome = [with_text_ids("long " * 900, "p", 1), *pairs[:5:2], pairs[1]]
    manifest = explain(make_job(unwelcome, engine, context_tokens=1000, shard_size=9), tmp_path)
    side = [json.loads(line) for line in (tmp_path / "rejected-00000-of-00001.jsonl").read_text().splitlines()]
    assert [(row["reason"], row["text"]) for row in side] == [
        ("too_long", ""),
        ("empty", ""),
        ("contradiction", "The passage is relevant because and it is not relevant."),
    ]
    assert summary(manifest) == "2 of 5 pairs explained in 1 shards; 3 rejected: contradiction 1, empty 1, too_long 1"


def test_of_several_samples_the_likeliest_good_one_is_kept(tmp_path, make_job, pairs, function_engine):
    class Sampling(function_engine):
        def generate(self, prompts, sampling, prefix):
            assert sampling.samples == 3
            texts = [("it says little.", -0.9), ("", -0.1), ("it says much.", -0.4)]
            return [[Completion(text, "stop", 3, mean) for text, mean in texts] for _ in prompts]

    explain(make_job(pairs[:2], Sampling(), samples=3, temperature=0.7, prompt="exaranker"), tmp_path)
    assert [row.explanation for row in rows(tmp_path)] == ["it says much."] * 2
    assert rows(tmp_path)[0].mean_logprob == pytest.approx(-0.4)


def test_samples_need_a_temperature(make_job, pairs, tmp_path):
    with pytest.raises(InputError, match=r"explainer.samples is 3 at temperature 0"):
        explain(make_job(pairs, samples=3), tmp_path)
