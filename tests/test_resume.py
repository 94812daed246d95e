"""Chunks of rows that are finished are read back, those whose rows are others are computed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

from exaranker.resume import Advance, Partial, chunked, file_stamps


def squares(folder: Path, key: str, rows: list[int], computed: list[int]) -> list[int]:
    """The rows' squares, two rows a chunk; notes which were computed."""

    def square(chunk: Sequence[int], advance: Advance) -> list[Any]:
        computed.extend(chunk)
        return [number * number for number in chunk]

    partial = Partial(folder / "out", key)
    return list(partial.map(square, chunked(rows, 2), identity=lambda row: row, desc="square", unit="number"))


def test_finished_chunks_are_read_back_unless_the_job_is_another(tmp_path: Path) -> None:
    computed: list[int] = []
    assert squares(tmp_path, "job 1", [1, 2, 3], computed) == [1, 4, 9]
    with (tmp_path / "out.partial").open("a") as stream:
        stream.write('["0b5f", [0.')  # half a line
    assert squares(tmp_path, "job 1", [1, 2, 3, 4], computed) == [1, 4, 9, 16]
    assert computed == [1, 2, 3, 3, 4]
    assert squares(tmp_path, "job 2", [1], computed) == [1]
    assert computed == [1, 2, 3, 3, 4, 1]


def test_a_row_that_changes_costs_its_own_chunk_only(tmp_path: Path) -> None:
    computed: list[int] = []
    squares(tmp_path, "job", [1, 2, 3, 4, 5, 6], computed)
    del computed[:]
    assert squares(tmp_path, "job", [1, 2, 7, 4, 5, 6], computed) == [1, 4, 49, 16, 25, 36]
    assert computed == [7, 4]


def test_finished_rows_are_shown_and_do_not_count_for_the_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    squares(tmp_path, "job", [1, 2, 3, 4], [])
    assert "square: 4number [" in capsys.readouterr().err
    squares(tmp_path, "job", [1, 2, 3, 4], [])
    assert "square: 4number [00:00, ?number/s]" in capsys.readouterr().err


def test_the_bar_moves_within_a_chunk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exaranker.resume.progress", lambda **options: tqdm(mininterval=0, **options))

    def two_halves(chunk: Sequence[int], advance: Advance) -> list[int]:
        for share in (0.5, 1.0):
            advance(share)
        return list(chunk)

    partial = Partial(tmp_path / "out", "job")
    list(partial.map(two_halves, [[1, 2], [3, 4]], identity=int, desc="s", unit="n", total=4))
    told = capsys.readouterr().err
    assert all(f" {done}/4 " in told for done in range(5))


def test_stamps_change_with_the_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    before = file_stamps(tmp_path.rglob("*"), tmp_path)
    assert [stamp[:2] for stamp in before] == [["a", 1]]
    (tmp_path / "a").write_text("12")
    assert file_stamps(tmp_path.rglob("*"), tmp_path) != before
