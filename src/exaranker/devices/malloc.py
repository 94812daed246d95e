"""What the C library does with freed memory: a training step on a CPU allocates gigabytes and frees them again."""

import ctypes

from exaranker.devices.accelerators import has_plugin

# Of glibc's mallopt(3).
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Keeps the memory that this process frees, instead of returning it to the kernel.

    The kernel would clear it again page by page: a tenth to two fifths of a CPU's training step. To be called before
    there are threads, and only where all steps have one shape: the blocks of several shapes do not fit into each
    other's places, and SmolLM2-135M took 18 GB where 8 were in use.

    All threads then allocate from one arena, which the many of an accelerator's host would wait for: where jax has a
    plugin for one, or there is no glibc, nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or has_plugin():
        return
    for option, value in ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, -1)):
        mallopt(option, value)
