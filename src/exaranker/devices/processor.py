"""What this machine's processor multiplies fast."""

from functools import cache
from pathlib import Path
from typing import Any

# As Linux names them: AMD from Zen 4 and Intel from Cooper Lake on, Intel's AMX, Arm from Neoverse V1 on.
BF16_UNITS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
CPUINFO = Path("/proc/cpuinfo")


def fitting_dtype(device: Any, dtype: str) -> str:
    """The type of matrix products to infer in: `dtype`, but "float32" on a processor that would emulate bf16.

    Emulated, a product takes longer than in fp32, which is exact besides (benchmarks/rerank.py).
    """
    return "float32" if device.platform == "cpu" and not multiplies_bf16() else dtype


@cache
def multiplies_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the processor has units for bf16 products; where no file says so, that it has none."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return not BF16_UNITS.isdisjoint(flags.split())
