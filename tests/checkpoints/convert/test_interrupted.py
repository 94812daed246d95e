"""`import` and `export` that were killed or ran out of space: the same command then does what it would have done."""

import errno
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from exaranker.checkpoints.convert.tensors import to_tensors
from exaranker.checkpoints.convert.transfer import export_checkpoint, import_checkpoint
from exaranker.checkpoints.store import load_for_inference
from exaranker.errors import InputError
from exaranker.files.shipped import shipped

SPIECE = str(shipped("examples/sample") / "spiece.model")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    from transformers import AutoModelForSeq2SeqLM, T5Config

    directory = tmp_path_factory.mktemp("theirs")
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_heads": 2, "num_layers": 1, "decoder_start_token_id": 0}
    AutoModelForSeq2SeqLM.from_config(T5Config(vocab_size=4096, **shape)).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def ours(theirs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("ours") / "model"
    import_checkpoint(theirs, "hf", output, SPIECE)
    return output


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def sampled(kills: list[Path], most: int) -> list[Path]:
    """The first and last states, and some between."""
    return kills if len(kills) <= most else [kills[round(i * (len(kills) - 1) / (most - 1))] for i in range(most)]


@pytest.mark.parametrize("form", ["hf", "t5x"])
def test_export_killed_anywhere_and_run_again_gives_the_same_bytes(ours, tmp_path, left_by_kills, form):
    kills = left_by_kills(lambda whole: export_checkpoint(ours, form, whole / "output"))
    expected = contents(tmp_path / "whole/output")
    assert len(kills) > 2
    for left in sampled(kills, 8):
        if not (left / "output").exists():  # else it was killed after its work
            export_checkpoint(ours, form, left / "output")
            assert [path.name for path in left.iterdir()] == ["output"]
        assert contents(left / "output") == expected


def test_import_killed_anywhere_and_run_again_gives_the_same_model(theirs, ours, left_by_kills):
    kills = left_by_kills(lambda whole: import_checkpoint(theirs, "hf", whole / "output", SPIECE))
    card, params, _ = load_for_inference(ours)
    expected = to_tensors(params)
    assert len(kills) > 5
    for left in sampled(kills, 8):
        if not (left / "output").exists():
            import_checkpoint(theirs, "hf", left / "output", SPIECE)
            assert [path.name for path in left.iterdir()] == ["output"]
        again = load_for_inference(left / "output")
        assert again.card == card
        found = to_tensors(again.params)
        assert [name for name in expected if not np.array_equal(found[name], expected[name])] == []


@pytest.mark.parametrize("verb", ["import", "export"])
def test_a_full_disk_leaves_nothing_that_the_same_command_refuses(theirs, ours, tmp_path, monkeypatch, verb):
    def work():
        if verb == "import":
            return import_checkpoint(theirs, "hf", tmp_path / "output", SPIECE)
        return export_checkpoint(ours, "hf", tmp_path / "output")

    calls = itertools.count()

    def full(handle: int) -> None:
        if next(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match=r"[Nn]o space left"):
            work()
    assert list(tmp_path.iterdir()) == []
    assert work().exists()


def test_a_model_dir_that_is_there_is_not_replaced(theirs, ours):
    with pytest.raises(InputError, match="already exists and is not empty"):
        import_checkpoint(theirs, "hf", ours, SPIECE)
