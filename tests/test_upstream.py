"""The experiments on upstream T5X: what can be checked of the adapters without it and, where it is importable, runs."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from exaranker.cli import main
from exaranker.files.shipped import shipped
from exaranker.losses.token import SPECIAL_FACTORS, LossConfig, loss_weights, token_losses
from exaranker.train.optimizers import Adafactor

HAS_T5X = importlib.util.find_spec("t5x") is not None
if HAS_T5X:  # here, for gin takes no more configurables once a test has parsed a file
    from t5x import adafactor as t5x_adafactor
    from t5x import losses as t5x_losses

CONFIGS = shipped("t5x_configs")
UPSTREAM = CONFIGS / "upstream"
SAMPLE = shipped("examples/sample")

# What T5X's run files and model files declare (google-research/t5x at cc342d4, April 2026).
T5X_MACROS = set(
    "MODEL_DIR MIXTURE_OR_TASK_NAME TASK_FEATURE_LENGTHS MIXTURE_OR_TASK_MODULE TRAIN_STEPS TRAIN_STEPS_RELATIVE "
    "INITIAL_CHECKPOINT_PATH DROPOUT_RATE USE_CACHED_TASKS BATCH_SIZE EVAL_STEPS EVAL_PERIOD USE_HARDWARE_RNG "
    "RANDOM_SEED EVALUATOR_USE_MEMORY_CACHE EVALUATOR_NUM_EXAMPLES JSON_WRITE_N_RESULTS MODEL OPTIMIZER VOCABULARY "
    "Z_LOSS LABEL_SMOOTHING LOSS_NORMALIZING_FACTOR".split()
)
# Upstream, the task itself knows its template: by its style, or by $EXARANKER_TEMPLATE.
NOT_NEEDED_UPSTREAM = {"TEMPLATE"}

STATEMENT = re.compile(r'include "(?P<include>[^"]+)"|(?P<macro>[A-Z][A-Z0-9_]*) = .+')


def experiments() -> list[Path]:
    """Those for encoder-decoders: T5X's examples have no Llama-like decoder."""
    return [path for path in sorted(CONFIGS.glob("*.gin")) if not _is_decoder_only(path)]


def _is_decoder_only(path: Path) -> bool:
    models = [name for name in included(path) if name.startswith("models/")]
    return any("models/decoder/common.gin" in included(shipped("gin") / name) for name in models)


def included(path: Path) -> list[str]:
    """What a file includes, and what the recipes among those include, which it shares with upstream."""
    names = re.findall(r'^include "([^"]+)"', path.read_text(), flags=re.MULTILINE)
    shared = [name for name in names if name.startswith("t5x_configs/")]
    return [name for name in names if name not in shared] + [
        more for name in shared for more in included(CONFIGS.parent / name)
    ]


def task_of(path: Path) -> str:
    """The task that a file, or the recipe it includes, names."""
    recipes = [CONFIGS.parent / name for name in re.findall(r'"(t5x_configs/.+)"', path.read_text())]
    texts = "".join(file.read_text() for file in (path, *recipes))
    return re.search(r'^MIXTURE_OR_TASK_NAME = "(.+)"', texts, re.MULTILINE)[1]


def statements(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def test_there_is_an_experiment_for_each_recipe_and_size():
    named = {path.stem for path in experiments()}
    assert named >= {f"{recipe}_{size}" for recipe in ("exaranker", "monot5") for size in ("base", "large", "3b")}


@pytest.mark.parametrize("path", experiments(), ids=lambda path: path.stem)
def test_an_experiment_holds_macros_and_includes_only(path):
    assert [line for line in statements(path) if not STATEMENT.fullmatch(line)] == []


@pytest.mark.parametrize("path", experiments(), ids=lambda path: path.stem)
def test_what_an_experiment_includes_is_there_for_upstream_too(path):
    assert [name for name in included(path) if not (UPSTREAM / name).is_file()] == []


@pytest.mark.parametrize("path", experiments(), ids=lambda path: path.stem)
def test_every_macro_of_an_experiment_means_something_upstream(path):
    read = set(re.findall(r"%([A-Z][A-Z0-9_]*)", "".join(file.read_text() for file in UPSTREAM.rglob("*.gin"))))
    macros = {match["macro"] for line in statements(path) if (match := STATEMENT.fullmatch(line)) and match["macro"]}
    assert macros - T5X_MACROS - NOT_NEEDED_UPSTREAM <= read


@pytest.mark.parametrize("path", sorted(UPSTREAM.rglob("*.gin")), ids=lambda path: path.stem)
def test_an_adapter_includes_ours_or_t5x_s(path):
    """... and declares every macro that it reads, unless one of the files it is included with does."""
    ours = [name for name in included(path) if not name.startswith("t5x/")]
    assert [name for name in ours if not (UPSTREAM / name).is_file()] == []
    text = path.read_text()
    declared = set(re.findall(r"^([A-Z][A-Z0-9_]*) = ", text, flags=re.MULTILINE)) | T5X_MACROS
    assert set(re.findall(r"%([A-Z][A-Z0-9_]*)", text)) <= declared


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in UPSTREAM.rglob("*.gin")}), ids=lambda path: path.name
)
def test_the_adapters_are_packages(folder):
    """gin's reader asks for the package of a file that it does not find on disk."""
    assert (folder / "__init__.py").is_file()


needs_t5x = pytest.mark.skipif(
    not HAS_T5X,
    reason="T5X is in no registry: PYTHONPATH=/path/to/t5x pytest tests/test_upstream.py (docs/upstream_t5x.md)",
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("upstream") / "pairs"
    main(["explain", f"--pairs={SAMPLE / 'pairs.tsv'}", f"--output_dir={folder}", "--limit=96", "--engine=none"])
    return folder


def t5x(dataset: Path, *words: str) -> str:
    """Runs Python with the tasks that T5X finds through the environment."""
    names = ",".join(f"{name}={dataset}" for name in ("sample", "msmarco"))
    environment = {**os.environ, "EXARANKER_DATASETS": names, "EXARANKER_VOCABULARY": str(SAMPLE / "spiece.model")}
    command = [sys.executable, "-W", "ignore", *words]
    return subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True).stdout


# In one process, for T5X takes seconds to import; as in its train.py, __main__ has the function `train`.
RESOLVE = """
import sys, gin
from t5x import gin_utils
from t5x.train import train
gin.configurable(train)
root, upstream, *experiments = sys.argv[1:]
given = ["MODEL_DIR='m'", "INITIAL_CHECKPOINT_PATH='i'"]
for experiment in experiments:
    gin.clear_config()
    gin_utils.parse_gin_flags([upstream, root], [experiment], given)
    print(gin.query_parameter("%MIXTURE_OR_TASK_NAME"))
"""


@needs_t5x
@pytest.mark.slow
def test_every_experiment_parses_on_upstream(dataset):
    root = Path(importlib.util.find_spec("t5x").origin).parents[1]
    named = t5x(dataset, "-c", RESOLVE, str(root), str(UPSTREAM), *map(str, experiments())).split()
    assert named == [task_of(path) for path in experiments()]


@needs_t5x
@pytest.mark.slow
def test_every_adapter_includes_files_that_t5x_has():
    root = Path(importlib.util.find_spec("t5x").origin).parents[1]
    names = [name for path in UPSTREAM.rglob("*.gin") for name in included(path) if name.startswith("t5x/")]
    assert len(names) > 20
    assert [name for name in names if not (root / name).is_file()] == []


@needs_t5x
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "unpacked"])
@pytest.mark.parametrize("factor", [None, 233472, *SPECIAL_FACTORS])
def test_our_loss_and_its_gradient_are_t5x_s(rounding, factor, packed):
    random = np.random.default_rng(0)
    logits = jnp.asarray(random.normal(size=(4, 8, 32)), jnp.float32)
    batch = {
        "decoder_target_tokens": jnp.asarray(random.integers(1, 32, (4, 8))),
        "decoder_loss_weights": jnp.asarray(np.arange(8) < [[8], [5], [3], [6]], jnp.float32),
        "decoder_label_weights": jnp.asarray(np.arange(8) == 0, jnp.float32) * jnp.ones((4, 1)),
    }
    if packed:
        batch["decoder_segment_ids"] = jnp.asarray(1 + (np.arange(8) > 2)) * batch["decoder_loss_weights"].astype(int)
        positions = jnp.asarray(np.arange(8) - 3 * (np.arange(8) > 2))
        batch["decoder_positions"] = positions * batch["decoder_loss_weights"].astype(int)

    def ours(logits):
        config = LossConfig(z_loss=1e-2, label_smoothing=0.1, loss_normalizing_factor=factor)
        of_tokens = token_losses(logits, batch["decoder_target_tokens"], config)
        return jnp.sum(sum(of_tokens) * loss_weights(batch, config))

    def theirs(logits):
        divisor, weights = t5x_losses.get_loss_normalizing_factor_and_weights(factor, batch)
        targets = batch["decoder_target_tokens"]
        return t5x_losses.compute_weighted_cross_entropy(logits, targets, weights, 0.1, 1e-2, divisor)[0]

    (one, gradient), (other, expected) = (jax.value_and_grad(loss)(logits) for loss in (ours, theirs))
    rounding.assert_equal_but_for_rounding(one, other, terms=32)  # pieces, and targets
    rounding.assert_equal_but_for_rounding(gradient, expected, terms=32)


@needs_t5x
@pytest.mark.parametrize("clip", [None, 1.0])
def test_our_adafactor_is_t5x_s(rounding, clip):
    axes = {
        "token_embedder": {"embedding": ("vocab", "embed")},
        "wi": {"kernel": ("embed", "mlp")},
        "out": {"kernel": ("joined_kv", "embed")},
        "relpos_bias": {"rel_embedding": ("heads", "relpos_buckets")},
        "norm": {"scale": ("embed",)},
    }
    sizes = {"vocab": 300, "embed": 130, "mlp": 160, "joined_kv": 140, "heads": 4, "relpos_buckets": 32}
    random = np.random.default_rng(0)

    def tree() -> Any:
        def leaf(names: tuple[str, ...]) -> Any:
            return jnp.asarray(random.normal(size=[sizes[name] for name in names]), jnp.float32)

        return jax.tree.map(leaf, axes, is_leaf=lambda names: isinstance(names, tuple))

    params, gradients = tree(), [tree() for _ in range(3)]
    # The settings of t5x/examples/t5/t5_1_1/base.gin.
    rules = t5x_adafactor.standard_logical_factor_rules()
    definition = t5x_adafactor.Adafactor(
        1e-3, decay_rate=0.8, step_offset=0, logical_factor_rules=rules, global_norm_clip_threshold=clip
    )
    definition.set_param_axes(
        jax.tree.map(
            lambda names: jax.sharding.PartitionSpec(*names), axes, is_leaf=lambda names: isinstance(names, tuple)
        )
    )
    upstream = definition.create(params)
    optimizer, ours = Adafactor(clip_global_norm=clip).build(), params
    state = optimizer.init(params)
    for gradient in gradients:
        upstream = upstream.apply_gradient(gradient, learning_rate=1e-3)
        updates, state = optimizer.update(gradient, state, ours)
        ours = optax.apply_updates(ours, updates)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))  # squares in the global norm
    jax.tree.map(
        lambda one, other: rounding.assert_same_parameters(one, other, len(gradients), 1e-3, terms=count),
        ours,
        upstream.target,
    )


@needs_t5x
@pytest.mark.slow
def test_upstream_fine_tunes_and_scores_from_our_checkpoint_as_we_do(rounding, dataset, tmp_path):
    experiment = f"--gin_file={CONFIGS / 'sample_label.gin'}"
    model, exported, tuned = tmp_path / "model", tmp_path / "exported", tmp_path / "tuned"
    shared = ["--gin.EVAL_PERIOD=20", "--gin.ACTIVATION_DTYPE='float32'"]
    ours = [f"--gin.DATASET_DIR='{dataset}'", f"--gin.VOCABULARY_PATH='{SAMPLE / 'spiece.model'}'"]
    main(["train", experiment, *shared, *ours, f"--gin.MODEL_DIR='{model}'", "--gin.TRAIN_STEPS=20"])
    main(["export", f"--checkpoint={model}", "--format=t5x", f"--output={exported}"])

    initial = f"--gin.INITIAL_CHECKPOINT_PATH='{exported / 'checkpoint_20'}'"
    steps = ["--gin.TRAIN_STEPS=22", "--gin.EVAL_PERIOD=2", "--gin.LOG_PERIOD=2"]
    paths = f"--gin_search_paths={UPSTREAM}"
    t5x(dataset, "-m", "t5x.train", paths, experiment, *shared, initial, *steps, f"--gin.MODEL_DIR='{tuned}'")
    assert (tuned / "checkpoint_22").is_dir()

    task = ["--gin.MIXTURE_OR_TASK_NAME='exaranker_sample_label'", "--gin.INFER_MODE='score'", "--gin.SPLIT='train'"]
    task += ["--gin.TASK_FEATURE_LENGTHS={'inputs': 160, 'targets': 4}", "--gin.BATCH_SIZE=8"]
    theirs = [paths, "--gin_file=models/t5_1_1/sample.gin", "--gin_file=runs/infer.gin", *task, shared[1]]
    theirs += ["--gin.utils.RestoreCheckpointConfig.dtype='float32'"]
    theirs += [
        f"--gin.CHECKPOINT_PATH='{exported / 'checkpoint_20'}'",
        f"--gin.INFER_OUTPUT_DIR='{tmp_path / 'theirs'}'",
    ]
    t5x(dataset, "-m", "t5x.infer", *theirs)
    places = [f"--gin.CHECKPOINT_PATH='{model}'", f"--gin.INFER_OUTPUT_DIR='{tmp_path / 'ours'}'"]
    main(["infer", "--gin_file=runs/infer.gin", *task, ours[0], *places])
    expected, found = (_scores(tmp_path / folder) for folder in ("theirs", "ours"))
    assert len(found) > 60
    atol = rounding.rounding(4096, max(map(abs, expected.values())))  # pieces
    assert found == pytest.approx(expected, abs=atol)


def _scores(folder: Path) -> dict[str, float]:
    lines = (folder / "exaranker_sample_label-score.jsonl-00000-of-00001").read_text().splitlines()
    return {json.loads(line)["inputs"]["inputs_pretokenized"]: json.loads(line)["score"] for line in lines}
