"""The element types of PTX matrix instructions: their bits, how NumPy holds them and what the machine rows call them.

Level: data of the simulator. In: the name PTX gives a type (``bf16``). Out: an :class:`Element`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstile.ir.diagnostics import CrosstileError

Array = NDArray[Any]


@dataclass(frozen=True)
class Element:
    """One type: ``model`` is its name in ``targets/model.py``, ``numpy`` the dtype that holds it."""

    name: str
    bits: int
    model: str
    numpy: str

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's type, or that of ``ml_dtypes``."""
        return _dtype(self.numpy)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.bits // 8

    @property
    def per_register(self) -> int:
        """How many share a 32-bit register; 1 for f64, which takes a register of 64 bits."""
        return max(1, 32 // self.bits)


_ELEMENTS = {
    row.name: row
    for row in (
        Element("f64", 64, "f64", "float64"),
        Element("f32", 32, "f32", "float32"),
        Element("tf32", 32, "tf32", "float32"),
        Element("f16", 16, "f16", "float16"),
        Element("bf16", 16, "bf16", "bfloat16"),
        Element("e4m3", 8, "f8E4M3FN", "float8_e4m3fn"),
        Element("e5m2", 8, "f8E5M2", "float8_e5m2"),
        Element("s32", 32, "i32", "int32"),
        Element("s8", 8, "si8", "int8"),
        Element("u8", 8, "ui8", "uint8"),
    )
}


@cache
def _dtype(name: str) -> np.dtype[Any]:
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name, None) or name)


def element(name: str) -> Element:
    """The type that PTX calls ``name``; raises :class:`CrosstileError` for one that no matrix instruction has."""
    if (found := _ELEMENTS.get(name)) is None:
        raise CrosstileError(f"no matrix instruction is simulated for .{name}; known are .{', .'.join(_ELEMENTS)}")
    return found
