"""The scripts and examples, run as their headers say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exaranker.cli import main
from exaranker.evaluate import trec_eval
from exaranker.texts.rows import read_texts
from exaranker.trec import read_qrels, read_run

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_collection_is_reranked_evaluated_and_reported(t5_checkpoint: Path, collection: Path) -> None:
    (collection / "qrels.txt").write_text("q1 0 p1 2\nq1 0 p5 1\nq2 0 p2 2\n")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    output = collection / "out"
    command = [ROOT / "scripts" / "run_collection.sh", collection, t5_checkpoint, output, "2"]
    subprocess.run(list(map(str, command)), env=environment, check=True)
    results = json.loads((output / "results.json").read_text())
    assert [run["name"] for run in results["runs"]] == ["bm25", "reranked"]
    assert "RR(rel=2)@10" in results["runs"][0]["means"]
    explained = map(json.loads, (output / "reranked.trec.explanations.jsonl").read_text().splitlines())
    assert sorted((row["query_id"], row["doc_id"]) for row in explained) == [("q1", "p1"), ("q1", "p5"), ("q2", "p2")]
    assert "<h2>Explanations</h2>" in (output / "report.html").read_text()
    assert {doc.query_id for doc in read_run(output / "bm25.trec")} == {"q1", "q2"}  # there was no run.bm25.txt


def test_pairs_become_a_collection(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("1\twhy\tbecause\n0\twhy\tno\n1\twhy\tbecause\n0\thow\tno\n")
    script = ROOT / "scripts" / "pairs_to_collection.py"
    subprocess.run([sys.executable, str(script), str(tmp_path / "pairs.tsv"), str(tmp_path / "out")], check=True)
    queries, passages = (read_texts(tmp_path / "out" / f"{name}.tsv") for name in ("queries", "passages"))
    found = [(queries[q], passages[d], grade) for q, d, grade in read_qrels(tmp_path / "out" / "qrels.txt")]
    assert found == [("why", "because", 1), ("why", "no", 0), ("how", "no", 0)]
    ranked = [(queries[doc.query_id], passages[doc.doc_id]) for doc in read_run(tmp_path / "out" / "run.in_order.txt")]
    assert ranked == [("why", "because"), ("why", "no"), ("how", "no")]


@pytest.mark.slow
def test_examples_rank_explain_and_stream(t5_checkpoint: Path, same_score: float) -> None:
    def example(name: str, given: str = "") -> list[str]:
        command = [sys.executable, str(ROOT / "examples" / name), str(t5_checkpoint)]
        return subprocess.check_output(command, input=given, text=True).splitlines()

    *ranking, blank, explained = example("rerank.py")
    assert [line[:2] for line in ranking] == ["1.", "2.", "3."]
    assert blank == ""
    assert explained.startswith(("true: ", "false: "))
    rows = [json.dumps({"query": "how do bees make honey", "passage": "Bees dance. " * n}) for n in (1, 9, 1)]
    first, second, third = map(float, example("score_stream.py", "\n".join(rows)))
    assert first == pytest.approx(third, abs=same_score)
    assert first != pytest.approx(second, abs=same_score)


@pytest.mark.skipif(trec_eval.unavailable() is not None, reason=str(trec_eval.unavailable()))
def test_trec_eval_reads_the_reranked_run_as_it_is(t5_checkpoint: Path, collection: Path) -> None:
    (collection / "qrels.txt").write_text("q1 0 p1 1\nq2 0 p2 1\n")
    files = [f"--{name}={collection / name}.tsv" for name in ("queries", "passages")]
    output = collection / "out.trec"
    main(["rerank", f"--checkpoint={t5_checkpoint}", *files, f"--run={collection / 'run.trec'}", f"--output={output}"])
    environment = {**os.environ, "JAVA_HOME": str(trec_eval.find_jdk()), "OPENAI_API_KEY": "unused"}
    environment["PATH"] = f"{trec_eval.find_jdk()}/bin{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "pyserini.eval.trec_eval", "-m", "num_ret", "-m", "num_rel_ret", "-m", "runid"]
    done = subprocess.run(
        [*command, str(collection / "qrels.txt"), str(output)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    values = {line.split()[0]: line.split()[2] for line in done.stdout.splitlines() if len(line.split()) == 3}
    assert values == {"runid": "exaranker-exaranker", "num_ret": "7", "num_rel_ret": "2"}
