"""Integer arithmetic, logic and shifts.

Level: the simulator's rules. In: decoded instructions. Out: one closure each. PTX ISA, "Integer Arithmetic
Instructions", "Logic and Shift Instructions". ``and``, ``or``, ``xor`` and ``not`` also work on predicates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosstile.targets.nvidia.ptx.module import Immediate, Instruction
from crosstile.targets.nvidia.simulator.faults import not_simulated
from crosstile.targets.nvidia.simulator.operands import DTYPES, reader, writer
from crosstile.targets.nvidia.simulator.rounding import where

if TYPE_CHECKING:
    from crosstile.targets.nvidia.simulator.program import Execute, Program

Lanes = NDArray[Any]
Function = (
    Callable[[Any], Any]
    | Callable[[Any, Any], Any]
    | Callable[[Any, Any, Any], Any]
    | Callable[[Any, Any, Any, Any], Any]
)
"""What an instruction does to its sources, arrays over the lanes."""


def elementwise(program: Program, instruction: Instruction, function: Function, kinds: tuple[str, ...]) -> Execute:
    """Applies ``function`` to the sources, read as types ``kinds``, and writes what it gives to the destination."""
    apply: Any = function
    write = writer(program, instruction, instruction.operands[0])
    reads = [reader(program, instruction, one, kind) for one, kind in zip(instruction.operands[1:], kinds, strict=True)]
    if len(reads) == 1:
        (first,) = reads
        return lambda gang: write(gang, apply(first(gang)))
    if len(reads) == 2:
        first, second = reads
        return lambda gang: write(gang, apply(first(gang), second(gang)))
    if len(reads) == 3:
        first, second, third = reads
        return lambda gang: write(gang, apply(first(gang), second(gang), third(gang)))
    return lambda gang: write(gang, apply(*(read(gang) for read in reads)))


def is_integer(kind: str) -> bool:
    """Whether a type is a scalar integer."""
    return kind[0] in "su" and "x" not in kind


def _wide(values: Lanes) -> Lanes:
    """64-bit values of the same sign; products of two 32-bit values fit."""
    return values.astype(np.int64 if values.dtype.kind == "i" else np.uint64)


def _twice(kind: str) -> np.dtype[Any]:
    return np.dtype(f"{'i' if kind[0] == 's' else 'u'}{DTYPES[kind].itemsize * 2}")


def multiply_high(a: Lanes, b: Lanes) -> Lanes:
    """The upper half of the product of two arrays of one integer type."""
    size = a.dtype.itemsize
    if size < 8:
        return (_wide(a) * _wide(b) >> (8 * size)).astype(a.dtype)
    exact = [int(x) * int(y) >> 64 for x, y in np.broadcast(a, b)]
    bits = np.array([value % (1 << 64) for value in exact], np.uint64)
    return bits.view(a.dtype)


def _product(instruction: Instruction) -> tuple[str, str, Callable[[Lanes, Lanes], Lanes]]:
    """The source type, the result type and the product that mul and mad share."""
    kind = instruction.modifiers[-1]
    mode = instruction.modifiers[0]
    if mode == "lo":
        return kind, kind, np.multiply
    if mode == "hi":
        return kind, kind, multiply_high
    if mode == "wide":
        twice = _twice(kind)
        return kind, f"{kind[0]}{twice.itemsize * 8}", lambda a, b: a.astype(twice) * b.astype(twice)
    raise not_simulated(instruction, f"mode '.{mode}' of '{instruction.opcode}'; it has .lo, .hi and .wide")


def multiply(program: Program, instruction: Instruction) -> Execute:
    """``mul.{lo,hi,wide}``."""
    kind, _, product = _product(instruction)
    return elementwise(program, instruction, product, (kind, kind))


def multiply_add(program: Program, instruction: Instruction) -> Execute:
    """``mad.{lo,hi,wide}``."""
    kind, result, product = _product(instruction)
    return elementwise(program, instruction, lambda a, b, c: product(a, b) + c, (kind, kind, result))


def add(program: Program, instruction: Instruction) -> Execute:
    """``add`` and ``sub`` of integers; ``.sat`` for s32 only."""
    kind = instruction.modifiers[-1]
    operation: Any = np.add if instruction.opcode == "add" else np.subtract
    if "cc" in instruction.modifiers:
        raise not_simulated(instruction, "carry flag")
    if "sat" in instruction.modifiers:
        limits = np.iinfo(np.int32)

        def saturated(a: Lanes, b: Lanes) -> Lanes:
            return operation(a.astype(np.int64), b.astype(np.int64)).clip(limits.min, limits.max).astype(np.int32)

        return elementwise(program, instruction, saturated, (kind, kind))
    if kind.endswith("x2"):
        return elementwise(program, instruction, _packed(operation, kind), (kind, kind))
    return elementwise(program, instruction, operation, (kind, kind))


def _packed(operation: Any, kind: str) -> Function:
    half = np.dtype("i2" if kind[0] == "s" else "u2")

    def packed(*values: Lanes) -> Lanes:
        parts = [np.ascontiguousarray(value).view(half).reshape(-1, 2) for value in values]
        return np.ascontiguousarray(operation(*parts)).view(np.uint32).reshape(-1)

    return packed


def _quotient(a: Lanes, b: Lanes) -> Lanes:
    zero = b == 0
    safe = where(zero, np.ones_like(b), b)
    result = a // safe
    if a.dtype.kind == "i":
        result = result + ((a % safe != 0) & ((a < 0) != (safe < 0)))
    return where(zero, np.full_like(result, -1 if a.dtype.kind == "i" else np.iinfo(a.dtype).max), result)


def _remainder(a: Lanes, b: Lanes) -> Lanes:
    return where(b == 0, a, a - _quotient(a, b) * b)


def shift_left(a: Any, amount: Any) -> Any:
    """``shl``: amounts of the width or more give zero."""
    bits = 8 * a.dtype.itemsize
    return where(amount >= bits, a.dtype.type(0), a << np.minimum(amount, bits - 1).astype(a.dtype))


def shift_right(a: Any, amount: Any) -> Any:
    """``shr``: amounts of the width or more give zero, or the sign."""
    bits = 8 * a.dtype.itemsize
    limited = np.minimum(amount, bits - 1).astype(a.dtype)
    return a >> limited if a.dtype.kind == "i" else where(amount >= bits, a.dtype.type(0), a >> limited)


def _shift(program: Program, instruction: Instruction) -> Execute:
    function = shift_left if instruction.opcode == "shl" else shift_right
    return elementwise(program, instruction, function, (instruction.modifiers[-1], "u32"))


def _funnel(program: Program, instruction: Instruction) -> Execute:
    left = instruction.modifiers[0] == "l"
    clamp = instruction.modifiers[1] == "clamp"

    def shift(low: Lanes, high: Lanes, amount: Lanes) -> Lanes:
        both = high.astype(np.uint64) << np.uint64(32) | low.astype(np.uint64)
        by = (np.minimum(amount, 32) if clamp else amount & 31).astype(np.uint64)
        shifted = both << by >> np.uint64(32) if left else both >> by
        return (shifted & np.uint64(0xFFFFFFFF)).astype(np.uint32)

    return elementwise(program, instruction, shift, ("b32", "b32", "u32"))


def _lop3(program: Program, instruction: Instruction) -> Execute:
    *_, table = instruction.operands
    if not isinstance(table, Immediate) or len(instruction.operands) != 5:
        raise not_simulated(instruction, "lop3 with a predicate")
    terms = [index for index in range(8) if table.value >> index & 1]

    def lookup(a: Lanes, b: Lanes, c: Lanes, _: Lanes) -> Lanes:
        result = np.zeros(np.broadcast_shapes(a.shape, b.shape, c.shape), np.uint32)
        for term in terms:
            result |= (a if term & 4 else ~a) & (b if term & 2 else ~b) & (c if term & 1 else ~c)
        return result

    return elementwise(program, instruction, lookup, ("b32", "b32", "b32", "u32"))


def _permute(program: Program, instruction: Instruction) -> Execute:
    if len(instruction.modifiers) > 1:
        raise not_simulated(instruction, f"mode '.{instruction.modifiers[1]}' of prmt")

    def permute(a: Lanes, b: Lanes, selector: Lanes) -> Lanes:
        both = b.astype(np.uint64) << np.uint64(32) | a.astype(np.uint64)
        result = np.zeros(np.broadcast_shapes(both.shape, selector.shape), np.uint64)
        for place in range(4):
            choice = selector >> np.uint32(4 * place) & np.uint32(15)
            byte = both >> ((choice & np.uint32(7)).astype(np.uint64) * np.uint64(8)) & np.uint64(255)
            sign = where(byte & np.uint64(128), np.uint64(255), np.uint64(0))
            result |= where(choice & np.uint32(8), sign, byte) << np.uint64(8 * place)
        return result.astype(np.uint32)

    return elementwise(program, instruction, permute, ("b32", "b32", "b32"))


def _extract(program: Program, instruction: Instruction) -> Execute:
    kind = instruction.modifiers[-1]
    bits = DTYPES[kind].itemsize * 8

    def extract(a: Any, position: Any, length: Any) -> Any:
        start, count = (x.astype(np.int64) & 255 for x in (position, length))
        start, count, values = np.broadcast_arrays(start, count, a)
        unsigned = (
            values.view(f"u{a.dtype.itemsize}") if values.flags.c_contiguous else values.astype(f"u{a.dtype.itemsize}")
        )
        field = shift_right(unsigned, start)
        kept = np.clip(np.minimum(count, bits - start), 0, bits)
        mask = where(kept >= bits, ~field.dtype.type(0), shift_left(np.ones_like(field), kept) - field.dtype.type(1))
        field = field & mask
        if kind[0] == "u":
            return field
        last = np.minimum(np.maximum(start + count - 1, 0), bits - 1)
        sign = (shift_right(unsigned, last) & field.dtype.type(1)) * (count > 0)
        return where(sign != 0, field | ~mask, field).astype(unsigned.dtype).view(a.dtype)

    return elementwise(program, instruction, extract, (kind, "u32", "u32"))


def _insert(program: Program, instruction: Instruction) -> Execute:
    kind = instruction.modifiers[-1]
    bits = DTYPES[kind].itemsize * 8

    def insert(a: Any, b: Any, position: Any, length: Any) -> Any:
        start, count = (x.astype(np.int64) & 255 for x in (position, length))
        one = np.ones(np.broadcast_shapes(a.shape, b.shape, start.shape, count.shape), a.dtype)
        mask = where(count >= bits, ~a.dtype.type(0), shift_left(one, np.minimum(count, bits)) - a.dtype.type(1))
        mask = shift_left(mask, start)
        return b & ~mask | shift_left(a + np.zeros_like(one), start) & mask

    return elementwise(program, instruction, insert, (kind, kind, "u32", "u32"))


def _reverse(a: Lanes) -> Lanes:
    data = np.ascontiguousarray(a).view(np.uint8).reshape(len(a), -1)
    return (
        np.packbits(np.unpackbits(data, axis=1, bitorder="little")[:, ::-1], axis=1, bitorder="little")
        .view(a.dtype)
        .reshape(-1)
    )


def _leading_zeros(a: Lanes) -> Lanes:
    bits = 8 * a.dtype.itemsize
    data = np.unpackbits(np.ascontiguousarray(a).view(np.uint8).reshape(len(a), -1), axis=1, bitorder="little")[:, ::-1]
    return where(data.any(axis=1), data.argmax(axis=1), bits).astype(np.uint32)


def _find_leading(program: Program, instruction: Instruction) -> Execute:
    kind = instruction.modifiers[-1]
    is_shift = "shiftamt" in instruction.modifiers

    def find(a: Lanes) -> Lanes:
        values = where(a < 0, ~a, a) if kind[0] == "s" else a
        zeros = _leading_zeros(np.ascontiguousarray(values).view(f"u{a.dtype.itemsize}"))
        bits = 8 * a.dtype.itemsize
        found = zeros if is_shift else np.uint32(bits - 1) - zeros
        return where(zeros == bits, np.uint32(0xFFFFFFFF), found)

    return elementwise(program, instruction, find, (kind,))


def _dot4(program: Program, instruction: Instruction) -> Execute:
    kinds = instruction.modifiers

    def parts(values: Lanes, kind: str) -> Lanes:
        return (
            np.ascontiguousarray(values).view(np.int8 if kind[0] == "s" else np.uint8).reshape(-1, 4).astype(np.int32)
        )

    def dot(a: Lanes, b: Lanes, c: Lanes) -> Lanes:
        return (parts(a, kinds[0]) * parts(b, kinds[1])).sum(axis=1, dtype=np.int32) + c.view(np.int32)

    return elementwise(program, instruction, dot, ("b32", "b32", "s32"))


def _unary(function: Function, fixed: str | None = None) -> Callable[[Program, Instruction, int], Execute]:
    def rule(program: Program, instruction: Instruction, site: int) -> Execute:
        return elementwise(program, instruction, function, (fixed or instruction.modifiers[-1],))

    return rule


def _binary(function: Function) -> Callable[[Program, Instruction, int], Execute]:
    def rule(program: Program, instruction: Instruction, site: int) -> Execute:
        kind = instruction.modifiers[-1]
        return elementwise(program, instruction, function, (kind, kind))

    return rule


RULES: dict[str, Callable[[Program, Instruction, int], Execute]] = {
    "and": _binary(np.bitwise_and),
    "or": _binary(np.bitwise_or),
    "xor": _binary(np.bitwise_xor),
    "not": _unary(np.invert),
    "cnot": _unary(lambda a: (a == 0).astype(a.dtype)),
    "rem": _binary(_remainder),
    "popc": _unary(lambda a: np.bitwise_count(a).astype(np.uint32)),
    "clz": _unary(_leading_zeros),
    "brev": _unary(_reverse),
    "shl": lambda program, instruction, site: _shift(program, instruction),
    "shr": lambda program, instruction, site: _shift(program, instruction),
    "shf": lambda program, instruction, site: _funnel(program, instruction),
    "lop3": lambda program, instruction, site: _lop3(program, instruction),
    "prmt": lambda program, instruction, site: _permute(program, instruction),
    "bfe": lambda program, instruction, site: _extract(program, instruction),
    "bfi": lambda program, instruction, site: _insert(program, instruction),
    "bfind": lambda program, instruction, site: _find_leading(program, instruction),
    "dp4a": lambda program, instruction, site: _dot4(program, instruction),
    "sad": lambda program, instruction, site: elementwise(
        program,
        instruction,
        lambda a, b, c: where(a < b, b - a, a - b) + c,
        (instruction.modifiers[-1],) * 3,
    ),
}
"""Opcodes that exist for integers only; :mod:`~crosstile.targets.nvidia.simulator.arithmetic` has the others."""

INTEGER: dict[str, Callable[[Program, Instruction], Execute]] = {
    "add": add,
    "sub": add,
    "mul": multiply,
    "mad": multiply_add,
    "div": lambda program, instruction: elementwise(program, instruction, _quotient, (instruction.modifiers[-1],) * 2),
    "min": lambda program, instruction: elementwise(program, instruction, np.minimum, (instruction.modifiers[-1],) * 2),
    "max": lambda program, instruction: elementwise(program, instruction, np.maximum, (instruction.modifiers[-1],) * 2),
    "abs": lambda program, instruction: elementwise(program, instruction, np.abs, (instruction.modifiers[-1],)),
    "neg": lambda program, instruction: elementwise(program, instruction, np.negative, (instruction.modifiers[-1],)),
}
"""The integer forms of opcodes that floating point has, too."""
