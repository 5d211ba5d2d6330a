"""cvt: conversions between all types, with their roundings, saturation and packing.

Level: the simulator's rules. In: ``cvt.<modifiers>.<to>.<from>``. Out: one closure. PTX ISA, "Data Movement and
Conversion Instructions: cvt". Floats become integers by rounding, then clamping to the range; NaN becomes 0, or the
smallest number for 64-bit results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from crosstile.targets.fma import flush
from crosstile.targets.nvidia.ptx.module import Instruction
from crosstile.targets.nvidia.simulator.faults import not_simulated
from crosstile.targets.nvidia.simulator.integer import elementwise, is_integer
from crosstile.targets.nvidia.simulator.operands import DTYPES
from crosstile.targets.nvidia.simulator.rounding import round_to, where

if TYPE_CHECKING:
    from crosstile.targets.nvidia.simulator.program import Execute, Program

Lanes = NDArray[Any]
Function = Callable[[Any], Any]

_INTEGRAL: dict[str, Function] = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
_FLOAT8 = {"e4m3x2": np.dtype(ml_dtypes.float8_e4m3fn), "e5m2x2": np.dtype(ml_dtypes.float8_e5m2)}
_LARGEST = {"e4m3x2": 448.0, "e5m2x2": 57344.0}
_PACKED = {"f16x2": np.dtype(np.float16), "bf16x2": np.dtype(ml_dtypes.bfloat16)}


def _convert(program: Program, instruction: Instruction, site: int) -> Execute:
    modifiers = instruction.modifiers
    to, source = modifiers[-2:]
    if to in _FLOAT8:
        return _to_float8(program, instruction)
    if source in _FLOAT8:
        return elementwise(program, instruction, _from_float8(source, _PACKED[to], "relu" in modifiers), ("b16",))
    if to in _PACKED:
        return _pack(program, instruction)
    if to == "tf32":
        return elementwise(program, instruction, _to_tf32(modifiers), ("f32",))
    if is_integer(to) and is_integer(source):
        return elementwise(program, instruction, _integer_to_integer(to, "sat" in modifiers), (source,))
    if is_integer(to):
        return elementwise(program, instruction, _float_to_integer(to, modifiers), (source,))
    if is_integer(source):
        return elementwise(program, instruction, _integer_to_float(to, modifiers), (source,))
    return elementwise(program, instruction, _float_to_float(to, source, modifiers), (source,))


def _mode(modifiers: tuple[str, ...]) -> str:
    if "rna" in modifiers or "rs" in modifiers:
        raise ValueError("rounding")
    return next((mode for mode in modifiers if mode in ("rn", "rz", "rm", "rp")), "rn")


def _integer_to_integer(to: str, saturate: bool) -> Function:
    dtype = DTYPES[to]
    if not saturate:
        return lambda a: a.astype(dtype)
    limits = np.iinfo(dtype)

    def clamp(a: Lanes) -> Lanes:
        own = np.iinfo(a.dtype)
        return a.clip(max(own.min, limits.min), min(own.max, limits.max)).astype(dtype)

    return clamp


def _float_to_integer(to: str, modifiers: tuple[str, ...]) -> Function:
    dtype = DTYPES[to]
    limits = np.iinfo(dtype)
    rounding = _INTEGRAL[next(mode for mode in modifiers if mode in _INTEGRAL)]
    if_nan = 0 if dtype.itemsize < 8 else 1 << 63

    def convert(a: Lanes) -> Lanes:
        if "ftz" in modifiers and a.dtype == np.float32:
            a = flush(a)
        wide = rounding(a.astype(np.float64))
        low, high = wide <= float(limits.min), wide >= float(limits.max)
        inside = where(low | high | np.isnan(wide), 0.0, wide).astype(dtype)
        result = where(low, dtype.type(limits.min), where(high, dtype.type(limits.max), inside))
        return where(np.isnan(wide), np.array(if_nan, f"u{dtype.itemsize}").astype(dtype), result).astype(dtype)

    return convert


def _integer_to_float(to: str, modifiers: tuple[str, ...]) -> Function:
    dtype, mode = DTYPES[to], _mode(modifiers)

    def convert(a: Lanes) -> Lanes:
        if a.dtype.itemsize < 8 or (dtype == np.float64 and mode == "rn"):
            return round_to(a.astype(np.float64), dtype, mode)
        if dtype == np.float64:
            raise ValueError(f".{mode}.f64")
        # 64 bits do not fit float64: the low ones are folded into the last one kept, which rounds to odd.
        magnitude = where(a < 0, -a, a).astype(np.uint64) if a.dtype.kind == "i" else a
        large = magnitude >= np.uint64(1 << 53)
        odd = magnitude >> np.uint64(11) << np.uint64(11)
        odd |= where(odd != magnitude, np.uint64(1 << 11), np.uint64(0))
        wide = where(large, odd, magnitude).astype(np.float64)
        return round_to(where(a < 0, -wide, wide), dtype, mode)

    return convert


def _float_to_float(to: str, source: str, modifiers: tuple[str, ...]) -> Function:
    dtype = DTYPES[to]
    integral = next((_INTEGRAL[mode] for mode in modifiers if mode in _INTEGRAL), None)
    mode = _mode(modifiers)
    ftz, saturate, relu = ("ftz" in modifiers, "sat" in modifiers, "relu" in modifiers)

    def convert(a: Lanes) -> Lanes:
        if ftz and a.dtype == np.float32:
            a = flush(a)
        wide = a.astype(np.float64)
        if integral is not None:
            wide = integral(wide)
        result = round_to(wide, dtype, mode)
        if ftz and dtype == np.float32:
            result = flush(result)
        if saturate:
            result = where(result > 0, np.minimum(result, dtype.type(1)), dtype.type(0))
        if relu:
            result = where(result <= 0, dtype.type(0), result)
        if to == source == "f64" or (to, source) == ("f64", "f32"):
            return result
        return result.astype(dtype, copy=False)

    return convert


def _pack(program: Program, instruction: Instruction) -> Execute:
    """``cvt.rn.bf16x2.f32 d, a, b``: a becomes the upper half."""
    to, source = instruction.modifiers[-2:]
    dtype, mode, relu = _PACKED[to], _mode(instruction.modifiers), "relu" in instruction.modifiers
    saturate = "satfinite" in instruction.modifiers
    most = 65504.0 if to == "f16x2" else float.fromhex("0x1.fep127")
    if source != "f32" or len(instruction.operands) != 3:
        raise not_simulated(instruction, f"conversion to .{to} from .{source}")

    def half(a: Any) -> Any:
        result = round_to(a.astype(np.float64), dtype, mode)
        if saturate:
            result = where(np.isnan(a), result, np.clip(result.astype(np.float32), -most, most).astype(dtype))
        if relu:
            result = where(result.astype(np.float32) <= 0, dtype.type(0), result)
        return result.astype(dtype).view(np.uint16).astype(np.uint32)

    return elementwise(program, instruction, lambda a, b: half(a) << np.uint32(16) | half(b), (source, source))


def _to_float8(program: Program, instruction: Instruction) -> Execute:
    to, source = instruction.modifiers[-2:]
    dtype, most, relu = _FLOAT8[to], _LARGEST[to], "relu" in instruction.modifiers

    def narrow(wide: Lanes) -> Lanes:
        if relu:
            wide = where(wide <= 0, 0.0, wide)
        bits = np.clip(wide, -most, most).astype(np.float32).astype(dtype).view(np.uint8)
        return where(np.isnan(wide), np.uint8(0x7F), bits).astype(np.uint16)

    if source == "f32":

        def pair(a: Lanes, b: Lanes) -> Lanes:
            return narrow(a) << np.uint16(8) | narrow(b)

        return elementwise(program, instruction, pair, ("f32", "f32"))
    half = _PACKED[source]

    def packed(a: Lanes) -> Lanes:
        parts = np.ascontiguousarray(a).view(half).reshape(-1, 2).astype(np.float32)
        return narrow(parts[:, 1]) << np.uint16(8) | narrow(parts[:, 0])

    return elementwise(program, instruction, packed, ("b32",))


def _from_float8(source: str, half: np.dtype[Any], relu: bool) -> Function:
    dtype = _FLOAT8[source]

    def convert(a: Lanes) -> Lanes:
        wide = np.ascontiguousarray(a).view(dtype).reshape(-1, 2).astype(np.float64)
        if relu:
            wide = where(wide <= 0, 0.0, wide)
        return np.ascontiguousarray(round_to(wide, half, "rn")).view(np.uint32).reshape(-1)

    return convert


def _to_tf32(modifiers: tuple[str, ...]) -> Function:
    """10 fraction bits in an f32: to nearest, ties away (.rna) or to even (.rn), or toward zero."""

    def convert(a: Lanes) -> Lanes:
        bits = np.ascontiguousarray(a).view(np.uint32)
        if "relu" in modifiers:
            bits = where(a <= 0, np.uint32(0), bits)
        step = np.uint32(0)
        if "rna" in modifiers:
            step = np.uint32(0x1000)
        elif "rn" in modifiers:
            step = np.uint32(0xFFF) + (bits >> np.uint32(13) & np.uint32(1))
        rounded = bits + step & np.uint32(0xFFFFE000)
        return where(np.isnan(a), np.uint32(0x7FFFFFFF), where(np.isinf(a), bits, rounded))

    return convert


RULES: dict[str, Callable[[Program, Instruction, int], Execute]] = {"cvt": _convert}
