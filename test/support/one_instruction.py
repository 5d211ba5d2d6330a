"""PTX kernels of one instruction each, made from machine rows: ptxas says whether the instruction exists."""

from __future__ import annotations

from collections.abc import Iterable

from crosstile.targets.model import ELEMENT_BITS, MatrixMove, MmaIntrinsic

_PTX_TYPE = {"f8E4M3FN": "e4m3", "f8E5M2": "e5m2", "si8": "s8", "ui8": "u8", "i32": "s32"}


def ptx_type(element: str) -> str:
    """PTX's name of an element type of the model."""
    return _PTX_TYPE.get(element, element)


def module(rows: Iterable[MmaIntrinsic | MatrixMove], architecture: str) -> str:
    """A PTX module with a kernel for each row."""
    head = f".version 8.4\n.target {architecture}\n.address_size 64\n"
    return head + "".join(_kernel(f"k{i}", row) for i, row in enumerate(rows))


def _kernel(name: str, row: MmaIntrinsic | MatrixMove) -> str:
    body = _move(row) if isinstance(row, MatrixMove) else _product(row)
    declared = ".reg .b32 %r<300>; .reg .f32 %f<300>; .reg .f64 %d<300>; .reg .b64 %q<3>; .reg .pred %p<2>;"
    return f".visible .entry {name}() {{\n{declared}\n{body}\nret;\n}}\n"


def _registers(element: str, elements: int, first: int) -> str:
    """As many registers as hold ``elements`` of a lane."""
    bits = ELEMENT_BITS[element]
    prefix = {"f64": "d", "f32": "f"}.get(element, "r")
    count = elements * bits // (64 if bits == 64 else 32)
    return "{" + ", ".join(f"%{prefix}{first + i}" for i in range(count)) + "}"


def _product(row: MmaIntrinsic) -> str:
    unit, shape = row.name.split(".")[1], f"m{row.m}n{row.n}k{row.k}"
    types = [ptx_type(operand.element) for operand in (row.accumulator, row.lhs, row.rhs)]
    assert row.accumulator.layout is not None and row.lhs.layout is not None
    if unit.startswith("fma"):
        kind = {"f32": "f", "f64": "d"}[types[0]]
        return f"fma.rn.{types[0]} %{kind}0, %{kind}1, %{kind}2, %{kind}3;"
    sums = _registers(row.accumulator.element, row.accumulator.layout.size("register"), 0)
    left = _registers(row.lhs.element, row.lhs.layout.size("register"), 200)
    if unit == "wgmma":
        flags = "" if types[0] == "s32" else ", 1, 1"
        flags_a = flags + (", 0, 0" if ELEMENT_BITS[row.lhs.element] == 16 else "")
        flags_r = flags + (", 0" if ELEMENT_BITS[row.lhs.element] == 16 else "")
        opcode = f"wgmma.mma_async.sync.aligned.{shape}.{'.'.join(types)}"
        return f"{opcode} {sums}, %q0, %q1, %p0{flags_a};\n{opcode} {sums}, {left}, %q1, %p0{flags_r};"
    assert row.rhs.layout is not None
    right = _registers(row.rhs.element, row.rhs.layout.size("register"), 250)
    return f"mma.sync.aligned.{shape}.row.col.{'.'.join([*types, types[0]])} {sums}, {left}, {right}, {sums};"


def _move(row: MatrixMove) -> str:
    _, instruction, count, *transposed = row.name.split(".")
    opcode = ".".join((instruction, "sync.aligned.m8n8", count, *transposed, "shared.b16"))
    registers = "{" + ", ".join(f"%r{i}" for i in range(int(count[1:]))) + "}"
    return f"{opcode} [%r100], {registers};" if row.store else f"{opcode} {registers}, [%r100];"
