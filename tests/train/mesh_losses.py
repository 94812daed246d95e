"""Run on virtual devices by test_partitioning.py: trains the same steps on several meshes and prints what happened."""

import json
import sys
from pathlib import Path

import jax
import numpy as np

from exaranker.checkpoints import ModelCard, TrainCheckpoints
from exaranker.models import ModelConfig
from exaranker.models.decoder import DecoderConfig
from exaranker.models.t5 import T5Config
from exaranker.optimizers import Adafactor
from exaranker.partitioning import MeshConfig, global_batch
from exaranker.train_config import DataConfig, TrainConfig
from exaranker.train_setup import Setup, assemble, batch_shapes, layout, random_state
from exaranker.train_step import TrainState

STEPS = 20
MESHES = {
    "one": (MeshConfig(), 1),
    "data8": (MeshConfig(data=8), 8),
    "fsdp4_tensor2": (MeshConfig(fsdp=4, tensor=2), 8),
    "tensor8": (MeshConfig(tensor=8), 8),
}


SIZES = {"vocab_size": 128, "emb_dim": 32, "num_heads": 8, "head_dim": 4, "mlp_dim": 64, "dtype": "float32"}
MODELS: dict[str, ModelConfig] = {
    "t5": T5Config(num_encoder_layers=1, num_decoder_layers=1, **SIZES),
    # Fewer key heads than a tensor axis of 8 has devices.
    "decoder": DecoderConfig(num_kv_heads=4, num_layers=2, scan_layers=True, remat="full", **SIZES),
}


def config(model: ModelConfig, mesh: MeshConfig) -> TrainConfig:
    data = DataConfig("", {"inputs": 16, "targets": 8}, batch_size=8, pack=False)
    return TrainConfig("", model, data, STEPS, optimizer=Adafactor(min_dim_size_to_factor=16), mesh=mesh)


def batch(run: TrainConfig, step: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(step)
    shapes = batch_shapes(run)
    arrays = {name: random.integers(2, 128, shape).astype(dtype) for name, (shape, dtype) in shapes.items()}
    arrays["decoder_loss_weights"] = np.ones(shapes["decoder_loss_weights"][0], np.int32)
    length = shapes["decoder_label_weights"][0][1]
    arrays["decoder_label_weights"] = (np.arange(length) == 0) * np.ones((8, 1), np.float32)
    return arrays


def steps(setup: Setup, state: TrainState, first: int, last: int) -> tuple[TrainState, list[float]]:
    losses = []
    with layout(setup.mesh):
        for step in range(first, last):
            state, sums = setup.step(state, global_batch(setup.mesh, batch(setup.config, step)))
            losses.append(float(sums["loss"] / sums["weights"]))
    return state, losses


def share_per_device(state: TrainState) -> float:
    """How much of the parameters and optimizer state one device holds."""
    leaves = jax.tree.leaves((state.params, state.optimizer))
    return sum(leaf.addressable_shards[0].data.size for leaf in leaves) / sum(leaf.size for leaf in leaves)


def moved_losses(directory: Path, source: Setup, target: Setup) -> list[float]:
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
    losses, shares = {}, {}
    for model, shape in MODELS.items():
        setups = {name: assemble(config(shape, mesh), jax.devices()[:count]) for name, (mesh, count) in MESHES.items()}
        for name, setup in setups.items():
            state, losses[f"{model} {name}"] = steps(setup, random_state(setup), 0, STEPS)
            shares[f"{model} {name}"] = share_per_device(state)
        if model == "t5":
            losses["t5 moved"] = moved_losses(directory, setups["fsdp4_tensor2"], setups["data8"])
    print(json.dumps({"losses": losses, "shares": shares}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
