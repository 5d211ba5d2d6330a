"""Floating point arithmetic: f16, bf16, f32, f64 and the packed pairs.

Level: the simulator's rules. In: decoded instructions. Out: one closure each. PTX ISA, "Floating Point Instructions",
"Half Precision Floating Point Instructions". add, sub, mul, fma, div.rn, rcp.rn and sqrt.rn are rounded once, exactly
as the mode says; the ``.approx`` and ``.full`` functions are computed in float64 and rounded to nearest, which lies
inside the errors that the PTX ISA documents but is not the bits of any chip.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from crosstile.targets.fma import flush, fma, odd_sum
from crosstile.targets.nvidia.ptx.module import Instruction
from crosstile.targets.nvidia.simulator.faults import not_simulated
from crosstile.targets.nvidia.simulator.integer import INTEGER, elementwise, is_integer
from crosstile.targets.nvidia.simulator.rounding import canonical, round_to

if TYPE_CHECKING:
    from crosstile.targets.nvidia.simulator.program import Execute, Program

Lanes = NDArray[Any]
Function = Callable[..., Any]
Unary = Callable[[Any], Any]

_HALVES = {"f16x2": np.dtype(np.float16), "bf16x2": np.dtype(ml_dtypes.bfloat16), "f32x2": np.dtype(np.float32)}


def _fma(a: Lanes, b: Lanes, c: Lanes) -> Lanes:
    return np.atleast_1d(fma(a, b, c))


_EXACT: dict[str, Function] = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "fma": _fma, "mad": _fma}
_SOURCES = {"fma": 3, "mad": 3, "neg": 1, "abs": 1}


def _directed(opcode: str, mode: str) -> Function:
    """The operation on float32 arrays rounded by ``mode``."""

    def operation(*values: Lanes) -> Lanes:
        wide = [value.astype(np.float64) for value in values]
        if opcode in ("add", "sub"):
            x, y = np.broadcast_arrays(wide[0], wide[1] if opcode == "add" else -wide[1])
            total = odd_sum(x.copy(), y.copy())
        elif opcode == "mul":
            total = wide[0] * wide[1]
        else:
            x, y = np.broadcast_arrays(wide[0] * wide[1], wide[2])
            total = odd_sum(x.copy(), y.copy())
        return round_to(total, values[0].dtype, mode)

    return operation


def _minimum(a: Lanes, b: Lanes) -> Lanes:
    return _signed_zero(np.fmin(a, b), a, b, np.bitwise_or)


def _maximum(a: Lanes, b: Lanes) -> Lanes:
    return _signed_zero(np.fmax(a, b), a, b, np.bitwise_and)


def _signed_zero(result: Lanes, a: Lanes, b: Lanes, operation: Any) -> Lanes:
    """-0 is below +0; PTX ISA, min and max."""
    zero = (result == 0) & (a == b)
    if zero.any():
        x, y = np.broadcast_arrays(a, b)
        kind = f"u{a.dtype.itemsize}"
        both = operation(np.ascontiguousarray(x).view(kind), np.ascontiguousarray(y).view(kind))
        result = np.where(zero, both.view(a.dtype), result)
    return result


def _nan_or(function: Function) -> Function:
    def propagate(a: Lanes, b: Lanes) -> Lanes:
        result = np.broadcast_arrays(function(a, b), a)[0].copy()
        bad = (a != a) | (b != b)
        result[np.broadcast_to(bad, result.shape)] = np.nan
        return result

    return propagate


def _of_three(function: Function) -> Function:
    def three(a: Lanes, b: Lanes, c: Lanes) -> Lanes:
        return function(function(a, b), c)

    return three


def _xor_sign(function: Function) -> Function:
    def magnitude(a: Lanes, b: Lanes) -> Lanes:
        kind = f"u{a.dtype.itemsize}"
        x, y = (np.ascontiguousarray(part) for part in np.broadcast_arrays(a, b))
        sign = x.dtype.type(1) * np.where(np.signbit(x) != np.signbit(y), -1, 1).astype(x.dtype)
        return np.copysign(function(np.abs(x), np.abs(y)), sign).astype(x.dtype).view(kind).view(x.dtype)

    return magnitude


def _sign_bit(opcode: str, dtype: np.dtype[Any]) -> Function:
    bit = np.dtype(f"u{dtype.itemsize}").type(1 << (8 * dtype.itemsize - 1))

    def change(a: Lanes) -> Lanes:
        bits = np.ascontiguousarray(a).view(f"u{dtype.itemsize}")
        return (bits ^ bit if opcode == "neg" else bits & ~bit).view(dtype)

    return change


def _finish(instruction: Instruction, function: Function, dtype: np.dtype[Any], keeps_nan: bool = False) -> Function:
    """``function`` with the modifiers .ftz, .sat and .relu, and the hardware's NaN."""
    modifiers = instruction.modifiers
    ftz = "ftz" in modifiers and dtype == np.float32
    saturate, relu = "sat" in modifiers, "relu" in modifiers

    def finished(*values: Lanes) -> Lanes:
        if ftz:
            values = tuple(flush(value) for value in values)
        result = np.array(function(*values), dtype, ndmin=1, copy=None)
        if ftz:
            result = flush(result)
        if saturate:
            result = np.where(result != result, result.dtype.type(0), np.clip(result, 0, 1).astype(dtype)) + dtype.type(
                0
            )
        if relu:
            result = np.where(result <= 0, dtype.type(0), result)
        return result if keeps_nan else canonical(result if result.flags.writeable else result.copy())

    return finished


def _packed(function: Function, half: np.dtype[Any]) -> Function:
    whole = np.dtype(f"u{2 * half.itemsize}")

    def packed(*values: Lanes) -> Lanes:
        parts = [np.ascontiguousarray(value).view(half).reshape(-1, 2) for value in values]
        return np.ascontiguousarray(function(*parts)).view(whole).reshape(-1)

    return packed


def _mode(instruction: Instruction) -> str:
    return next((mode for mode in instruction.modifiers if mode in ("rn", "rz", "rm", "rp")), "rn")


def _arithmetic(program: Program, instruction: Instruction, site: int) -> Execute:
    """add, sub, mul, mad, fma, min, max, neg and abs of every type."""
    kind, opcode = instruction.modifiers[-1], instruction.opcode
    if opcode in INTEGER and (
        is_integer(kind) or kind in ("u16x2", "s16x2") or (kind[0] == "b" and kind[1:].isdigit())
    ):
        return INTEGER[opcode](program, instruction)
    half = _HALVES.get(kind)
    dtype = half or np.dtype(
        {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32, "f64": np.float64}[kind]
    )
    mode = _mode(instruction)
    keeps_nan = False
    if opcode in ("neg", "abs"):
        function, keeps_nan = _sign_bit(opcode, dtype), True
    elif opcode in ("min", "max"):
        function = _minimum if opcode == "min" else _maximum
        if "NaN" in instruction.modifiers:
            function = _nan_or(function)
        if "abs" in instruction.modifiers:
            function = _xor_sign(function)
        if len(instruction.operands) == 4:
            function = _of_three(function)
    elif mode == "rn":
        function = _EXACT[opcode]
    elif dtype == np.float32:
        function = _directed(opcode, mode)
    else:
        raise not_simulated(instruction, f"rounding '.{mode}' of '{opcode}.{kind}'")
    function = _finish(instruction, function, dtype, keeps_nan)
    if half is not None:
        function = _packed(function, half)
    return elementwise(program, instruction, function, (kind,) * (len(instruction.operands) - 1))


def _divide(program: Program, instruction: Instruction, site: int) -> Execute:
    kind = instruction.modifiers[-1]
    if is_integer(kind):
        return INTEGER["div"](program, instruction)
    dtype = np.dtype(np.float32 if kind == "f32" else np.float64)
    mode = _mode(instruction)
    if mode != "rn":
        raise not_simulated(instruction, f"rounding '.{mode}' of 'div.{kind}'")
    return elementwise(program, instruction, _finish(instruction, np.divide, dtype), (kind, kind))


def _tanh(x: Lanes) -> Lanes:
    return np.tanh(x)


_FUNCTIONS: dict[str, Unary] = {
    "rcp": lambda x: 1.0 / x,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "sin": lambda x: np.sin(np.where(np.isinf(x), np.nan, x)),
    "cos": lambda x: np.cos(np.where(np.isinf(x), np.nan, x)),
    "lg2": np.log2,
    "ex2": np.exp2,
    "tanh": _tanh,
}


def _function(program: Program, instruction: Instruction, site: int) -> Execute:
    """Functions of one argument, in float64 and rounded once."""
    kind = instruction.modifiers[-1]
    half = _HALVES.get(kind)
    dtype = half or np.dtype(
        {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32, "f64": np.float64}[kind]
    )
    exact, mode = _FUNCTIONS[instruction.opcode], _mode(instruction)
    if dtype == np.float64 and mode != "rn":
        raise not_simulated(instruction, f"rounding '.{mode}' of '{instruction.opcode}.f64'")

    def function(a: Lanes) -> Lanes:
        value = exact(a.astype(np.float64))
        return value if dtype == np.float64 else round_to(value, dtype, mode)

    finished = _finish(instruction, function, dtype)
    return elementwise(program, instruction, _packed(finished, half) if half else finished, (kind,))


def _copysign(program: Program, instruction: Instruction, site: int) -> Execute:
    kind = instruction.modifiers[-1]
    return elementwise(program, instruction, lambda sign, value: np.copysign(value, sign), (kind, kind))


_TESTS: dict[str, Unary] = {
    "finite": np.isfinite,
    "infinite": np.isinf,
    "number": lambda x: ~np.isnan(x),
    "notanumber": np.isnan,
    "normal": lambda x: np.isfinite(x) & (np.abs(x) >= np.finfo(x.dtype).tiny),
    "subnormal": lambda x: (x != 0) & (np.abs(x) < np.finfo(x.dtype).tiny),
}


def _test(program: Program, instruction: Instruction, site: int) -> Execute:
    return elementwise(program, instruction, _TESTS[instruction.modifiers[0]], (instruction.modifiers[-1],))


RULES: dict[str, Callable[[Program, Instruction, int], Execute]] = {
    **dict.fromkeys(("add", "sub", "mul", "mad", "fma", "min", "max", "neg", "abs"), _arithmetic),
    **dict.fromkeys(_FUNCTIONS, _function),
    "div": _divide,
    "copysign": _copysign,
    "testp": _test,
}
