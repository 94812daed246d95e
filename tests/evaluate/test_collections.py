"""Collections by name: their ids exist, their files are fetched once, and what cannot be fetched is said."""

from pathlib import Path

import ir_datasets
import pytest

from exaranker.cli import main
from exaranker.evaluate.collections import collection, collections
from exaranker.evaluate.measure_names import parse_measures


def test_ids_are_in_ir_datasets_and_measures_can_be_had() -> None:
    for of in collections().values():
        assert of.ir_datasets is None or of.ir_datasets in ir_datasets.registry._registered, of.name
        assert parse_measures([of.measure, *(row["measure"] for row in of.published)], of.min_relevance)
        assert all(row["source"] and 0 < row["value"] < 1 for row in of.published), of.name


def test_keys_are_pyserinis() -> None:
    """Read as text: importing pyserini starts Java."""
    import importlib.util

    spec = importlib.util.find_spec("pyserini")
    if spec is None or spec.origin is None:
        pytest.skip("pyserini is not installed")
    folder = Path(spec.origin).parent
    indexes = (folder / "prebuilt_index_info.py").read_text()
    topics = (folder / "search" / "_base.py").read_text()
    for of in collections().values():
        for key, text in ((of.pyserini or {}).get("index"), indexes), ((of.pyserini or {}).get("topics"), topics):
            assert key is None or f"'{key}'" in text or f'"{key}"' in text, (of.name, key)


def test_deep_learning_tracks_count_from_grade_2() -> None:
    assert [collection(f"dl{year}").min_relevance for year in range(19, 24)] == [2, 2, 2, 2, 2]
    assert collection("beir-arguana").ignore_identical_ids
    assert {row["system"]: row["value"] for row in collection("dl19").published} == {
        "BM25": 0.5058,
        "monoT5-base": 0.7148,
        "monoT5-3B": 0.7183,
    }


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which the queries, passages and qrels of one collection are; nothing can be downloaded."""
    monkeypatch.setattr(ir_datasets.util, "home_path", lambda: tmp_path)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("IR_DATASETS_DL_TRIES", "1")
    folder = tmp_path / "exaranker" / "dl19"
    folder.mkdir(parents=True)
    (folder / "queries.tsv").write_text("q1\towls at night\n")
    (folder / "passages.tsv").write_text("p1\tOwls hunt at night.\np2\tLarks sing.\n")
    (folder / "qrels.txt").write_text("q1 0 p1 2\nq1 0 p2 1\n")
    return tmp_path


def test_retrieve_and_evaluate_by_name(fetched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(fetched / "run.trec")
    main(["retrieve", "--collection", "dl19", "--output", run])
    main(["evaluate", "--collection", "dl19", "--run", run, "--measures", "nDCG@10", "P@1"])
    assert (fetched / "run.trec").read_text().split()[5] == "bm25-k1=0.9-b=0.4"
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[1:3]] == ["nDCG@10", "0.7602"]
    main(["evaluate", "--collection", "dl19", "--run", run])
    assert capsys.readouterr().out.splitlines()[0].split() == ["run", "nDCG@10", "answered"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--collection", "dl91"], "no collection 'dl91' (did you mean dl21 or dl19?)"),
        (["--collection", "beir-bioasq"], "collection 'beir-bioasq' cannot be downloaded (its owners license it: give"),
        ([], "--qrels is missing (give --qrels, or --collection NAME)"),
    ],
)
def test_what_cannot_be_had(fetched: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", *words, "--run", str(fetched / "run.trec")])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_without_a_network(fetched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["retrieve", "--collection", "beir-scifact", "--output", str(fetched / "run.trec")])
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "queries.tsv of collection 'beir-scifact' (beir/scifact/test): " in told
    assert "it is downloaded once, which needs a network; or give --queries" in told
    assert not (fetched / "exaranker" / "beir-scifact" / "queries.tsv").exists()
