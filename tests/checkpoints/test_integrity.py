"""A checkpoint knows what was saved in it: flipped bits, edited cards and foreign folders are told, never loaded."""

import dataclasses
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from exaranker.checkpoints.card import ModelCard
from exaranker.checkpoints.digests import array_digests
from exaranker.checkpoints.store import load_for_inference, save_model
from exaranker.checkpoints.training_state import TrainCheckpoints, one_writer
from exaranker.errors import InputError
from exaranker.files.shipped import shipped
from exaranker.models import abstract_params
from exaranker.models.t5 import T5Config
from exaranker.templates import TEMPLATES, label_ids
from exaranker.tokenization import load_tokenizer
from exaranker.train.optimizers import Adafactor

CONFIG = T5Config(4096, 8, 2, num_encoder_layers=2, num_decoder_layers=2, head_dim=4, mlp_dim=16)
OPTIMIZER = Adafactor().build()


def random_params(config: T5Config = CONFIG) -> Any:
    """Weights that do not compress, so that most bytes on disk are theirs."""
    shapes = nn.meta.unbox(abstract_params(config))
    generator = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(generator.normal(size=leaf.shape), jnp.float32), shapes)


@pytest.fixture(scope="module")
def params() -> Any:
    return random_params()


@pytest.fixture(scope="module")
def card() -> ModelCard:
    tokenizer, template = load_tokenizer(shipped("examples/sample")), TEMPLATES["exaranker"]
    return ModelCard(CONFIG, template, tokenizer.digest, label_ids(tokenizer, template))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, card: ModelCard, params: Any) -> Path:
    directory = tmp_path_factory.mktemp("model")
    save_model(directory, card, params, load_tokenizer(shipped("examples/sample")))
    return directory


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(model, tmp_path / "model")


def data_files(checkpoint: Path) -> list[Path]:
    """Those with arrays, in an order that does not depend on their random names."""
    found = [path for path in checkpoint.rglob("d/*") if path.stat().st_size > 50_000]
    return sorted(found, key=lambda path: path.stat().st_size)


def flip(path: Path, at: int, bit: int) -> None:
    whole = bytearray(path.read_bytes())
    whole[at] ^= 1 << bit
    path.write_bytes(whole)


def refused_or_as_saved(model: Path, path: Path, seeded: random.Random, folder: Path, card: Any, params: Any) -> bool:
    """Whether a copy with a flipped bit in this file is refused; if not, all that it loads is what was saved."""
    copy = shutil.copytree(
        model, folder / path.name
    )  # in a new place: TensorStore remembers what it has read of a file
    flipped = copy / path.relative_to(model)
    flip(flipped, seeded.randrange(path.stat().st_size), seeded.randrange(8))
    try:
        loaded = load_for_inference(copy)
    except InputError:
        return True
    assert loaded.card == card
    jax.tree.map(np.testing.assert_array_equal, loaded.params, params)
    return False


def test_no_flipped_bit_of_the_weights_loads_others(model, card, params, tmp_path):
    seeded, files = random.Random(17), data_files(model / "checkpoint_0")
    chosen = seeded.choices(files, [file.stat().st_size for file in files], k=30)
    tried = [
        refused_or_as_saved(model, path, seeded, tmp_path / str(number), card, params)
        for number, path in enumerate(chosen)
    ]
    assert tried.count(True) > 20  # the others are in lists of arrays that later ones have replaced: nothing reads them


def test_no_flipped_bit_of_the_other_files_does_either(model, card, params, tmp_path):
    seeded = random.Random(18)
    others = {path.name: path for path in sorted(model.rglob("*")) if path.is_file() and path.parent.name != "d"}
    refused = {
        path.relative_to(model).parts[-2:]
        for number, path in enumerate([*others.values(), model / "checkpoint_0/card/metadata"])
        if refused_or_as_saved(model, path, seeded, tmp_path / str(number), card, params)
    }
    assert len(others) > 6
    assert {("tokenizer", "spiece.model"), ("card", "metadata")} <= refused


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int8])
def test_each_bit_of_an_array_is_in_its_digest(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    bits, seen = array.view(f"uint{8 * array.dtype.itemsize}"), {array_digests({"a": array})["a"]}
    for index in np.ndindex(array.shape):
        for bit in range(8 * array.dtype.itemsize):
            bits[index] ^= np.array(1 << bit, bits.dtype)
            seen.add(array_digests({"a": array})["a"])
            bits[index] ^= np.array(1 << bit, bits.dtype)
    assert len(seen) == 1 + array.size * 8 * array.dtype.itemsize


def test_the_digest_of_a_sharded_array_is_that_of_the_whole():
    array = np.random.default_rng(1).normal(size=(8, 6)).astype(np.float32)
    mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("data", "tensor"))
    placed = jax.device_put(array, NamedSharding(mesh, PartitionSpec("data", "tensor")))
    assert array_digests({"a": placed}) == array_digests({"a": array})
    assert array_digests({"a": np.ascontiguousarray(array[::-1])}) != array_digests({"a": array})


def test_digests_of_arrays_can_be_left_unchecked(copy, monkeypatch):
    largest = max(data_files(copy), key=lambda path: path.stat().st_size)
    flip(largest, largest.stat().st_size // 2, 0)
    monkeypatch.setenv("EXARANKER_SKIP_DIGESTS", "1")
    load_for_inference(copy)


def edit_card(model: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = model / "checkpoint_0/card/metadata"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda card: card["config"].update(num_encoder_layers=1),
            "9 params arrays differ; encoder/.* card None",
        ),
        (lambda card: card.update(label_ids=[5, 5]), r"the card has label ids \[5, 5\], its template and tokenizer"),
        (lambda card: card.update(label_ids=[5, 10**6]), r"the card has label ids \[5, 1000000\], its template"),
        (lambda card: card["config"].update(dtype="int8"), r"ACTIVATION_DTYPE is 'int8', expected"),
        (lambda card: card["config"].update(mlp_activations=["relu", "linear"]), "card is not what was saved"),
        (lambda card: card["config"].update(mlp_activations=["swish"]), r"mlp_activations.*'swish'.*expected"),
        (lambda card: card["config"].update(layer_norm_epsilon=1e-2), "card is not what was saved"),
        (lambda card: card["config"].update(num_heads="2"), r"num_heads is '2', expected"),
        (lambda card: card.pop("label_ids"), "not a model card: KeyError: 'label_ids'"),
        (lambda card: card.update(more=1), "not a model card: TypeError"),
    ],
)
def test_an_edited_card_is_refused(copy, change, message):
    edit_card(copy, change)
    with pytest.raises(InputError, match=message):
        load_for_inference(copy)


def test_a_flipped_bit_in_the_newest_training_state_falls_back_to_the_one_before(tmp_path, card, params):
    generator = np.random.default_rng(2)
    optimizer = jax.tree.map(
        lambda leaf: jnp.asarray(generator.normal(size=leaf.shape), leaf.dtype), OPTIMIZER.init(params)
    )
    manager = TrainCheckpoints(tmp_path)
    for step in (1, 2):
        manager.save(dataclasses.replace(card, step=step), params, optimizer, {"step": step, "seconds": 0.1})
    manager.wait()
    for item in ("params", "optimizer", "card", "data"):
        copy = shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}_{item}"))
        flip_in_the_middle(copy / "checkpoint_2" / item)
        restored = TrainCheckpoints(copy).restore_newest(params, optimizer)
        assert restored.card.step == 1
        assert "/checkpoint_2" in restored.damaged[2]
    assert TrainCheckpoints(tmp_path).restore_newest(params, optimizer).card.step == 2


def flip_in_the_middle(item: Path) -> None:
    """A bit of an item's largest file; of JSON, one of a digit that stays a digit."""
    files = [*item.rglob("d/*"), *item.glob("metadata")]
    path = max(files, key=lambda path: path.stat().st_size)
    flip(path, path.read_bytes().rindex(b"1") if path.name == "metadata" else path.stat().st_size // 2, 0)


def contents(directory: Path) -> dict[str, bytes]:
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def foreign(directory: Path, kind: str, model: Path) -> None:
    if kind == "import":
        shutil.copytree(model / "checkpoint_0", directory / "checkpoint_0")
    elif kind == "t5x":
        (directory / "checkpoint_0").mkdir(parents=True)
        (directory / "checkpoint_0/checkpoint").write_bytes(b"msgpack")
    elif kind == "t5x orbax":
        (directory / "checkpoint_0/state").mkdir(parents=True)
    elif kind == "other":
        (directory / "checkpoint_0/weights").mkdir(parents=True)
    else:
        (directory / "damaged_checkpoint_3").mkdir(parents=True)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("import", r"a model without training state \(give it as INITIAL_CHECKPOINT_PATH"),
        ("t5x", r"a T5X checkpoint \(import it: exaranker import --format t5x"),
        ("t5x orbax", r"a T5X checkpoint \(import it"),
        ("other", "not a checkpoint of a training run"),
        ("set aside", "nothing but damaged checkpoints here: damaged_checkpoint_3"),
    ],
)
def test_what_no_training_run_left_is_refused_and_not_touched(tmp_path, model, params, kind, message):
    foreign(tmp_path, kind, model)
    before = contents(tmp_path)
    for _ in range(2):
        with pytest.raises(InputError, match=message):
            TrainCheckpoints(tmp_path).restore_newest(params, OPTIMIZER.init(params))
    assert contents(tmp_path) == before


def test_one_job_holds_a_model_dir(tmp_path):
    held = pytest.raises(InputError, match="run: another process is writing here")
    with one_writer(tmp_path / "run"), held, one_writer(tmp_path / "run"):
        raise AssertionError("two writers")
    with one_writer(tmp_path / "run"):
        pass
