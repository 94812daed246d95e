"""`--collection` from a folder that ir_datasets fetched earlier: BM25, reranking and evaluation without a network."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from exaranker.cli import main

STAGES = """
import sys
from exaranker.cli import main

collection = ["--collection", "nano-nq"]
main(["retrieve", *collection, "--output", "bm25.trec"])
main(["rerank", *collection, "--checkpoint", sys.argv[1], "--run", "bm25.trec", "--output", "reranked.trec"])
main(["evaluate", *collection, "--run", "bm25.trec", "reranked.trec", "--measures", "R@10"])
"""


@pytest.fixture
def nano_nq(tmp_path: Path) -> Path:
    """NanoBEIR's Natural Questions as ir_datasets keeps it, with two queries and three passages."""
    tables = {
        "corpus": {
            "_id": ["d1", "d2", "d3"],
            "text": ["Owls hunt mice at night.", "Bees make honey of nectar.", "Larks sing."],
        },
        "queries": {"_id": ["q1", "q2"], "text": ["when do owls hunt", "what do bees make"]},
        "qrels": {"query-id": ["q1", "q2"], "corpus-id": ["d1", "d2"]},
    }
    folder = tmp_path / "home/nano-beir/nq"
    folder.mkdir(parents=True)
    for name, columns in tables.items():
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"{name}.parquet")
    return tmp_path


def test_a_collection_is_reranked_as_its_files_are(nano_nq: Path, t5_checkpoint: Path) -> None:
    """In a process of its own: ir_datasets reads its home when it is imported."""
    environment = {**os.environ, "IR_DATASETS_HOME": str(nano_nq / "home"), "HTTPS_PROXY": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", STAGES, str(t5_checkpoint)]
    printed = subprocess.check_output(command, cwd=nano_nq, env=environment, text=True)
    table = [line.split() for line in printed.splitlines() if "answered" in line or "2/2" in line]
    assert table == [["run", "R@10", "answered"], ["bm25", "1.0000", "2/2"], ["reranked", "1.0000", "2/2"]]
    kept = nano_nq / "home/exaranker/nano-nq"
    assert (kept / "queries.tsv").read_text() == "q1\twhen do owls hunt\nq2\twhat do bees make\n"
    texts = [f"--queries={kept / 'queries.tsv'}", f"--passages={kept / 'passages.tsv'}"]
    run, again = f"--run={nano_nq / 'bm25.trec'}", nano_nq / "again.trec"
    main(["rerank", *texts, run, f"--checkpoint={t5_checkpoint}", f"--output={again}"])
    assert again.read_bytes() == (nano_nq / "reranked.trec").read_bytes()
