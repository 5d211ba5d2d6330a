"""The arithmetic of intrinsic rows against the processor that runs the tests, through LLVM's intrinsics.

Each case names the LLVM operation that is the row's instruction; cases whose feature this processor lacks do not exist.
"""

import ctypes
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from crosstile.targets.execute import execute
from crosstile.targets.host import host_features, host_machine
from crosstile.targets.layout import Layout
from crosstile.targets.llvm_codegen import llvm, parse
from crosstile.targets.model import MmaIntrinsic, Operand, intrinsic, intrinsics, machine
from crosstile.targets.numerics import IntegerDot, Numerics, SequentialFma

Array = NDArray[Any]


def _dot(name: str, k: int, elements: tuple[str, str, str], feature: str, numerics: Numerics) -> MmaIntrinsic:
    """A row of 16 lanes, each a dot product of k neighbours."""
    lhs, rhs, accumulator = elements
    return MmaIntrinsic(
        name=name,
        m=1,
        n=16,
        k=k,
        lhs=Operand(lhs, Layout.of((1, k), register=[(k, 1)], lane=[(16, 0)])),
        rhs=Operand(rhs, Layout.of((k, 16), register=[(k, 16)], lane=[(16, 1)])),
        accumulator=Operand(accumulator, Layout.of((1, 16), lane=[(16, 1)])),
        numerics=numerics,
        rate=1,
        latency=4,
        feature=feature,
        document="Intel SDM vol. 2, VDPBF16PS, VPDPBUSD, VPDPBUSDS",
    )


@dataclass(frozen=True)
class Case:
    """A row, LLVM's types of its three registers, and what computes %d from %a, %b and %c."""

    row: MmaIntrinsic
    types: tuple[str, str, str]
    body: str
    declaration: str = ""


def _fma(row: str, vector: str, mangled: str) -> Case:
    return Case(
        intrinsic(row),
        (vector, vector, vector),
        f"%d = call {vector} @llvm.fma.{mangled}({vector} %a, {vector} %b, {vector} %c)",
        f"declare {vector} @llvm.fma.{mangled}({vector}, {vector}, {vector})",
    )


def _multiply_add(element: str, scalar: str) -> Case:
    body = f"%p = fmul {scalar} %a, %b\n  %d = fadd {scalar} %p, %c"
    return Case(intrinsic(f"generic.muladd.1x1x1.{element}"), (scalar, scalar, scalar), body)


_BF16 = SequentialFma(order=(1, 0), flush_subnormals=True)
_BYTES = ("ui8", "si8", "i32")
_DOT_NAME = "@llvm.x86.avx512.vpdpbus{}.512(<16 x i32> {}, <64 x i8> {}, <64 x i8> {})"
CASES = {
    "mul and add f32": _multiply_add("f32", "float"),
    "mul and add f64": _multiply_add("f64", "double"),
    "fma zmm f32": _fma("x86.avx512.fma.1x16x1.f32", "<16 x float>", "v16f32"),
    "fma zmm f64": _fma("x86.avx512.fma.1x8x1.f64", "<8 x double>", "v8f64"),
    "fma ymm f32": _fma("x86.avx2.fma.1x8x1.f32", "<8 x float>", "v8f32"),
    "fma ymm f64": _fma("x86.avx2.fma.1x4x1.f64", "<4 x double>", "v4f64"),
    "vdpbf16ps": Case(
        _dot("x86.avx512.dpbf16.1x16x2.f32.bf16", 2, ("bf16", "bf16", "f32"), "avx512bf16", _BF16),
        ("<32 x bfloat>", "<32 x bfloat>", "<16 x float>"),
        "%d = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float> %c, <32 x bfloat> %a, <32 x bfloat> %b)",
        "declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float>, <32 x bfloat>, <32 x bfloat>)",
    ),
    "vpdpbusd": Case(
        _dot("x86.avx512.dpbusd.1x16x4.i32.ui8.si8", 4, _BYTES, "avx512vnni", IntegerDot()),
        ("<64 x i8>", "<64 x i8>", "<16 x i32>"),
        "%d = call <16 x i32> " + _DOT_NAME.format("d", "%c", "%a", "%b"),
        "declare <16 x i32> " + _DOT_NAME.format("d", "", "", ""),
    ),
    "vpdpbusds": Case(
        _dot("x86.avx512.dpbusds.1x16x4.i32.ui8.si8", 4, _BYTES, "avx512vnni", IntegerDot(saturate=True)),
        ("<64 x i8>", "<64 x i8>", "<16 x i32>"),
        "%d = call <16 x i32> " + _DOT_NAME.format("ds", "%c", "%a", "%b"),
        "declare <16 x i32> " + _DOT_NAME.format("ds", "", "", ""),
    ),
}


def _runs_here(row: MmaIntrinsic) -> bool:
    return not row.feature or f"+{row.feature}" in host_machine().attributes.split(",")


def _run(case: Case, a: Array, b: Array, c: Array) -> Array:
    """The instruction on arrays [steps, registers' elements]; returns the new accumulators."""
    type_a, type_b, type_c = case.types
    text = f"""
{case.declaration}
define void @run(ptr %pa, ptr %pb, ptr %pc, i64 %steps) {{
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  %qa = getelementptr {type_a}, ptr %pa, i64 %i
  %qb = getelementptr {type_b}, ptr %pb, i64 %i
  %qc = getelementptr {type_c}, ptr %pc, i64 %i
  %a = load {type_a}, ptr %qa, align 1
  %b = load {type_b}, ptr %qb, align 1
  %c = load {type_c}, ptr %qc, align 1
  {case.body}
  store {type_c} %d, ptr %qc, align 1
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %steps
  br i1 %more, label %loop, label %done
done:
  ret void
}}"""
    host = host_machine()
    machine = llvm().Target.from_triple(host.triple).create_target_machine(cpu=host.cpu, features=host.attributes)
    a, b, result = np.ascontiguousarray(a), np.ascontiguousarray(b), np.array(c)
    with llvm().create_mcjit_compiler(parse(text), machine) as engine:
        run = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)(engine.get_function_address("run"))
        run(a.ctypes.data, b.ctypes.data, result.ctypes.data, len(a))
    return result


def _values(rng: np.random.Generator, element: str, count: int) -> Array:
    """Random bit patterns, of which half are replaced by ordinary numbers so that sums are interesting."""
    if element == "i32":  # near the ends, where sums wrap or saturate
        ends = rng.choice(np.array([-(1 << 31), -(1 << 17), 0, (1 << 31) - (1 << 17)]), count)
        return (ends + rng.integers(0, 1 << 17, count)).astype(np.int32)
    if element in ("ui8", "si8"):
        return rng.integers(0, 256, count, np.uint8).view(np.uint8 if element == "ui8" else np.int8)
    dtype = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64), "bf16": np.dtype(ml_dtypes.bfloat16)}[element]
    wild = rng.integers(0, 256, (count, dtype.itemsize), np.uint8).view(dtype)[:, 0]
    scale = np.ldexp(1.0, rng.integers(-70, 70, count))
    tame = (rng.standard_normal(count) * rng.choice([np.ones(count), scale])).astype(dtype)
    return np.where(rng.random(count) < 0.3, wild, tame)


def _bits(values: Array) -> Array:
    """Bit patterns, all NaNs alike."""
    if values.dtype.kind != "f":
        return values
    canonical = np.where(np.isnan(values), np.full_like(values, np.nan), values)
    return canonical.view(f"u{values.itemsize}")


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if _runs_here(case.row)])
def test_execute_equals_the_processor(name: str) -> None:
    case, steps = CASES[name], 4000
    row = case.row
    rng = np.random.default_rng(len(name))
    lanes = row.n
    a = _values(rng, row.lhs.element, steps * lanes * row.k).reshape(steps, lanes, row.k)
    b = _values(rng, row.rhs.element, steps * lanes * row.k).reshape(steps, lanes, row.k)
    c = _values(rng, row.accumulator.element, steps * lanes).reshape(steps, lanes)
    if c.dtype.kind == "f":  # let the sum cancel nearly, or entirely
        with np.errstate(all="ignore"):
            product = (a.astype(np.float64) * b.astype(np.float64)).sum(axis=2).astype(c.dtype)
        c = np.where(rng.random(c.shape) < 0.3, -product, c)
        a[:16, :, 0], b[:16, :, 0], c[:16] = 2.0**-75, -(2.0**-75), 2.0**-126  # just below normal: flushed, or not?
        a[:16, :, 0] *= np.linspace(0.25, 2.25, 16).astype(a.dtype)[:, np.newaxis]
        a[:16, :, 1:] = 0
    got = execute(row, a[:, :, np.newaxis, :], b[:, :, :, np.newaxis], c[:, :, np.newaxis, np.newaxis])[:, :, 0, 0]
    np.testing.assert_array_equal(_bits(got), _bits(_run(case, a, b, c)))


_TILES = [row for row in intrinsics("x86").values() if row.in_tiles]


@pytest.mark.parametrize("row", _TILES, ids=lambda row: row.name)
def test_execute_equals_the_tile_unit(row: MmaIntrinsic) -> None:
    if not set(machine("x86-64-amx").features) <= host_features():
        pytest.skip("this processor has no tile unit, or the system keeps it")
    instruction, count = row.name.split(".")[2], 200
    rng = np.random.default_rng(len(row.name))
    shapes = (count, row.m, row.k), (count, row.k, row.n), (count, row.m, row.n)
    elements = row.lhs.element, row.rhs.element, row.accumulator.element
    a, b, c = (
        _values(rng, element, int(np.prod(shape))).reshape(shape)
        for element, shape in zip(elements, shapes, strict=True)
    )
    if c.dtype.kind == "f":  # fewer infinities, and sums that cancel
        with np.errstate(all="ignore"):
            a[:100], b[:100] = (np.where(np.isfinite(x[:100]), x[:100], 0) for x in (a, b))
            product = (a[:50].astype(np.float64) @ b[:50].astype(np.float64)).astype(c.dtype)
        c[:50] = np.where(np.isfinite(product), -product, 1)
        c[50:100] = np.where(np.isfinite(c[50:100]), c[50:100], 0)
    group = row.k // row.m
    words = b.reshape(count, row.m, group, row.n).transpose(0, 1, 3, 2)
    np.testing.assert_array_equal(_bits(execute(row, a, b, c)), _bits(_run_tiles(instruction, a, words, c)))


def _run_tiles(instruction: str, a: Array, b: Array, c: Array) -> Array:
    """The instruction on arrays of tiles; returns the new accumulators."""
    tile = "i16 16, i16 64"
    text = f"""
declare x86_amx @llvm.x86.tileloadd64.internal(i16, i16, ptr, i64)
declare void @llvm.x86.tilestored64.internal(i16, i16, ptr, i64, x86_amx)
declare x86_amx @llvm.x86.{instruction}.internal(i16, i16, i16, x86_amx, x86_amx, x86_amx)
define void @run(ptr %pa, ptr %pb, ptr %pc) {{
  %a = call x86_amx @llvm.x86.tileloadd64.internal({tile}, ptr %pa, i64 64)
  %b = call x86_amx @llvm.x86.tileloadd64.internal({tile}, ptr %pb, i64 64)
  %c = call x86_amx @llvm.x86.tileloadd64.internal({tile}, ptr %pc, i64 64)
  %d = call x86_amx @llvm.x86.{instruction}.internal({tile}, i16 64, x86_amx %c, x86_amx %a, x86_amx %b)
  call void @llvm.x86.tilestored64.internal({tile}, ptr %pc, i64 64, x86_amx %d)
  ret void
}}"""
    host = host_machine()
    machine_ = llvm().Target.from_triple(host.triple).create_target_machine(cpu=host.cpu, features=host.attributes)
    a, b, result = np.ascontiguousarray(a), np.ascontiguousarray(b), np.array(c)
    with llvm().create_mcjit_compiler(parse(text), machine_) as engine:
        run = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)(engine.get_function_address("run"))
        for x, y, z in zip(a, b, result, strict=True):
            run(x.ctypes.data, y.ctypes.data, z.ctypes.data)
    return result
