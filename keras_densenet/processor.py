"""What the processor is called, what it can do, and how wide its vectors are."""

import functools
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")  # of Linux


def name() -> str:
    """Return what the maker calls the processor."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def flags() -> frozenset[str]:
    """Return the names of its instruction sets as Linux knows them.

    They are what the machine lets a program use, so that a virtual machine may have
    fewer than the processor. Elsewhere than on Linux there are none.
    """
    return frozenset(
        (_cpuinfo().get("flags") or _cpuinfo().get("Features", "")).split()
    )


def vector_lanes() -> int:
    """Return how many float32 numbers a vector holds: 16 with AVX-512, else 8."""
    return 16 if "avx512f" in flags() else 8


def multiplies_bfloat16() -> bool:
    """Return whether it has instructions for products in bfloat16.

    They are Intel's AMX, AVX512_BF16 of Intel and AMD, and ARM's.
    """
    return not flags().isdisjoint({"amx_bf16", "avx512_bf16", "bf16"})


@functools.cache
def _cpuinfo() -> dict[str, str]:
    """Return what Linux says of the first core."""
    if not _CPUINFO.exists():
        return {}
    first = _CPUINFO.read_text().partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
