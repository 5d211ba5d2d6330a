"""Is there memory for what a call is about to allocate? Asked before anything runs.

In: bytes that results and temporaries take. Out: nothing, or an error that says what needs how much. Linux grants more
memory than there is and kills whoever touches it, so the system is asked what is left; where it does not say, the
allocation itself decides.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from crosstile.ir.diagnostics import CrosstileError

ASKED_BYTES = 1 << 28
"""Less than this is allocated without asking: the question takes a fraction of a millisecond."""
_GROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int | None:
    """The memory that this process can still get: the machine's, or what its control group allows; None if unknown."""
    found: list[int] = []
    with suppress(OSError, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    with suppress(OSError, ValueError):  # "max" is no number: no limit
        found.append(int((_GROUP / "memory.max").read_text()) - int((_GROUP / "memory.current").read_text()))
    return max(0, min(found)) if found else None


def require_memory(size: int, what: str) -> None:
    """Raise a CrosstileError if ``size`` bytes for ``what`` are more than there are."""
    if size < ASKED_BYTES:
        return
    available = available_bytes()
    if available is not None and size > available:
        raise CrosstileError(f"out of memory: {what} take {_text(size)}, and {_text(available)} are available")


def allocate(shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> np.ndarray[Any, np.dtype[Any]]:
    """``np.empty``; a CrosstileError where there is no memory for it, or never could be."""
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError) as error:
        raise CrosstileError(f"out of memory: {what} cannot be allocated: {error}") from error


def _text(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB" if size >= 1 << 30 else f"{size / 2**20:,.0f} MiB"
