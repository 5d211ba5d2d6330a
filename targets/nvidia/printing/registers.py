"""PTX text under construction: typed virtual registers, the registers of every value, blocks of lines, parallel copies.

A value is a tuple of registers: one of a scalar, one per member of a struct or vector. Taking a struct apart and
putting it together are no instructions. A pointer is a register and a constant that accesses add to it.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from math import copysign

from xdsl.dialects import arith
from xdsl.dialects.builtin import (
    BFloat16Type,
    Float8E4M3FNType,
    Float8E5M2Type,
    Float16Type,
    Float32Type,
    Float64Type,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    VectorType,
    i32,
)
from xdsl.dialects.llvm import LLVMPointerType, LLVMStructType
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.utils.hints import isa

from crosstile.ir.diagnostics import CrosstileError, first_file_location

CLASSES = {"p": ".pred", "h": ".b16", "r": ".b32", "rd": ".b64", "f": ".f32", "fd": ".f64"}
"""Prefix of a virtual register's name and its PTX type."""
BITS = {"h": 16, "r": 32, "rd": 64, "f": 32, "fd": 64}

Registers = tuple[str, ...]


def members(type_: Attribute) -> list[Attribute]:
    """The types of the registers that hold a value of ``type_``."""
    if isinstance(type_, LLVMStructType):
        # A vector in a struct is a word of a matrix instruction's accumulator, a pair of f16.
        return [member for part in type_.types for member in ([i32] if isa(part, VectorType) else members(part))]
    if isa(type_, VectorType):
        count = 1
        for size in type_.get_shape():
            count *= size
        return [type_.element_type] * count
    return [type_]


def register_class(type_: Attribute) -> str:
    """The class of the register of a scalar."""
    match type_:
        case Float32Type():
            return "f"
        case Float64Type():
            return "fd"
        case BFloat16Type() | Float16Type() | Float8E4M3FNType() | Float8E5M2Type():
            return "h"
        case IndexType():
            return "r"
        case IntegerType():
            width = type_.bitwidth
            return "p" if width == 1 else "h" if width <= 16 else "r" if width == 32 else "rd"
        case LLVMPointerType():
            space = getattr(type_.addr_space, "data", 0)
            return "r" if space in (3, 7) else "rd"
        case _:
            raise CrosstileError(f"a value of type {type_} has no register")


def suffix(type_: Attribute) -> str:
    """The type of an arithmetic instruction on signed integers or floats."""
    kind = register_class(type_)
    return {"f": "f32", "fd": "f64", "r": "s32", "rd": "s64", "h": "s16", "p": "pred"}[kind]


def literal(value: FloatAttr | IntegerAttr) -> str:
    """A constant as PTX writes it."""
    if isinstance(value, IntegerAttr):
        return str(value.value.data)
    number = value.value.data
    match value.type:
        case Float32Type():
            return "0f" + struct.pack(">f", number).hex().upper()
        case Float64Type():
            return "0d" + struct.pack(">d", number).hex().upper()
        case Float16Type():
            return "0x" + struct.pack(">e", number).hex().upper()
        case BFloat16Type():
            import ml_dtypes
            import numpy as np

            return f"0x{int(np.asarray(number, ml_dtypes.bfloat16).view(np.uint16)):04X}"
        case Float8E4M3FNType() | Float8E5M2Type() if number == 0 and copysign(1.0, number) > 0:
            return "0"
        case _:
            raise CrosstileError(f"there are no constants of type {value.type} in PTX")


class Text:
    """The body of one function."""

    def __init__(self):
        self.lines: list[str] = []
        self.counts = dict.fromkeys(CLASSES, 0)
        self.labels = 0
        self._values: dict[SSAValue, Registers] = {}
        self._offsets: dict[SSAValue, int] = {}
        self._location: tuple[int, int] | None = None
        self.files: list[str] = []
        self.prepared: dict[Operation, Registers] = {}
        """Registers that have been chosen for an operation before it is printed."""

    # Lines

    def line(self, text: str) -> None:
        """One instruction."""
        self.lines.append(f"\t{text};")

    def label(self, name: str) -> None:
        """A place to jump to."""
        self.lines.append(f"{name}:")

    def new_label(self, stem: str) -> str:
        """A name of a place."""
        self.labels += 1
        return f"${stem}_{self.labels}"

    @contextmanager
    def aside(self) -> Generator[list[str]]:
        """Collect lines instead of writing them."""
        kept, self.lines = self.lines, []
        collected = self.lines
        try:
            yield collected
        finally:
            self.lines = kept

    def locate(self, op: Operation) -> None:
        """``.loc`` of the operation whose instructions follow."""
        place = first_file_location(op.location)
        if place is None:
            return
        where = place.line.data, place.column.data
        if where != self._location:
            self._location = where
            name = place.filename.data
            if name not in self.files:
                self.files.append(name)
            self.lines.append(f"\t.loc {self.files.index(name) + 1} {where[0]} {where[1]}")

    def forget_location(self) -> None:
        """The next line may be reached from elsewhere."""
        self._location = None

    # Registers

    def fresh(self, type_: Attribute) -> Registers:
        """New registers for a value of ``type_``."""
        return tuple(self.register(register_class(member)) for member in members(type_))

    def register(self, kind: str) -> str:
        """One new register of a class."""
        self.counts[kind] += 1
        return f"%{kind}{self.counts[kind]}"

    def define(self, value: SSAValue) -> Registers:
        """New registers for ``value``."""
        self._values[value] = found = self.fresh(value.type)
        return found

    def one(self, value: SSAValue) -> str:
        """A new register for a scalar."""
        (found,) = self.define(value)
        return found

    def alias(self, value: SSAValue, registers: Registers) -> None:
        """``value`` is in these registers."""
        self._values[value] = registers

    def registers(self, value: SSAValue) -> Registers:
        """The registers of a value; constants are moved into one."""
        if (known := self._values.get(value)) is not None:
            if (offset := self._offsets.get(value)) and isinstance(value.type, LLVMPointerType):
                moved = self.fresh(value.type)
                self.line(f"add.{suffix(value.type)} {moved[0]}, {known[0]}, {offset}")
                return moved
            return known
        constant = self.constant(value)
        if constant is None:
            raise CrosstileError(f"a value of type {value.type} is used before it is printed")
        moved = self.fresh(value.type)
        self.move(moved[0], constant)
        return moved

    def get(self, value: SSAValue) -> str:
        """The register of a scalar."""
        return self.registers(value)[0]

    def operand(self, value: SSAValue) -> str:
        """The register of a scalar, or the constant itself."""
        constant = None if value in self._values else self.constant(value)
        return self.get(value) if constant is None or register_class(value.type) == "p" else constant

    def constant(self, value: SSAValue) -> str | None:
        """A constant as text."""
        owner = value.owner
        if isinstance(owner, arith.ConstantOp) and isinstance(owner.value, FloatAttr | IntegerAttr):
            if isinstance(owner.value, IntegerAttr) and register_class(value.type) == "p":
                return str(int(owner.value.value.data != 0))
            return literal(owner.value)
        return None

    def move(self, to: str, source: str) -> None:
        """Copy a register or constant into a register."""
        kind = to.lstrip("%").rstrip("0123456789")
        if kind == "p" and not source.startswith("%"):
            self.line(f"setp.ne.s32 {to}, {source}, 0")
            return
        self.line(f"mov{CLASSES[kind] if kind != 'p' else '.pred'} {to}, {source}")

    # Pointers

    def alias_pointer(self, value: SSAValue, register: str, offset: int) -> None:
        """``value`` points ``offset`` bytes behind where ``register`` points."""
        self._values[value] = (register,)
        self._offsets[value] = offset

    def pointer(self, value: SSAValue) -> tuple[str, int]:
        """The register and the constant of a pointer."""
        return self._values[value][0], self._offsets.get(value, 0)

    def address(self, value: SSAValue) -> str:
        """A pointer as the operand of an access."""
        register, offset = self.pointer(value)
        return f"[{register}+{offset}]" if offset else f"[{register}]"

    # Copies

    def copy(self, targets: Sequence[str], sources: Sequence[str]) -> None:
        """All copies at once: no source is read after it has been overwritten."""
        pending = {to: source for to, source in zip(targets, sources, strict=True) if to != source}
        while pending:
            free = [to for to in pending if to not in pending.values()]
            if not free:  # a cycle: keep one of its values aside
                to = next(iter(pending))
                kind = to.lstrip("%").rstrip("0123456789")
                kept = self.register(kind)
                self.move(kept, to)
                pending = {target: kept if source == to else source for target, source in pending.items()}
                continue
            for to in free:
                self.move(to, pending.pop(to))
