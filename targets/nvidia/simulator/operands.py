"""Operands as closures: what reads a source and what writes a destination, decided once per instruction.

Level: the simulator. In: a parsed operand and the PTX type under which the instruction uses it. Out: ``read(gang)``, an
array over the lanes (or of one element) of NumPy's type for it, and ``write(gang, values)``. A register wider than the
type gives its low bits and takes the value extended, as the PTX ISA allows for ld, st and cvt ("Operand Size Exceeding
Instruction-Type Size"); for all others the sizes agree.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from crosstile.targets.nvidia.ptx.module import (
    Immediate,
    Instruction,
    Negated,
    Operand,
    Register,
    Sink,
    Symbol,
    type_bits,
)
from crosstile.targets.nvidia.simulator.faults import not_simulated

if TYPE_CHECKING:
    from crosstile.targets.nvidia.simulator.gang import Gang
    from crosstile.targets.nvidia.simulator.program import Program

Lanes = NDArray[Any]
Read = Callable[["Gang"], Lanes]
Write = Callable[["Gang", Lanes], None]

DTYPES: dict[str, np.dtype[Any]] = {
    **{
        f"{kind}{bits}": np.dtype(f"{'i' if kind == 's' else 'u'}{bits // 8}")
        for kind in "sub"
        for bits in (8, 16, 32, 64)
    },
    "f16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "pred": np.dtype(bool),
    "f16x2": np.dtype("u4"),
    "bf16x2": np.dtype("u4"),
    "u16x2": np.dtype("u4"),
    "s16x2": np.dtype("u4"),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "tf32": np.dtype("u4"),
    "f32x2": np.dtype("u8"),
    "e4m3x2": np.dtype("u2"),
    "e5m2x2": np.dtype("u2"),
}
"""How NumPy holds a value of each PTX type; packed types as their bits."""
RAW: dict[int, np.dtype[Any]] = {1: np.dtype(bool), **{bits: np.dtype(f"u{bits // 8}") for bits in (8, 16, 32, 64)}}
"""How registers of each size are kept."""


def raw_type(name: str) -> np.dtype[Any]:
    """The dtype in which a register of PTX type ``name`` is kept."""
    return RAW[type_bits(name)]


def reader(program: Program, instruction: Instruction, operand: Operand, kind: str) -> Read:
    """What reads ``operand`` as PTX type ``kind``; raises :class:`NotSimulated` for an operand of another sort."""
    dtype = DTYPES[kind]
    if isinstance(operand, Register):
        if operand.name in program.register_index:
            return _register_reader(program, operand.name, dtype)
        return program.special_reader(instruction, operand.name, dtype)
    if isinstance(operand, Immediate):
        constant = immediate(operand, dtype)
        return lambda gang: constant
    if isinstance(operand, Negated):
        positive = reader(program, instruction, operand.operand, "pred")
        return lambda gang: ~positive(gang)
    if isinstance(operand, Symbol):
        where = program.symbol_reader(instruction, operand)
        return lambda gang: where(gang).astype(dtype)
    raise not_simulated(instruction, f"operand '{operand}' of type .{kind} in '{instruction.name}'")


def _register_reader(program: Program, name: str, dtype: np.dtype[Any]) -> Read:
    index = program.register_index[name]
    raw = raw_type(program.kernel.registers[name])
    if raw.itemsize > dtype.itemsize and dtype.kind != "b" and raw.kind != "b":
        narrow = RAW[dtype.itemsize * 8]

        def read_low(gang: Gang) -> Lanes:
            value = gang.registers[index]
            if value is None or index in gang.watched:
                value = gang.unusual(index)
            return value.astype(narrow).view(dtype)

        return read_low
    if raw.itemsize < dtype.itemsize:
        signed = np.dtype(f"i{raw.itemsize}") if dtype.kind == "i" else raw

        def read_extended(gang: Gang) -> Lanes:
            value = gang.registers[index]
            if value is None or index in gang.watched:
                value = gang.unusual(index)
            return value.view(signed).astype(dtype)

        return read_extended
    if raw == dtype:

        def read_raw(gang: Gang) -> Lanes:
            value = gang.registers[index]
            return gang.unusual(index) if value is None or index in gang.watched else value

        return read_raw

    def read(gang: Gang) -> Lanes:
        value = gang.registers[index]
        return (gang.unusual(index) if value is None or index in gang.watched else value).view(dtype)

    return read


def immediate(operand: Immediate, dtype: np.dtype[Any]) -> Lanes:
    """The constant as an array of one element."""
    if dtype.kind == "b":
        return np.array([operand.value != 0])
    if operand.kind == "integer" and dtype.kind in "iu":
        bits = operand.value % (1 << 8 * dtype.itemsize)
        return np.array([bits], RAW[8 * dtype.itemsize]).view(dtype)
    if operand.kind == "integer":
        return np.array([operand.value]).astype(dtype)
    if operand.kind == "f32":
        value: Any = np.array([operand.value], np.uint32)
        if dtype.kind in "iu":
            return value.astype(RAW[8 * dtype.itemsize]).view(dtype)
        return value.view(np.float32).astype(dtype)
    if dtype.kind in "iu":
        return np.array([operand.value % (1 << 8 * dtype.itemsize)], RAW[8 * dtype.itemsize]).view(dtype)
    return np.array(struct.unpack("<d", struct.pack("<Q", operand.value)), np.float64).astype(dtype)


def writer(program: Program, instruction: Instruction, operand: Operand) -> Write:
    """What writes to ``operand``, a register or ``_``, values of any dtype; narrower ones are extended."""
    if isinstance(operand, Sink):
        return lambda gang, values: None
    if not isinstance(operand, Register) or operand.name not in program.register_index:
        raise not_simulated(instruction, f"destination '{operand}' in '{instruction.name}'")
    index = program.register_index[operand.name]
    raw = raw_type(program.kernel.registers[operand.name])
    is_of_wgmma = index in program.wgmma_registers

    def write(gang: Gang, values: Lanes) -> None:
        if values.dtype != raw:
            if values.dtype.itemsize == raw.itemsize:
                values = values.view(raw)
            elif values.dtype.kind in "iu":
                values = values.astype(np.dtype(f"i{raw.itemsize}") if values.dtype.kind == "i" else raw).view(raw)
            else:
                values = values.view(RAW[8 * values.dtype.itemsize]).astype(raw)
        if is_of_wgmma:
            gang.dirty.add(index)
        gang.write(index, values)

    return write


def guard(program: Program, instruction: Instruction) -> Read:
    """What reads the predicate that guards ``instruction``."""
    assert instruction.predicate is not None
    positive = reader(program, instruction, Register(instruction.predicate.register), "pred")
    return (lambda gang: ~positive(gang)) if instruction.predicate.negated else positive
