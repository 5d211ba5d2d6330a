"""The meaning of ``x86vector`` and of LLVM's intrinsics for x86: the arithmetic of the instruction's row.

    x86vector.avx512.dot %c, %a, %b      execute(intrinsic("x86.avx512.vdpbf16ps.1x16x2.f32.bf16"), ...)
    llvm.call_intrinsic of SCALE_BY_POWER          a * 2^floor(b), rounded once

Lanes do not depend on each other, so one row serves registers of every width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import bf16
from xdsl.dialects.llvm import CallIntrinsicOp

from crosstile.dialects.element_types import Array, dtype_of
from crosstile.dialects.interpreter import Interpreter, Meanings
from crosstile.dialects.x86vector import (
    BYTE_DOTS,
    LEFT_OF_NEAREST,
    ROUND_PAIR_TO_BF16,
    ROUND_TO_BF16,
    SCALE_BY_POWER,
    STORE_FENCE,
    DotOp,
)
from crosstile.ir.diagnostics import op_error
from crosstile.targets.execute import execute
from crosstile.targets.model import intrinsic

MEANINGS = Meanings()

BFLOAT_ROW = "x86.avx512.vdpbf16ps.1x16x2.f32.bf16"
BYTE_ROW = "x86.avx512.vpdpbusd.1x16x4.i32.ui8.si8"


def _dot(row: str, accumulator: Array, lhs: Array, rhs: Array) -> Array:
    """Lane by lane, as so many products of 1xk by kx1."""
    pairs = lhs.reshape(len(accumulator), 1, -1), rhs.reshape(len(accumulator), -1, 1)
    return execute(intrinsic(row), *pairs, accumulator.reshape(-1, 1, 1)).reshape(-1)


@MEANINGS.of(DotOp)
def bfloat_dot(interpreter: Interpreter, op: DotOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Pairs of bf16 into f32, odd elements first, subnormal numbers as zero."""
    return (_dot(BFLOAT_ROW, *operands),)


def left_of_nearest(x: Array) -> Array:
    """VREDUCEPS or VREDUCEPD to the nearest integer: exact, and 0 of what is infinite."""
    return np.where(np.isinf(x), x.dtype.type(0), x - np.rint(x))


def scale_by_power(x: Array, exponents: Array) -> Array:
    """VSCALEFPS or VSCALEFPD: rounded once, where the result is subnormal."""
    finite = np.isfinite(exponents)
    powers = np.clip(np.floor(np.where(finite, exponents, 0)), -5000, 5000).astype(np.int32)
    return np.where(finite, np.ldexp(x, powers), x * np.exp2(exponents))


def round_to_bf16(x: Array) -> Array:
    """VCVTNEPS2BF16: to the nearest even, subnormal numbers to zero."""
    is_subnormal = np.abs(x) < np.finfo(x.dtype).smallest_normal
    return np.where(is_subnormal, np.copysign(x.dtype.type(0), x), x).astype(dtype_of(bf16))


@MEANINGS.of(CallIntrinsicOp)
def call_intrinsic(interpreter: Interpreter, op: CallIntrinsicOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Four unsigned by four signed bytes into i32, which wraps; parts and scales of floats, in all lanes; bf16.

    A fence does nothing where stores are in order.
    """
    if op.intrin.data == STORE_FENCE:
        return ()
    if op.intrin.data in LEFT_OF_NEAREST.values():
        return (left_of_nearest(operands[0]),)
    if op.intrin.data in SCALE_BY_POWER.values():
        return (scale_by_power(*operands[:2]),)
    if op.intrin.data in (ROUND_TO_BF16, ROUND_PAIR_TO_BF16):
        return (round_to_bf16(np.concatenate(operands[::-1])),)
    if op.intrin.data not in BYTE_DOTS.values():
        raise op_error(op, f"the intrinsic {op.intrin.data} has no executable meaning here")
    return (_dot(BYTE_ROW, *operands),)
