"""Memory that a process frees stays with it: measured by the page faults of allocating it again."""

import os
import subprocess
import sys

import pytest

from exaranker.devices.malloc import ACCELERATORS

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


def test_an_accelerators_host_is_left_alone():
    fake = f"import sys, types; module = types.ModuleType('{ACCELERATORS[0]}'); module.__spec__ = object()"
    fake += "; sys.modules[module.__name__] = module"
    assert faults(f"{fake}; keep_freed_memory()") > 100
