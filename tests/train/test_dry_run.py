"""`exaranker train --dry_run`: what it prints, and how near its memory estimate is to the compiler's own figure."""

import pytest

from exaranker.cli import main
from exaranker.files.shipped import shipped
from exaranker.models import ModelConfig
from exaranker.models.decoder import DecoderConfig
from exaranker.models.t5 import T5Config
from exaranker.train.config import DataConfig, TrainConfig
from exaranker.train.dry_run import memory_bytes
from exaranker.train.setup import abstract_batch, assemble, layout

SAMPLE = shipped("examples/sample")


def dry_run(model_dir, dataset, **macros):
    bindings = {
        "MODEL_DIR": str(model_dir),
        "DATASET_DIR": str(dataset),
        "MIXTURE_OR_TASK_NAME": "exaranker_sample_label",
        "TASK_FEATURE_LENGTHS": {"inputs": 128, "targets": 16},
        "TRAIN_STEPS": 10,
        "INITIAL_CHECKPOINT_PATH": None,
        "VOCABULARY_PATH": str(SAMPLE / "spiece.model"),
        "BATCH_SIZE": 8,
        "NUM_MICROBATCHES": 2,
    }
    words = [f"--gin.{name}={value!r}" for name, value in (bindings | macros).items()]
    main(["train", "--gin_file", "models/t5_1_1/tiny.gin", "--gin_file", "runs/finetune.gin", *words, "--dry_run"])


def test_prints_config_sizes_batch_and_memory_and_touches_nothing(tmp_path, dataset, capsys):
    dry_run(tmp_path / "model", dataset)
    printed = capsys.readouterr().out
    # v1.1: two 32,128 x 64 tables; per encoder layer 4 * 64^2 + 3 * 64 * 128 + 2 * 64, per decoder layer as much again
    # for attention and one more norm; two relative biases of 32 x 4; two final norms.
    count = 2 * 32128 * 64 + 2 * (4 * 64**2 + 3 * 64 * 128 + 2 * 64) + 2 * (8 * 64**2 + 3 * 64 * 128 + 3 * 64)
    count += 2 * 32 * 4 + 2 * 64
    lines = " ".join(printed.split())
    assert f"parameters {count:,} mesh data 1 x fsdp 1 x tensor 1 on 1 cpu device(s)" in lines
    assert "batch 8 rows (packed) of inputs 128, targets 16 2 microbatch(es) of 4 row(s) per device" in lines
    assert "memory/device about " in lines
    assert "BATCH_SIZE = 8" in printed
    assert "t5.T5Config.emb_dim = 64" in printed
    assert list(tmp_path.iterdir()) == []
    dry_run(tmp_path / "model", dataset, PACK=False, PAIRS_PER_ROW=2)
    lines = " ".join(capsys.readouterr().out.split())
    assert "batch 4 rows (2 pairs in each, 8 pairs) of inputs 256, targets 32 2 microbatch(es) of 2 row(s)" in lines


@pytest.mark.parametrize(
    ("macro", "value", "message"),
    [
        ("MIXTURE_OR_TASK_NAME", "exaranker_sample_lable", "did you mean exaranker_sample_label"),
        ("DATASET_DIR", "nowhere", "nowhere"),
        ("VOCABULARY_PATH", "nowhere.model", "nowhere.model"),
        ("INITIAL_CHECKPOINT_PATH", "nowhere", "nowhere: no such directory"),
        ("t5.T5Config.vocab_size", 128, "the tokenizer has 4000 pieces, the model 128 embeddings"),
    ],
)
def test_refuses_what_train_would_refuse(macro, value, message, tmp_path, dataset, capsys):
    with pytest.raises(SystemExit, match="2"):
        dry_run(tmp_path / "model", dataset, **{macro: value})
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


SIZES = {"vocab_size": 4096, "emb_dim": 256, "num_heads": 4, "head_dim": 64, "mlp_dim": 512, "dtype": "float32"}
LAYERS = {"num_encoder_layers": 3, "num_decoder_layers": 3}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "microbatches"),
    [
        (T5Config(**SIZES, **LAYERS), 1),
        (T5Config(**SIZES, **LAYERS, remat="minimal", scan_layers=True), 1),
        (T5Config(**SIZES, **LAYERS, remat="full", scan_layers=True), 1),
        (T5Config(**SIZES, **LAYERS, remat="full", scan_layers=True), 4),
        (DecoderConfig(**SIZES, num_layers=3, num_kv_heads=2, remat="full", scan_layers=True), 1),
    ],
    ids=["t5", "t5_minimal", "t5_full", "t5_full_in_parts", "decoder_full"],
)
def test_the_memory_estimate_is_within_a_factor_1_5_of_the_compiler_s_figure(model: ModelConfig, microbatches: int):
    data = DataConfig("unused", {"inputs": 512, "targets": 64}, batch_size=4)
    setup = assemble(TrainConfig("unused", model, data, 10, num_microbatches=microbatches))
    with layout(setup.mesh):
        compiled = setup.step.lower(setup.abstract, abstract_batch(setup.config, setup.mesh)).compile()
    found = compiled.memory_analysis()
    used = found.argument_size_in_bytes + found.temp_size_in_bytes + found.output_size_in_bytes
    used -= found.alias_size_in_bytes
    estimate = sum(memory_bytes(setup).values())
    assert used / 1.5 < estimate < used * 1.5
