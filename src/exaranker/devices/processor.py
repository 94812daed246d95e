"""What this machine's processor multiplies fast."""

from functools import cache
from pathlib import Path
from typing import Any

from exaranker.devices.accelerators import has_plugin

# As Linux names them: AMD from Zen 4 and Intel from Cooper Lake on, Intel's AMX, Arm from Neoverse V1 on.
BF16_UNITS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
# The same of int8, on x86 (VNNI); other processors' products do not overflow.
INT8_UNITS = frozenset({"avx512_vnni", "avx_vnni"})
CPUINFO = Path("/proc/cpuinfo")


def fitting_dtype(device: Any, dtype: str) -> str:
    """The type of matrix products to infer in: `dtype`, but "float32" on a processor that would emulate bf16.

    Emulated, a product takes longer than in fp32, which is exact besides (benchmarks/rerank.py).
    """
    return "float32" if device.platform == "cpu" and not multiplies_bf16() else dtype


def emulates_bf16() -> bool:
    """Whether what runs here by default has no units for bf16; no device is asked for."""
    return not has_plugin() and not multiplies_bf16()


@cache
def multiplies_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the processor has units for bf16 products; where no file says so, that it has none."""
    return not BF16_UNITS.isdisjoint(_flags(cpuinfo))


@cache
def overflows_in_int8(cpuinfo: Path = CPUINFO) -> bool:
    """Whether int8 products are added in pairs to 16 bits, which saturate, as oneDNN does on x86 without VNNI."""
    flags = _flags(cpuinfo)
    return "sse2" in flags and INT8_UNITS.isdisjoint(flags)


def _flags(cpuinfo: Path) -> frozenset[str]:
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith(("flags", "Features"))), "").split())
