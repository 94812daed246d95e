"""Compiled programs kept on disk, so that a process does not compile again what an earlier one has compiled."""

import hashlib
import os
from pathlib import Path

import jax


def keep_compiled() -> None:
    """Has JAX keep machine code below `~/.cache/exaranker` or `$EXARANKER_CACHE`, unless its settings name a folder.

    Programs are found by all that they depend on, and a CPU's instructions have a folder of their own: a home that
    machines share is safe. `JAX_ENABLE_COMPILATION_CACHE=0` keeps nothing; the folder may be removed at any time.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    try:
        home = Path(os.environ.get("EXARANKER_CACHE") or Path.home() / ".cache" / "exaranker")
        folder = home / "compiled" / _instructions()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # without a home that can be written, every process compiles
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _instructions() -> str:
    """A digest of what this machine's CPU can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(flags.encode()).hexdigest()[:12]
