"""Measures worked out by hand, missing queries, ties, tests of significance, and trec_eval's second opinion."""

import math
import os
from pathlib import Path

import ir_measures
import pytest

from exaranker.cli import main
from exaranker.commands.evaluate_ import _named
from exaranker.errors import InputError
from exaranker.evaluate import trec_eval
from exaranker.evaluate.measure_names import parse_measures
from exaranker.evaluate.measures import RunResult, evaluate_run, load_qrels

QRELS = "q1 0 d1 3\nq1 0 d2 1\nq1 0 d3 0\nq2 0 d1 1\nq3 0 d9 2\n"
RUN = (
    "q1 Q0 d3 1 3.0 t\nq1 Q0 d1 2 2.0 t\nq1 Q0 d2 3 1.0 t\n"
    "q2 Q0 d5 1 2.0 t\nq2 Q0 d1 2 1.0 t\n"  # q3 is not answered
    "q4 Q0 d1 1 1.0 t\n"  # q4 is not judged
)
NAMES = ["nDCG@10", "RR@10", "MAP", "R@2", "P@5"]
LOG3 = math.log2(3)

needs_java = pytest.mark.skipif(trec_eval.unavailable() is not None, reason=str(trec_eval.unavailable()))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "qrels.txt").write_text(QRELS)
    (tmp_path / "run.trec").write_text(RUN)
    return tmp_path


def evaluated(folder: Path, min_relevance: int = 1) -> RunResult:
    measures = parse_measures(NAMES, min_relevance)
    return evaluate_run(load_qrels(folder / "qrels.txt"), folder / "run.trec", "run", measures)


def test_values_by_hand(files: Path) -> None:
    result = evaluated(files)
    ndcg = {"q1": (3 / LOG3 + 1 / 2) / (3 + 1 / LOG3), "q2": 1 / LOG3, "q3": 0.0}
    assert result.per_query["nDCG@10"] == pytest.approx(ndcg)
    assert result.per_query["RR@10"] == {"q1": 0.5, "q2": 0.5, "q3": 0.0}
    assert result.per_query["AP"] == pytest.approx({"q1": (1 / 2 + 2 / 3) / 2, "q2": 0.5, "q3": 0.0})
    assert result.means == pytest.approx(
        {"nDCG@10": 0.429977, "RR@10": 1 / 3, "AP": 0.361111, "R@2": 0.5, "P@5": 0.2}, abs=5e-7
    )


def test_missing_queries_count_and_unjudged_ones_do_not(files: Path) -> None:
    result = evaluated(files)
    assert (result.missing, result.unjudged) == (["q3"], ["q4"])
    assert list(result.per_query["RR@10"]) == ["q1", "q2", "q3"]


def test_queries_are_measured_in_groups_and_none_is_lost(tmp_path: Path) -> None:
    """251 queries, in three groups; the relevant passage of query n is at rank n % 5 + 1."""
    (tmp_path / "qrels.txt").write_text("".join(f"q{n} 0 d{n % 5} 1\n" for n in range(251)))
    (tmp_path / "run.trec").write_text("".join(f"q{n} Q0 d{d} 0 {9 - d} t\n" for d in range(5) for n in range(251)))
    measures = parse_measures(["RR", "P@1"], 1)
    result = evaluate_run(load_qrels(tmp_path / "qrels.txt"), tmp_path / "run.trec", "run", measures)
    assert result.per_query["RR"] == {f"q{n}": pytest.approx(1 / (n % 5 + 1)) for n in range(251)}
    assert result.means["P@1"] == pytest.approx(51 / 251)


def test_min_relevance_moves_binary_measures_only(files: Path) -> None:
    result = evaluated(files, min_relevance=2)
    assert result.means["RR(rel=2)@10"] == pytest.approx(1 / 6)
    assert result.means["nDCG@10"] == pytest.approx(0.429977, abs=5e-7)


@pytest.mark.parametrize("scores", [("1.0", "1.0"), ("1.0", "1.00000001")])
def test_ties_in_single_precision_go_by_doc_id_descending(tmp_path: Path, scores: tuple[str, str]) -> None:
    (tmp_path / "qrels.txt").write_text("q1 0 a 1\n")
    (tmp_path / "run.trec").write_text(f"q1 Q0 b 1 {scores[0]} t\nq1 Q0 a 2 {scores[1]} t\n")
    measures = parse_measures(["RR", "RR@10", "nDCG@10"], 1)
    result = evaluate_run(load_qrels(tmp_path / "qrels.txt"), tmp_path / "run.trec", "run", measures)
    assert result.means == pytest.approx({"RR": 0.5, "RR@10": 0.5, "nDCG@10": 1 / LOG3})
    if trec_eval.unavailable() is None:
        trec_eval.check(load_qrels(tmp_path / "qrels.txt"), [result], measures, 1)


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("nDCG@10", trec_eval.Query("ndcg_cut.10", 2, None)),
        ("AP(rel=3)@100", trec_eval.Query("map_cut.100", 3, None)),
        ("RR@10", trec_eval.Query("recip_rank", 2, 10)),
        ("MAP", trec_eval.Query("map", 2, None)),
        ("ERR@10", None),
        ("nDCG(dcg='exp-log2')@10", None),
    ],
)
def test_names_in_trec_eval(name: str, query: trec_eval.Query | None) -> None:
    assert trec_eval.as_query(ir_measures.parse_measure(name), min_relevance=2) == query


@needs_java
def test_trec_eval_agrees(files: Path) -> None:
    means = trec_eval.check(
        load_qrels(files / "qrels.txt"), [evaluated(files)], parse_measures(NAMES, 1), min_relevance=1
    )
    assert means == [{"nDCG@10": 0.43, "RR@10": 0.3333, "AP": 0.3611, "R@2": 0.5, "P@5": 0.2}]


@needs_java
def test_a_figure_that_differs_is_an_error(files: Path) -> None:
    result = evaluated(files)
    result.per_query["AP"]["q2"] = 0.5002
    with pytest.raises(trec_eval.DisagreementError, match=r"AP of 'q2' is 0\.500200 by ir-measures, 0\.5000 by trec_e"):
        trec_eval.check(load_qrels(files / "qrels.txt"), [result], parse_measures(["AP"], 1), 1)


@needs_java
def test_negative_grades_gain_nothing_and_their_queries_count(tmp_path: Path) -> None:
    (tmp_path / "qrels.txt").write_text("q1 0 d1 2\nq1 0 d2 -1\nq2 0 d1 -1\nq2 0 d2 0\n")
    (tmp_path / "run.trec").write_text("q1 Q0 d2 1 2 t\nq1 Q0 d1 2 1 t\nq2 Q0 d1 1 1 t\n")
    qrels, measures = load_qrels(tmp_path / "qrels.txt"), parse_measures(["nDCG@10", "RR@10", "AP"], 1)
    result = evaluate_run(qrels, tmp_path / "run.trec", "run", measures)
    assert result.per_query["nDCG@10"] == pytest.approx({"q1": 1 / LOG3, "q2": 0.0})
    assert trec_eval.check(qrels, [result], measures, 1) == [{"nDCG@10": 0.3155, "RR@10": 0.25, "AP": 0.25}]


@needs_java
def test_several_cutoffs_of_one_measure_are_asked_of_trec_eval_at_once(files: Path) -> None:
    measures = parse_measures(["R@5", "R@1", "nDCG", "nDCG@1", "nDCG@5", "RR@1", "RR@5", "AP@1", "AP@5"], 1)
    qrels = load_qrels(files / "qrels.txt")
    result = evaluate_run(qrels, files / "run.trec", "run", measures)
    [theirs] = trec_eval.check(qrels, [result], measures, 1)
    assert theirs == pytest.approx(result.means, abs=0.5e-4)
    assert theirs["R@1"] < theirs["R@5"]


@needs_java
def test_ids_of_any_script_reach_trec_eval(tmp_path: Path) -> None:
    (tmp_path / "qrels.txt").write_text("frage-ä 0 文書一 1\n", encoding="utf-8")
    (tmp_path / "run.trec").write_text("frage-ä Q0 文書二 1 2 t\nfrage-ä Q0 文書一 2 1 t\n", encoding="utf-8")
    qrels, measures = load_qrels(tmp_path / "qrels.txt"), parse_measures(["RR"], 1)
    result = evaluate_run(qrels, tmp_path / "run.trec", "run", measures)
    assert trec_eval.check(qrels, [result], measures, 1) == [{"RR": 0.5}]


@needs_java
def test_a_query_may_be_called_all_as_trec_eval_calls_its_means(tmp_path: Path) -> None:
    (tmp_path / "qrels.txt").write_text("all 0 d1 1\nq2 0 d1 1\n")
    (tmp_path / "run.trec").write_text("all Q0 d2 1 2 t\nall Q0 d1 2 1 t\nq2 Q0 d1 1 1 t\n")
    qrels, measures = load_qrels(tmp_path / "qrels.txt"), parse_measures(["RR", "NumQ"], 1)
    result = evaluate_run(qrels, tmp_path / "run.trec", "run", measures)
    assert result.per_query["RR"] == {"all": 0.5, "q2": 1.0}
    assert trec_eval.check(qrels, [result], measures, 1) == [{"RR": 0.75, "NumQ": 2.0}]
    result.per_query["RR"]["all"] = 0.75
    with pytest.raises(
        trec_eval.DisagreementError, match=r"RR of 'all' is 0\.750000 by ir-measures, 0\.5000 by trec_e"
    ):
        trec_eval.check(qrels, [result], measures, 1)


def test_a_jdk_is_found_by_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch()
    (tmp_path / "release").write_text('IMPLEMENTOR="x"\nJAVA_VERSION="101.0.1"\n')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert trec_eval.find_jdk() == tmp_path
    assert trec_eval.find_jdk(min_version=102) is None


def test_err_of_queries_of_any_name(tmp_path: Path) -> None:
    (tmp_path / "qrels.txt").write_text("frage-ä 0 d1 1\nfrage-ä 0 d4 4\n7 0 d3 2\n7 0 d9 -1\n", encoding="utf-8")
    run = "7 Q0 d9 1 3 t\n7 Q0 d3 2 2 t\nfrage-ä Q0 d1 1 2 t\nfrage-ä Q0 d4 2 1 t\n"
    (tmp_path / "run.trec").write_text(run, encoding="utf-8")
    measures = parse_measures(["ERR@10"], 1)
    result = evaluate_run(load_qrels(tmp_path / "qrels.txt"), tmp_path / "run.trec", "run", measures)
    # A passage of grade g satisfies with (2**g - 1) / 16, and the reader stops there: Chapelle et al., CIKM 2009.
    expected = {"frage-ä": 1 / 16 + 15 / 16 * (15 / 16) / 2, "7": 3 / 16 / 2}
    assert result.per_query["ERR@10"] == pytest.approx(expected, abs=5e-6)  # gdeval.pl prints five decimals


@pytest.mark.parametrize("name", ["ERR@10", "nDCG(dcg='exp-log2')@10"])
def test_a_grade_above_what_a_measure_takes_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "qrels.txt").write_text("q1 0 d1 5\n")
    (tmp_path / "run.trec").write_text("q1 Q0 d1 1 1 t\n")
    message = r"takes grades of 4 at most: the qrels have 5 for doc 'd1' of query 'q1'"
    with pytest.raises(InputError, match=message):
        evaluate_run(load_qrels(tmp_path / "qrels.txt"), tmp_path / "run.trec", "run", parse_measures([name], 1))


def test_a_provider_that_fails_is_named(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "perl").write_text("#!/bin/sh\nexit 25\n")
    (tmp_path / "perl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(InputError, match=r"ir-measures cannot compute ERR@10 on these files: .*perl.* exit status 25"):
        evaluate_run(load_qrels(files / "qrels.txt"), files / "run.trec", "run", parse_measures(["ERR@10"], 1))


def test_names_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lr=3.trec").touch()
    assert _named(["bm25=a/run.trec", "b/out.trec"]) == [("bm25", "a/run.trec"), ("out", "b/out.trec")]
    assert _named(["out/lr=0.1/run.trec", "lr=3.trec"]) == [("run", "out/lr=0.1/run.trec"), ("lr=3", "lr=3.trec")]
    assert _named(["a/run.trec", "b/run.trec"]) == [("a/run.trec",) * 2, ("b/run.trec",) * 2]
    with pytest.raises(InputError, match="--run lists a run twice: a=x a=x"):
        _named(["a=x", "a=x"])
    mixed = [("bm25", "a/run.trec"), ("b/run.trec",) * 2, ("c/run.trec",) * 2]
    assert _named(["bm25=a/run.trec", "b/run.trec", "c/run.trec"]) == mixed
    with pytest.raises(InputError, match="--run has one name for two runs: a=x a=y"):
        _named(["a=x", "a=y"])
    with pytest.raises(InputError, match="--run '=x' has an empty name"):
        _named(["=x"])


def test_names_of_runs_are_text_in_plots(files: Path) -> None:
    words = ["evaluate", "--qrels", str(files / "qrels.txt"), "--run", rf"$\frac$={files / 'run.trec'}"]
    main([*words, "--measures", "RR", "--plot", str(files / "means.svg")])
    assert r"$\frac$" in (files / "means.svg").read_text()


@pytest.mark.parametrize(
    ("run", "flags", "message"),
    [
        ("q8 Q0 d1 1 1.0 t\n", [], "run.trec: none of its 1 queries is judged: the run has 'q8', the qrels 'q1'"),
        ("q1 Q0 d1 1 1.0\n", [], "run.trec:1: expected 6 columns (query Q0 doc rank score tag), got 5"),
        ("q1 Q0 d1 1 high t\n", [], "run.trec:1: score 'high' is not a number"),
        ("q1 Q0 d1 1 nan t\n", [], "run.trec:1: score 'nan' is not a finite number"),
        ("q1 Q0 d1 1 2 t\nq1 Q0 d1 2 1 t\n", [], "run.trec:2: doc 'd1' comes twice for query 'q1'"),
        (RUN, ["--measures", "nDGC@10"], "no measure 'nDGC@10' (did you mean nDCG@10"),
        (RUN, ["--plot", "means.txt"], "--plot means.txt: expected a name that ends in .png, .svg, .pdf"),
        (RUN, ["--output", "."], ".: is a folder, expected a file to write"),
        ("", [], "run.trec: the file is empty"),
    ],
)
def test_bad_input(files: Path, capsys: pytest.CaptureFixture[str], run: str, flags: list[str], message: str) -> None:
    (files / "run.trec").write_text(run)
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "--qrels", str(files / "qrels.txt"), "--run", str(files / "run.trec"), *flags])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("qrels", "message"),
    [
        ("q1 0 d1\n", "qrels.txt:1: expected 4 columns (query 0 doc relevance), got 3"),
        ("q1 0 d1 yes\n", "qrels.txt:1: relevance 'yes' is not an integer"),
        ("q1 0 d1 1\nq1 0 d1 2\n", "qrels.txt:2: doc 'd1' is judged twice for query 'q1'"),
    ],
)
def test_bad_qrels(files: Path, capsys: pytest.CaptureFixture[str], qrels: str, message: str) -> None:
    (files / "qrels.txt").write_text(qrels)
    with pytest.raises(SystemExit):
        main(["evaluate", "--qrels", str(files / "qrels.txt"), "--run", str(files / "run.trec")])
    assert message in capsys.readouterr().err


def test_beir_qrels(tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\n")
    assert load_qrels(tmp_path / "test.tsv") == [("q1", "d1", 2)]
