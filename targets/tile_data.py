"""Permission for tile registers: Linux gives a process the 8 KiB of AMX state only if it asks, once.

Level: run time. Documents: the Linux kernel's Documentation/arch/x86/xstate.rst, "Using dynamically enabled XSTATE
features in user space applications". Code that touches a tile register without permission ends in SIGILL. Threads
have the permission of their process.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import cache

FEATURE = "amx-tile"
"""LLVM's name of what the permission is for."""

_ARCH_PRCTL = 158
_REQUEST_PERMISSION, _TILE_DATA = 0x1023, 18
"""``ARCH_REQ_XCOMP_PERM`` and ``XFEATURE_XTILEDATA``."""


@cache
def may_use_tiles() -> bool:
    """Ask for the permission, once per process; whether it was given. Other systems than Linux ask for nothing."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        return True
    system_call = ctypes.CDLL(None).syscall
    system_call.argtypes, system_call.restype = [ctypes.c_long] * 3, ctypes.c_long
    return system_call(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0
