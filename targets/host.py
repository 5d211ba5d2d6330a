"""The machine this process runs on, as a row: ``--target host``.

Level: data, resolved at run time. In: what LLVM says of this processor and what the system says of its caches. Out: the
best CPU row whose features are all present, with the triple, processor name, caches, cores and clock that are really
there. What cannot be found out keeps the value of the row.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from crosstile.targets.model import Level, Machine, families, family_machines, machine, machines
from crosstile.targets.tile_data import FEATURE, may_use_tiles

_CPU = Path("/sys/devices/system/cpu/cpu0")


TARGET = "CROSSTILE_TARGET"
"""The environment variable that says what to compile for where nobody does."""


def default_target() -> str:
    """The machine to compile for if none is named: ``CROSSTILE_TARGET``, else ``host``."""
    return os.environ.get(TARGET) or "host"


def resolve_machine(name: str) -> Machine:
    """The machine called ``name``, or this one for ``host``; raises :class:`UnknownNameError` for unknown names.

    A name may have its family before it, as in ``nvidia-sm_90a``.
    """
    if name == "host":
        return host_machine()
    family, _, rest = name.partition("-")
    if family in families() and any(row.name == rest for row in family_machines(family)):
        return machine(rest)
    return machine(name)


@cache
def host_machine() -> Machine:
    """The row of this machine. Imports llvmlite."""
    llvm: Any = import_module("llvmlite.binding")  # llvmlite ships no types
    triple = llvm.get_process_triple()
    try:
        features = llvm.get_host_cpu_features()
    except RuntimeError:  # LLVM cannot tell on this kind of processor
        return _measured(replace(machine("generic"), triple=triple))
    best = best_machine(triple, host_features())
    return _measured(replace(best, triple=triple, cpu=llvm.get_host_cpu_name(), attributes=features.flatten()))


@cache
def host_features() -> frozenset[str]:
    """What this processor can do and the system lets this process use, in LLVM's names. Imports llvmlite."""
    llvm: Any = import_module("llvmlite.binding")
    try:
        present = {name for name, has in llvm.get_host_cpu_features().items() if has}
    except RuntimeError:  # LLVM cannot tell on this kind of processor
        return frozenset()
    if FEATURE in present and not may_use_tiles():
        present -= {name for name in present if name.startswith("amx-")}
    return frozenset(present)


def best_machine(triple: str, features: frozenset[str] | set[str]) -> Machine:
    """The row of highest peak in float32 that runs on a processor of this triple's architecture with these features.

    Of several, the one with the most instructions.
    """
    architecture = triple.partition("-")[0]
    able = [
        row
        for row in machines().values()
        if row.triple.partition("-")[0] in ("", architecture) and features.issuperset(row.features)
    ]
    return max(able, key=lambda row: (row.peak(row.choose("f32", "f32", "f32")), len(row.intrinsics)))


@cache
def host_fingerprint() -> str:
    """What code for ``host`` depends on, without building the row: processor, features, caches. Imports llvmlite."""
    llvm: Any = import_module("llvmlite.binding")
    try:
        features = llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # LLVM cannot tell on this kind of processor
        features = ""
    facts = [llvm.get_process_triple(), llvm.get_host_cpu_name(), features, ".".join(map(str, llvm.llvm_version_info))]
    facts += ["without tiles"] * (FEATURE in features and not may_use_tiles())
    sizes = [f"{name} {size}" for name, size in _cache_sizes().items() if name != "main"]
    return " ".join([*facts, *sizes])


def missing_features(row: Machine) -> list[str]:
    """What this processor lacks to run code for ``row``: features, or the whole architecture."""
    llvm: Any = import_module("llvmlite.binding")
    triple = llvm.get_process_triple()
    architecture = row.triple.partition("-")[0]
    if architecture not in ("", triple.partition("-")[0]):
        return [f"the architecture {architecture}"]
    return [feature for feature in row.features if feature not in host_features()]


def _measured(row: Machine) -> Machine:
    """``row`` with this machine's cores, caches, memory and clock."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    sizes = _cache_sizes()
    memories = tuple(replace(memory, capacity=sizes.get(memory.name, memory.capacity)) for memory in row.memories)
    levels = tuple(Level("core", cores) if level.name == "core" else level for level in row.levels)
    return replace(row, levels=levels, memories=memories, clock=_clock() or row.clock)


def _cache_sizes() -> dict[str, int]:
    """Bytes of L1 (data), L2, L3 and main memory, as far as the system tells."""
    found: dict[str, int] = {}
    for index in sorted(_CPU.glob("cache/index*")):
        with suppress(OSError, ValueError, KeyError):
            text = (index / "size").read_text().strip()
            size = int(text.rstrip("KMG")) * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[text[-1]]
            if size > 0 and (index / "type").read_text().strip() in ("Data", "Unified"):
                found[f"L{(index / 'level').read_text().strip()}"] = size
    names = {"L1": "SC_LEVEL1_DCACHE_SIZE", "L2": "SC_LEVEL2_CACHE_SIZE", "L3": "SC_LEVEL3_CACHE_SIZE"}
    for level, name in names.items():
        if level not in found and (size := _system(name)) > 0:
            found[level] = size
    if (total := _system("SC_PHYS_PAGES") * _system("SC_PAGE_SIZE")) > 0:
        found["main"] = total
    return found


def _system(name: str) -> int:
    """A value of ``sysconf``, 0 where it is unknown."""
    with suppress(OSError, ValueError, AttributeError):
        return max(0, os.sysconf(name))
    return 0


def _clock() -> float:
    """The highest clock in Hz, 0 where the system does not say."""
    readers: tuple[Callable[[], float], ...] = (
        lambda: int((_CPU / "cpufreq/cpuinfo_max_freq").read_text()) * 1e3,
        lambda: max(
            float(line.partition(":")[2]) * 1e6
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("cpu MHz")
        ),
    )
    for reader in readers:
        with suppress(OSError, ValueError):
            return reader()
    return 0.0
