"""The experiment's scripts: what is trained on and what is kept back, the cells, and a table over seeds."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

SAMPLE = Path(__file__).parents[1] / "examples/sample"
HERE = Path(__file__).parents[1] / "scripts/experiments"


def run_script(name, *words):
    command = [sys.executable, str(HERE / name), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """40 queries of five ranked passages; every other query's third rank has no reason."""
    folder = tmp_path_factory.mktemp("experiment")
    with open(folder / "ranked.jsonl", "w") as stream:
        for query in range(40):
            for rank in range(1, 6):
                row = {"query_id": f"q{query}", "doc_id": f"q{query}p{rank}", "query": f"where does river {query} rise"}
                row |= {
                    "passage": f"River {query} rises by hill {query * rank}.",
                    "rank": rank,
                    "label": int(rank == 1),
                }
                row |= {"explanation": "" if rank == 4 and query % 2 else f"It says so of rank {rank}."}
                stream.write(json.dumps(row) + "\n")
    run_script("data.py", folder / "ranked.jsonl", folder / "data")
    return folder / "data"


def test_no_query_is_trained_on_and_held_out(made):
    held_out = {line.split("\t")[1] for line in (made / "heldout/queries.tsv").read_text().splitlines()}
    trained = {row["query"] for name in ("ranked", "pool") for row in rows_of(made / f"{name}.jsonl")}
    assert held_out
    assert len(trained) == 40 - len(held_out)
    assert not trained & held_out
    grades = Counter(line.split()[3] for line in (made / "heldout/qrels.txt").read_text().splitlines())
    assert grades == {"3": len(held_out), "2": len(held_out), "1": len(held_out), "0": 2 * len(held_out)}


def test_the_best_of_five_is_relevant_and_the_worst_two_are_not(made):
    kept = Counter((row["rank"], row["label"]) for row in rows_of(made / "ranked.jsonl"))
    odd = sum(int(row["query_id"][1:]) % 2 for row in rows_of(made / "ranked.jsonl") if row["rank"] == 1)
    trained = kept[1, 1]
    assert kept == {(1, 1): trained, (4, 0): trained - odd, (5, 0): trained}


def test_the_pool_has_as_many_passages_of_other_queries_as_relevant_ones(made):
    rows = rows_of(made / "pool.jsonl")
    own = [row["doc_id"].startswith(row["query_id"] + "p") for row in rows]
    assert own == [row["label"] == 1 for row in rows]
    assert sum(own) * 2 == len(own)


@pytest.mark.slow
def test_every_arm_trains_a_mixture_that_is_registered(made, tmp_path):
    """With the real parser and registry, without training."""
    explain = [sys.executable, "-m", "exaranker.cli", "explain", "--quiet"]
    explained = ["--engine", "given", "--pairs", str(made / "ranked.jsonl"), "--limit", "8"]
    labelled = ["--engine", "none", "--pairs", str(made / "pool.jsonl")]
    subprocess.run([*explain, *explained, "--output_dir", str(tmp_path / "explained")], check=True)
    subprocess.run([*explain, *labelled, "--output_dir", str(tmp_path / "labelled")], check=True)
    datasets = {"ranked": "explained"} | dict.fromkeys(("pool", "wikiqa", "dl23", "trecqa"), "labelled")
    environment = os.environ | {
        "EXARANKER_DATASETS": ",".join(f"{name}={tmp_path / folder}" for name, folder in datasets.items()),
        "EXARANKER_VOCABULARY": "byt5",
        "EXARANKER_TEMPLATE": "decoder",
    }
    printed = subprocess.run(
        [sys.executable, "-c", "import mixtures, seqio; print(*seqio.MixtureRegistry.names())"],
        env=environment | {"PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    arms = yaml.safe_load((HERE / "arms.yaml").read_text()).values()
    assert {f"experiment_ranked_{arm['style']}" for arm in arms} <= set(printed)


def test_a_table_has_the_mean_over_seeds(tmp_path):
    (tmp_path / "qrels.txt").write_text("1 0 a 1\n2 0 b 1\n")
    ranks = {"first.trec": "ab", "arm.1.toy.trec": "ab", "arm.2.toy.trec": "ba"}
    for name, order in ranks.items():
        lines = [f"{query} Q0 {doc} {i + 1} {-i} x\n" for query in "12" for i, doc in enumerate(order)]
        (tmp_path / name).write_text("".join(lines))
    printed = run_script(
        "table.py", tmp_path, "toy", "--qrels", tmp_path / "qrels.txt", "--first", tmp_path / "first.trec",
        "--measures", "RR@10", "P@1",
    )  # fmt: skip
    arm = next(line.split() for line in printed.splitlines() if line.startswith("arm"))
    assert [float(cell) for cell in arm[1:3]] == [0.75, 0.5]
    assert "seeds: arm 2" in printed


def test_a_table_has_each_seed_and_a_plot(tmp_path):
    (tmp_path / "qrels.txt").write_text("1 0 a 1\n")
    for name, order in {"first.trec": "ab", "arm.1.toy.trec": "ab", "arm.2.toy.trec": "ba"}.items():
        (tmp_path / name).write_text("".join(f"1 Q0 {doc} {i + 1} {-i} x\n" for i, doc in enumerate(order)))
    files = ["--qrels", tmp_path / "qrels.txt", "--first", tmp_path / "first.trec", "--plot", tmp_path / "means.svg"]
    printed = run_script("table.py", tmp_path, "toy", *files, "--measures", "RR@10", "P@1")
    assert "arm: RR@10 1.0000, 0.5000; P@1 1.0000, 0.0000" in printed
    assert "first stage" in (tmp_path / "means.svg").read_text()


def test_curves_are_means_of_lines(tmp_path):
    """Two lines a point: of label losses 4, 2 and 1 the last point is 1.5."""
    folder = tmp_path / "arm.1"
    folder.mkdir()
    rows = [{"step": step, "split": "train", "label_loss": loss} for step, loss in ((10, 4.0), (20, 2.0), (30, 1.0))]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plot = tmp_path / "curves.svg"
    printed = run_script("curves.py", folder / "metrics.jsonl", "--output", plot, "--smooth", 2)
    assert printed == "arm.1: label_loss 1.500 at step 30\n"
    assert "arm.1" in plot.read_text()


def test_explanations_are_held_to_the_filters(tmp_path):
    """Of four one repeats itself, and one argues for the other label."""
    (tmp_path / "queries.tsv").write_text("1\twhere does the nile begin\n")
    (tmp_path / "passages.tsv").write_text("a\tThe Nile begins in Burundi.\nb\tRivers end in seas.\n")
    texts = (
        ("a", 1.0, "The passage names the place where the river starts."),
        ("a", 1.0, "The passage is not relevant to the question."),
        ("b", -1.0, "The passage does not answer the question."),
        ("b", -1.0, "it says it says it says it says it says it says it says"),
    )
    rows = [{"query_id": "1", "doc_id": doc, "score": score, "explanation": text} for doc, score, text in texts]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = ["--queries", tmp_path / "queries.tsv", "--passages", tmp_path / "passages.tsv"]
    printed = run_script("explanations.py", tmp_path / "rows.jsonl", *files)
    counts = {line[:31].strip(): line.split("]")[1].split() for line in printed.splitlines()[1:]}
    assert counts["labelled relevant"] == ["2", "of", "4"]
    assert counts["repetition"] == counts["contradiction"] == ["1", "of", "4"]
    assert counts["neither repetition nor contradiction"[:31].strip()] == ["2", "of", "4"]


@pytest.mark.slow
@pytest.mark.parametrize(("ranker", "millions"), [("base", 222.9), ("large", 737.7), ("3b", 2851.6)])
def test_a_cell_of_the_grid_is_a_script_whose_training_can_be_checked(ranker, millions, tmp_path):
    """With the sample's pairs and vocabulary, and without weights."""
    printed = run_script("grid.py", tmp_path, "--triples", "triples.tsv.gz", "--rankers", ranker)
    assert len(list(tmp_path.glob("*.sh"))) == 12
    assert f"| {ranker} | llama2_7b_chat | 15k | 7,032 | 0.1 | " in printed
    explain = [sys.executable, "-m", "exaranker.cli", "explain", "--quiet", "--engine", "none", "--limit", "8"]
    explain += ["--pairs", str(SAMPLE / "pairs.tsv"), "--output_dir", str(tmp_path / "sets/labels.15k")]
    subprocess.run(explain, check=True)
    cell = tmp_path / f"{ranker}.labels.15k.sh"
    text = cell.read_text().replace(f"initial/{ranker}/tokenizer", str(SAMPLE / "spiece.model"))
    cell.write_text(text.replace(f"\"'\"'initial/{ranker}'\"'\"", "None").replace("'None'", "None"))
    environment = os.environ | {"DRY_RUN": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run([cell], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    parameters = re.search(r"parameters +([\d,]+)", done.stdout)
    assert round(int(parameters[1].replace(",", "")) / 1e6, 1) == millions
    assert "TRAIN_STEPS = 7032" in done.stdout
    assert not (tmp_path / "models").exists()
