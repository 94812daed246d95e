from exaranker import cli
from exaranker.schema import read_shard, shard_paths


def run(*words):
    cli.main([str(word) for word in words])


def test_pairs_without_explanations(tmp_path, capsys):
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("".join(f"{i % 3}\tquery {i}\tpassage {i}\n" for i in range(9)), encoding="utf-8")
    words = ("explain", "--pairs", pairs, "--engine", "none", "--shard_size", 4, "--output_dir", tmp_path / "out")
    run(*words)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.tfrecord")}
    rows = [row for path in shard_paths(tmp_path / "out") for row in read_shard(path)]
    assert [(row.query, row.label, row.relevant) for row in rows[:3]] == [
        ("query 0", 0, 0),
        ("query 1", 1, 1),
        ("query 2", 2, 1),
    ]
    assert {(row.explanation, row.explainer) for row in rows} == {("", "")}
    assert len(rows) == 9
    assert len(before) == 3
    run(*words)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.tfrecord")}
    run("inspect", tmp_path / "out")
    assert "LLM         none: pairs without explanations" in capsys.readouterr().out
