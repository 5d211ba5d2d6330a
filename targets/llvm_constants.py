"""How LLVM IR writes numbers: floats by their bits, so that no rounding happens between here and the machine.

A float or double is written as the 16 hexadecimal digits of the double of equal value, a half as ``0xH`` and a bfloat
as ``0xR`` and four digits.
"""

from __future__ import annotations

import struct
from typing import Any

from xdsl.dialects.builtin import BFloat16Type, Float16Type, Float32Type, Float64Type, IntegerType
from xdsl.ir import Attribute

from crosstile.ir.diagnostics import CrosstileError


def element_text(value: Any, type_: Attribute) -> str:
    """A number of a scalar type as LLVM IR writes it."""
    if isinstance(type_, IntegerType):
        if type_.bitwidth == 1:
            return "true" if value else "false"
        return str(value)
    if isinstance(type_, Float32Type):
        return f"0x{double_bits(struct.unpack('<f', struct.pack('<f', value))[0]):016X}"
    if isinstance(type_, Float64Type):
        return f"0x{double_bits(value):016X}"
    if isinstance(type_, Float16Type):
        return f"0xH{int.from_bytes(struct.pack('<e', value), 'little'):04X}"
    if isinstance(type_, BFloat16Type):
        return f"0xR{int.from_bytes(type_.pack((value,)), 'little'):04X}"
    raise CrosstileError(f"a constant of type {type_} has no LLVM IR")


def double_bits(value: float) -> int:
    """The bits of ``value`` as an IEEE 754 double."""
    return int.from_bytes(struct.pack("<d", value), "little")


def string_bytes(data: bytes) -> str:
    """The inside of a ``c"..."`` string: printable ASCII as it is, other bytes as two hexadecimal digits."""
    return "".join(chr(byte) if 32 <= byte < 127 and byte not in (34, 92) else f"\\{byte:02X}" for byte in data)
