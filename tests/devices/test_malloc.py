"""Memory that a process frees stays with it: measured by the page faults of allocating it again."""

import os
import subprocess
import sys

import pytest

from exaranker.cli import main
from exaranker.devices.accelerators import PLUGINS
from exaranker.files.shipped import shipped

ALLOCATES = """
import resource, numpy as np
from exaranker.devices.malloc import keep_freed_memory
{call}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(64 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def faults(call: str) -> int:
    small_pages = os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"}  # huge ones come when the kernel has some at hand
    command = [sys.executable, "-c", ALLOCATES.format(call=call)]
    done = subprocess.run(command, env=small_pages, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is on Linux")
def test_memory_that_was_freed_is_not_asked_of_the_kernel_again():
    assert faults("keep_freed_memory()") < 100
    assert faults("") > 100


@pytest.mark.parametrize("pack", [True, False])
def test_training_in_batches_of_several_shapes_gives_memory_back(pack, monkeypatch):
    kept = []
    monkeypatch.setattr("exaranker.commands.train_.keep_freed_memory", lambda: kept.append(True))
    words = ["--gin_file", str(shipped("t5x_configs") / "sample_label.gin"), f"--gin.PACK={pack}"]
    with pytest.raises(SystemExit):  # there is no such vocabulary
        main(
            ["train", *words, "--gin.MODEL_DIR='m'", "--gin.DATASET_DIR='d'", "--gin.VOCABULARY_PATH='v'", "--dry_run"]
        )
    assert kept == [True] * pack


def test_an_accelerators_host_is_left_alone():
    fake = f"import sys, types; module = types.ModuleType('{PLUGINS[0]}'); module.__spec__ = object()"
    fake += "; sys.modules[module.__name__] = module"
    assert faults(f"{fake}; keep_freed_memory()") > 100
