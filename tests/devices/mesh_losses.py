"""Run on virtual devices by test_partitioning.py: trains the same steps on several meshes and prints what happened."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from exaranker.checkpoints.card import ModelCard
from exaranker.checkpoints.training_state import TrainCheckpoints
from exaranker.devices.mesh import MeshConfig, global_batch
from exaranker.models import ModelConfig
from exaranker.models.decoder import DecoderConfig
from exaranker.models.lora import Lora
from exaranker.models.qwen3 import Qwen3Config
from exaranker.models.t5 import T5Config
from exaranker.models.t5gemma import T5GemmaConfig
from exaranker.models.t5gemma2 import T5Gemma2Config
from exaranker.train.config import DataConfig, TrainConfig
from exaranker.train.optimizers import Adafactor, AdamW, LearningRate
from exaranker.train.setup import Setup, assemble, batch_shapes, layout, random_state
from exaranker.train.step import TrainState

STEPS = 20
Curve = list[tuple[float, float]]  # by step: loss, gradient norm
MESHES = {
    "one": (MeshConfig(), 1),
    "data8": (MeshConfig(data=8), 8),
    "fsdp4_tensor2": (MeshConfig(fsdp=4, tensor=2), 8),
    "tensor8": (MeshConfig(tensor=8), 8),
}


SIZES: dict[str, Any] = {"vocab_size": 128, "emb_dim": 32, "num_heads": 8, "head_dim": 4, "mlp_dim": 64}
SIZES["dtype"] = "float32"
SHALLOW: dict[str, Any] = {"num_encoder_layers": 1, "num_decoder_layers": 1, "sliding_window": 5}
MODELS: dict[str, ModelConfig] = {
    "t5": T5Config(num_encoder_layers=1, num_decoder_layers=1, **SIZES),
    # Fewer key heads than a tensor axis of 8 has devices.
    "decoder": DecoderConfig(num_kv_heads=4, num_layers=2, scan_layers=True, remat="full", **SIZES),
    "qwen3": Qwen3Config(num_kv_heads=2, num_layers=1, **SIZES),
    "t5gemma": T5GemmaConfig(num_kv_heads=2, **SHALLOW, **SIZES),
    "t5gemma2": T5Gemma2Config(num_kv_heads=2, **SHALLOW, **SIZES),
}
MODELS["adapter"] = MODELS["decoder"]
ON_ALL_MESHES = ("t5", "decoder")
ON_TWO = ("one", "fsdp4_tensor2")


def config(name: str, mesh: MeshConfig) -> TrainConfig:
    data = DataConfig("unused", {"inputs": 16, "targets": 8}, batch_size=8, pack=False)
    run = TrainConfig("unused", MODELS[name], data, STEPS, optimizer=Adafactor(min_dim_size_to_factor=16), mesh=mesh)
    if name in ON_ALL_MESHES:
        return run
    run = dataclasses.replace(run, optimizer=AdamW(LearningRate(0.01, warmup_steps=0)))  # compiles in half the time
    return dataclasses.replace(run, lora=Lora(rank=2), initial_checkpoint_path="unused") if name == "adapter" else run


def batch(run: TrainConfig, step: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(step)
    shapes = batch_shapes(run)
    arrays = {name: random.integers(2, 128, shape).astype(dtype) for name, (shape, dtype) in shapes.items()}
    arrays["decoder_loss_weights"] = np.ones(shapes["decoder_loss_weights"][0], np.int32)
    length = shapes["decoder_label_weights"][0][1]
    arrays["decoder_label_weights"] = (np.arange(length) == 0) * np.ones((8, 1), np.float32)
    return arrays


def steps(setup: Setup, state: TrainState, first: int, last: int) -> tuple[TrainState, Curve]:
    """The state after, and each step's loss and, optimizers being blind to a factor, gradient norm."""
    losses = []
    with layout(setup.mesh):
        for step in range(first, last):
            state, sums = setup.step(state, global_batch(setup.mesh, batch(setup.config, step)))
            losses.append((float(sums["loss"] / sums["weights"]), float(sums["gradient_norm"])))
    return state, losses


def share_per_device(state: TrainState) -> float:
    """How much of the parameters and optimizer state one device holds."""
    leaves = jax.tree.leaves((state.params, state.optimizer))
    return sum(leaf.addressable_shards[0].data.size for leaf in leaves) / sum(leaf.size for leaf in leaves)


def distance(before: Any, after: Any) -> float:
    """How far training moved the parameters, in units of their norm."""
    difference = jax.tree.map(lambda one, other: np.asarray(one) - np.asarray(other), before, after)
    return float(optax.tree.norm(difference) / optax.tree.norm(jax.device_get(before)))


def moved_losses(directory: Path, source: Setup, target: Setup) -> Curve:
    """Ten steps on one mesh, a checkpoint, the rest on another."""
    from exaranker.templates import TEMPLATES

    state, losses = steps(source, random_state(source), 0, 10)
    checkpoints = TrainCheckpoints(directory)
    card = ModelCard(source.config.model, TEMPLATES["exaranker"], "", step=10)
    checkpoints.save(card, state.params, state.optimizer, {})
    checkpoints.wait()
    restored = TrainCheckpoints(directory).restore_newest(target.abstract.params, target.abstract.optimizer)
    counter = jax.device_put(np.int32(restored.card.step), target.abstract.step.sharding)
    return losses + steps(target, TrainState(counter, restored.params, restored.optimizer), 10, STEPS)[1]


def main(directory: Path) -> None:
    curves, shares, moved = {}, {}, {}
    for model in MODELS:
        meshes = {name: MESHES[name] for name in (MESHES if model in ON_ALL_MESHES else ON_TWO)}
        setups = {name: assemble(config(model, mesh), jax.devices()[:count]) for name, (mesh, count) in meshes.items()}
        for name, setup in setups.items():
            state = random_state(setup)
            before = jax.device_get(state.params)
            state, curves[f"{model} {name}"] = steps(setup, state, 0, STEPS)
            shares[f"{model} {name}"] = share_per_device(state)
            moved[f"{model} {name}"] = distance(before, state.params)
        if model == "t5":
            curves["t5 moved"] = moved_losses(directory, setups["fsdp4_tensor2"], setups["data8"])
    norms = {name: [norm for _, norm in curve] for name, curve in curves.items()}
    losses = {name: [loss for loss, _ in curve] for name, curve in curves.items()}
    print(json.dumps({"losses": losses, "norms": norms, "shares": shares, "moved": moved}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
