"""CTranslate2 behind a Reranker: the scores of JAX in fp32, their order in int8; what it cannot do is refused."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

from exaranker import models
from exaranker.checkpoints.convert import ctranslate2
from exaranker.cli import main
from exaranker.devices import processor
from exaranker.errors import InputError
from exaranker.models.decoder import DecoderConfig
from exaranker.models.qwen3 import Qwen3Config
from exaranker.models.t5 import T5Config
from exaranker.models.t5gemma import T5GemmaConfig
from exaranker.models.t5gemma2 import T5Gemma2Config
from exaranker.rank.ctranslate2_model import CTranslate2Model
from exaranker.rank.engines import fitting_engine
from exaranker.rank.reranker import Reranker

pytest.importorskip("ctranslate2")
pytest.importorskip("torch")

QUESTIONS = ["how do bees make honey", "where does the nile begin"]
PASSAGES = ["Worker bees turn nectar into honey.", "The Nile begins in Burundi. " * 6, "", "Bees dance. " * 20, "Salt."]
PAIRS = [(query, passage) for query in QUESTIONS for passage in PASSAGES]
TINY: dict[str, Any] = {"emb_dim": 32, "num_heads": 2, "head_dim": 16, "mlp_dim": 48, "dtype": "float32"}
T5: dict[str, Any] = {"vocab_size": 4096, "num_encoder_layers": 2, "num_decoder_layers": 2, **TINY}
DECODER: dict[str, Any] = {"vocab_size": 4096, "num_kv_heads": 1, "num_layers": 2, **TINY}
Save = Callable[[Path, models.ModelConfig], Path]
OTHERS: dict[str, models.ModelConfig] = {
    "t5_1_0": T5Config(**T5, mlp_activations=("relu",), logits_via_embedding=True, scale_logits=True),
    "flan_t5_small": T5Config(**{**T5, "head_dim": 24}, layer_norm_epsilon=1e-2),
    "umt5": T5Config(**T5, relative_bias_per_layer=True),
    "llama": DecoderConfig(**DECODER, logits_via_embedding=False),
    "qwen2": DecoderConfig(**DECODER, qkv_bias=True),
    "qwen3": Qwen3Config(**{**DECODER, "head_dim": 24}),
}


def load(checkpoint: Path, **options: Any) -> Reranker:
    return Reranker.from_checkpoint(checkpoint, max_length=128, token_budget=256, **options)


def test_fp32_scores_are_those_of_jax(checkpoint: Path, same_score: float) -> None:
    reranker = load(checkpoint, engine="ctranslate2")
    assert reranker.model.dtype == "float32"
    assert list(reranker.score(PAIRS)) == pytest.approx(list(load(checkpoint).score(PAIRS)), abs=same_score)
    assert list(reranker.score(PAIRS[:1])) == pytest.approx(list(load(checkpoint).score(PAIRS[:1])), abs=same_score)


@pytest.mark.parametrize("name", OTHERS)
def test_fp32_scores_of_other_architectures_too(name: str, save_as: Save, tmp_path: Path, same_score: float) -> None:
    checkpoint = save_as(tmp_path / name, OTHERS[name])
    found = list(load(checkpoint, engine="ctranslate2").score(PAIRS))
    assert found == pytest.approx(list(load(checkpoint).score(PAIRS)), abs=same_score)


def test_int8_ranks_as_fp32_does_and_is_the_same_each_time(t5_checkpoint: Path) -> None:
    reranker = load(t5_checkpoint, dtype="int8")
    exact, rounded = list(load(t5_checkpoint).score(PAIRS)), list(reranker.score(PAIRS))
    moved = max(abs(one - other) for one, other in zip(exact, rounded, strict=True))
    assert moved > 0
    assert moved < 0.1 or processor.overflows_in_int8()  # then by 0.4 of these weights, where exact sums move 0.04
    assert kendalltau(exact, rounded).statistic >= 0.8  # of 10 pairs whose scores nearly tie
    assert list(load(t5_checkpoint, dtype="int8").score(PAIRS)) == rounded


def test_the_weights_kept_in_int8_are_close_on_every_processor(t5_checkpoint: Path) -> None:
    """Multiplied in fp32: the sums of int8 overflow on some processors, whatever library adds them."""
    rounded = load(t5_checkpoint, dtype="int8")
    folder = ctranslate2.converted(rounded.model.path, rounded.model.card, "int8")
    engine = pytest.importorskip("ctranslate2").Translator(str(folder), compute_type="float32")
    rounded = replace(rounded, model=replace(rounded.model, engine=engine))
    moved = np.abs(np.subtract(list(load(t5_checkpoint).score(PAIRS)), list(rounded.score(PAIRS))))
    assert 0 < moved.max() < 0.1


@pytest.mark.parametrize("overflows", [False, True])
def test_a_processor_whose_int8_sums_overflow_is_said(
    overflows: bool, t5_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processor, "overflows_in_int8", lambda: overflows)
    load(t5_checkpoint, dtype="int8")
    assert ("this processor has no units for int8 (VNNI): some sums overflow" in capsys.readouterr().err) == overflows
    load(t5_checkpoint, engine="ctranslate2", dtype="float32")
    assert "VNNI" not in capsys.readouterr().err


def test_explanations_are_jaxs(checkpoint: Path) -> None:
    scores = [1.0] * len(PAIRS[:3])
    explained = load(checkpoint, engine="ctranslate2").explain(PAIRS[:3], scores, max_new_tokens=5)
    assert explained == load(checkpoint).explain(PAIRS[:3], scores, max_new_tokens=5)


def test_a_checkpoint_is_converted_once(t5_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXARANKER_CACHE", str(tmp_path))
    kept = []
    for _ in range(2):
        load(t5_checkpoint, dtype="int8")
        [folder] = [path for path in tmp_path.iterdir() if path.name.startswith("ctranslate2-")]
        kept.append((folder.name, (folder / "model/model.bin").stat().st_mtime_ns))
        assert [path.name for path in folder.iterdir()] == ["model"]  # and no export beside it
    assert kept[0] == kept[1]


@pytest.mark.parametrize("name", ["model.bin", "config.json", "sha256sums"])
@pytest.mark.parametrize("cut", [False, True])
def test_a_conversion_that_was_damaged_is_refused(
    name: str, cut: bool, t5_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXARANKER_CACHE", str(tmp_path))
    scores = list(load(t5_checkpoint, engine="ctranslate2").score(PAIRS))
    [folder] = [path for path in tmp_path.iterdir() if path.name.startswith("ctranslate2-")]
    file = folder / "model" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content[: len(content) // 2] if cut else content)
    with pytest.raises(InputError, match=f"{folder}: this conversion .* damaged .*rm -r {folder}"):
        load(t5_checkpoint, engine="ctranslate2")
    shutil.rmtree(folder)
    assert list(load(t5_checkpoint, engine="ctranslate2").score(PAIRS)) == scores


def test_the_command_line_ranks_in_int8(t5_checkpoint: Path, collection: Path) -> None:
    texts = ["--queries", str(collection / "queries.tsv"), "--passages", str(collection / "passages.tsv")]
    runs = ["--run", str(collection / "run.trec"), "--output", str(collection / "int8.trec")]
    main(["rerank", "--checkpoint", str(t5_checkpoint), *texts, *runs, "--dtype", "int8"])
    assert len((collection / "int8.trec").read_text().splitlines()) == 7


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (DecoderConfig(**DECODER), {"dtype": "int8"}, r"int8 loses .* a decoder-only .*\(give --dtype float32"),
        (T5Config(**T5), {"dtype": "int8", "engine": "jax"}, "JAX has no int8 .*give --engine ctranslate2"),
        (T5Config(**T5), {"dtype": "bfloat16", "engine": "ctranslate2"}, "in float32 or int8 here, not in bfloat16"),
        (T5Config(**T5), {"engine": "openvino"}, "no engine 'openvino'"),
        (T5GemmaConfig(**T5, num_kv_heads=1), {"dtype": "int8"}, r"no CTranslate2 for this model \(t5gemma\)"),
        (T5Gemma2Config(**T5, num_kv_heads=1), {"dtype": "int8"}, r"no CTranslate2 for this model \(t5gemma2\)"),
        (
            DecoderConfig(**{**DECODER, "head_dim": 24}),
            {"engine": "ctranslate2"},
            "emb_dim / num_heads .*here it is 24",
        ),
    ],
)
def test_what_it_cannot_do_is_refused(
    config: models.ModelConfig, options: dict[str, str], message: str, save_as: Save, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        load(save_as(tmp_path / "model", config), **options)


@pytest.mark.parametrize(
    ("has_units", "dtype", "engine"),
    [(False, None, "ctranslate2"), (True, None, "jax"), (False, "float32", "jax"), (True, "int8", "ctranslate2")],
)
def test_the_engine_is_chosen_by_what_the_processor_has(
    has_units: bool, dtype: str | None, engine: str, save_as: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "multiplies_bf16", lambda: has_units)
    checkpoint = save_as(tmp_path / "t5", T5Config(**{**T5, "dtype": "bfloat16"}))
    assert fitting_engine(checkpoint, dtype) == engine


def test_without_units_for_bf16_scores_are_those_of_float32(
    save_as: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_score: float
) -> None:
    monkeypatch.setattr(processor, "multiplies_bf16", lambda: False)
    checkpoint = save_as(tmp_path / "t5", T5Config(**{**T5, "dtype": "bfloat16"}))
    reranker = load(checkpoint)
    assert isinstance(reranker.model, CTranslate2Model)
    exact = list(load(checkpoint, engine="jax", dtype="float32").score(PAIRS))
    assert list(reranker.score(PAIRS)) == pytest.approx(exact, abs=same_score)


@pytest.mark.parametrize("name", ["float32", "t5gemma", "not installed"])
def test_what_ctranslate2_is_not_needed_or_there_for_stays_in_jax(
    name: str, save_as: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "multiplies_bf16", lambda: False)
    config: models.ModelConfig = T5Config(**{**T5, "dtype": "float32" if name == "float32" else "bfloat16"})
    if name == "t5gemma":
        config = T5GemmaConfig(**{**T5, "num_kv_heads": 1, "dtype": "bfloat16"})
    if name == "not installed":
        monkeypatch.setattr(ctranslate2, "find_spec", lambda name: None)
    assert fitting_engine(save_as(tmp_path / "model", config), None) == "jax"
