"""Layouts: which mesh is chosen, and that every mesh trains to the same losses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from exaranker.devices.mesh import MeshConfig, check_batch, make_mesh, mesh_shape
from exaranker.errors import InputError

GIB = 2**30


@pytest.mark.parametrize(
    ("config", "num_devices", "state_gib", "expected"),
    [
        (MeshConfig(), 1, 100, (1, 1, 1)),
        (MeshConfig(), 8, 4, (8, 1, 1)),
        (MeshConfig(), 8, 30, (2, 4, 1)),
        (MeshConfig(), 8, 1000, (1, 8, 1)),
        (MeshConfig(tensor=2), 8, 30, (2, 2, 2)),
        (MeshConfig(data=2), 8, 1, (2, 4, 1)),
        (MeshConfig(fsdp=4, tensor=2), 8, 1, (1, 4, 2)),
    ],
)
def test_as_little_fsdp_as_the_state_needs(config, num_devices, state_gib, expected):
    assert mesh_shape(config, num_devices, state_gib * GIB, 16 * GIB) == expected


def test_a_mesh_that_does_not_fit_says_so():
    with pytest.raises(InputError, match=r"data 1 x fsdp 3 x tensor 2 needs 6 devices, 8 are present"):
        mesh_shape(MeshConfig(fsdp=3, tensor=2), 8, 0, GIB)


def test_a_batch_that_does_not_split_names_the_next_that_does():
    with pytest.raises(InputError, match=r"BATCH_SIZE 5 is not a multiple of 1 batch shards x 2 .*: 6"):
        check_batch(make_mesh(MeshConfig()), 5, num_microbatches=2)
    with pytest.raises(InputError, match=r"BATCH_SIZE 12 .* x 2 microbatches x 4 pairs of a row .*: 16"):
        check_batch(make_mesh(MeshConfig()), 12, num_microbatches=2, pairs_per_row=4)


def test_processes_that_do_not_know_where_to_meet_say_what_to_give():
    """In a process of its own: jax joins a job before it does anything else."""
    code = "from exaranker.devices.mesh import connect; connect(None, 2, None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "coordinator_address should be defined. (give --coordinator_address HOST:PORT, --process" in done.stderr


@pytest.fixture(scope="module")
def on_virtual_devices(tmp_path_factory) -> dict:
    script = Path(__file__).with_name("mesh_losses.py")
    devices = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    flags = {"XLA_FLAGS": devices, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(script), str(tmp_path_factory.mktemp("moved"))]
    done = subprocess.run(command, env=os.environ | flags, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


FAMILIES = pytest.mark.parametrize("family", ["t5", "decoder"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "mesh"),
    [
        *((family, mesh) for family in ("t5", "decoder") for mesh in ("data8", "fsdp4_tensor2", "tensor8")),
        *((family, "fsdp4_tensor2") for family in ("adapter", "qwen3", "t5gemma", "t5gemma2")),
    ],
)
def test_every_mesh_trains_to_the_losses_of_one_device(rounding, on_virtual_devices, family, mesh):
    losses, norms = on_virtual_devices["losses"], on_virtual_devices["norms"]
    assert len(losses[f"{family} {mesh}"]) == 20
    rounding.assert_equal_but_for_rounding(losses[f"{family} {mesh}"], losses[f"{family} one"], terms=128)  # pieces
    rtol = rounding.rounding(32_768, 1.0)  # squares of as many gradients as the larger model has parameters
    np.testing.assert_allclose(norms[f"{family} {mesh}"], norms[f"{family} one"], rtol=rtol)
    assert on_virtual_devices["moved"][f"{family} {mesh}"] > 0.001  # it did train


@pytest.mark.slow
def test_a_checkpoint_of_one_mesh_continues_on_another(rounding, on_virtual_devices):
    losses = on_virtual_devices["losses"]
    rounding.assert_equal_but_for_rounding(losses["t5 moved"], losses["t5 one"], terms=128)  # pieces


@pytest.mark.slow
@FAMILIES
def test_parameters_and_optimizer_state_are_split(on_virtual_devices, family):
    shares = on_virtual_devices["shares"]
    assert shares[f"{family} one"] == shares[f"{family} data8"] == 1.0
    assert shares[f"{family} fsdp4_tensor2"] < 0.2
    assert shares[f"{family} tensor8"] < 0.2
