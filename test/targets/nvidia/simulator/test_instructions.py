"""Instructions against values computed another way: Python's integers, fractions and NumPy's wider types."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from crosstile.targets.nvidia.simulate import GlobalMemory, simulate

Array = NDArray[Any]

_RNG = np.random.default_rng(7)
WORDS = np.concatenate(
    [
        np.array([0, 1, 2, 3, 31, 32, 33, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF], np.uint32),
        _RNG.integers(0, 1 << 32, 50, np.uint32),
    ]
)
FLOATS = np.concatenate(
    [
        np.array([0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 3.4e38, 2.0**-126], np.float32),
        _RNG.standard_normal(33).astype(np.float32),
        (_RNG.standard_normal(20) * 10.0 ** _RNG.integers(-30, 30, 20)).astype(np.float32),
    ]
)


def execute(text: str, *sources: Array, result: Any, kinds: str = "", extra: str = "") -> Array:
    """What the instruction gives for every element: operands are a, b, c in the text, d is the result."""
    count = len(sources[0])
    result = np.dtype(result)
    declared = {1: "b16", 2: "b16", 4: "b32", 8: "b64"}
    lines = [".version 8.3", ".target sm_90a", ".address_size 64", ".entry k(.param .u64 p0"]
    lines[-1] += "".join(f", .param .u64 p{place}" for place in range(1, len(sources) + 1)) + ") {"
    lines.append(".reg .b32 t; .reg .b64 base, offset; .reg .pred p, q; " + extra)
    lines.append(f"mov.u32 t, %tid.x; .reg .{declared[result.itemsize]} d;")
    for place, (name, source) in enumerate(zip("abc", sources, strict=False)):
        size = source.itemsize
        lines.append(f".reg .{declared[size]} {name}; ld.param.u64 base, [p{place}]; mul.wide.u32 offset, t, {size};")
        lines.append(f"add.s64 offset, base, offset; ld.global.b{8 * size} {name}, [offset];")
    lines.append(text)
    lines.append(f"ld.param.u64 base, [p{len(sources)}]; mul.wide.u32 offset, t, {result.itemsize};")
    lines.append(f"add.s64 offset, base, offset; st.global.b{8 * result.itemsize} [offset], d; ret; }}")
    memory = GlobalMemory()
    addresses = [memory.allocate(source) for source in sources]
    target = memory.empty((count,), result)
    simulate("\n".join(lines), "k", (1,), (count,), [*addresses, target], memory)
    return memory.read(target)


def signed(word: int, bits: int = 32) -> int:
    return word - (1 << bits) if word >> (bits - 1) else word


def chosen_bytes(value: int, *places: int) -> int:
    return sum((value >> 8 * place & 255) << 8 * index for index, place in enumerate(places))


def truncated(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


A, B, C = WORDS, np.roll(WORDS, 5), np.roll(WORDS, 11)

INTEGERS: list[tuple[str, Callable[[int, int, int], int]]] = [
    ("add.u32 d, a, b;", lambda a, b, c: a + b),
    ("sub.s32 d, a, b;", lambda a, b, c: a - b),
    ("add.sat.s32 d, a, b;", lambda a, b, c: min(max(signed(a) + signed(b), -(1 << 31)), (1 << 31) - 1)),
    ("mul.lo.s32 d, a, b;", lambda a, b, c: a * b),
    ("mul.hi.u32 d, a, b;", lambda a, b, c: a * b >> 32),
    ("mul.hi.s32 d, a, b;", lambda a, b, c: signed(a) * signed(b) >> 32),
    ("mad.lo.u32 d, a, b, c;", lambda a, b, c: a * b + c),
    ("mad.hi.s32 d, a, b, c;", lambda a, b, c: (signed(a) * signed(b) >> 32) + c),
    ("div.u32 d, a, b;", lambda a, b, c: a // b if b else 0xFFFFFFFF),
    ("div.s32 d, a, b;", lambda a, b, c: truncated(signed(a), signed(b)) if b else -1),
    ("rem.u32 d, a, b;", lambda a, b, c: a % b if b else a),
    ("rem.s32 d, a, b;", lambda a, b, c: signed(a) - truncated(signed(a), signed(b)) * signed(b) if b else a),
    ("min.s32 d, a, b;", lambda a, b, c: min(signed(a), signed(b))),
    ("max.u32 d, a, b;", lambda a, b, c: max(a, b)),
    ("abs.s32 d, a;", lambda a, b, c: abs(signed(a))),
    ("neg.s32 d, a;", lambda a, b, c: -a),
    ("and.b32 d, a, b;", lambda a, b, c: a & b),
    ("or.b32 d, a, b;", lambda a, b, c: a | b),
    ("xor.b32 d, a, b;", lambda a, b, c: a ^ b),
    ("not.b32 d, a;", lambda a, b, c: ~a),
    ("cnot.b32 d, a;", lambda a, b, c: int(a == 0)),
    ("shl.b32 d, a, b;", lambda a, b, c: a << b if b < 32 else 0),
    ("shr.u32 d, a, b;", lambda a, b, c: a >> b if b < 32 else 0),
    ("shr.s32 d, a, b;", lambda a, b, c: signed(a) >> min(b, 31)),
    ("shf.l.wrap.b32 d, a, b, c;", lambda a, b, c: (b << 32 | a) << (c & 31) >> 32),
    ("shf.l.clamp.b32 d, a, b, c;", lambda a, b, c: (b << 32 | a) << min(c, 32) >> 32),
    ("shf.r.wrap.b32 d, a, b, c;", lambda a, b, c: (b << 32 | a) >> (c & 31)),
    ("shf.r.clamp.b32 d, a, b, c;", lambda a, b, c: (b << 32 | a) >> min(c, 32)),
    ("lop3.b32 d, a, b, c, 0xE8;", lambda a, b, c: a & b | a & c | b & c),
    ("lop3.b32 d, a, b, c, 0x96;", lambda a, b, c: a ^ b ^ c),
    ("lop3.b32 d, a, b, c, 0x1;", lambda a, b, c: ~(a | b | c)),
    ("prmt.b32 d, a, b, 0x7531;", lambda a, b, c: chosen_bytes(a | b << 32, 1, 3, 5, 7)),
    ("prmt.b32 d, a, b, 0x9810;", lambda a, b, c: a & 0xFFFF | 0xFF0000 * (a >> 7 & 1) | 0xFF000000 * (a >> 15 & 1)),
    ("popc.b32 d, a;", lambda a, b, c: bin(a).count("1")),
    ("clz.b32 d, a;", lambda a, b, c: 32 - a.bit_length()),
    ("brev.b32 d, a;", lambda a, b, c: int(f"{a:032b}"[::-1], 2)),
    ("bfind.u32 d, a;", lambda a, b, c: a.bit_length() - 1),
    ("bfind.s32 d, a;", lambda a, b, c: (~a & 0xFFFFFFFF if a >> 31 else a).bit_length() - 1),
    ("bfind.shiftamt.u32 d, a;", lambda a, b, c: 32 - a.bit_length() if a else -1),
    ("bfe.u32 d, a, 5, 9;", lambda a, b, c: a >> 5 & 511),
    ("bfe.s32 d, a, 5, 9;", lambda a, b, c: signed(a >> 5 & 511, 9)),
    ("bfe.s32 d, a, 28, 9;", lambda a, b, c: signed(a) >> 28),
    ("bfe.u32 d, a, 0, 32;", lambda a, b, c: a),
    ("bfe.u32 d, a, 3, 0;", lambda a, b, c: 0),
    ("bfi.b32 d, a, b, 4, 8;", lambda a, b, c: b & ~0xFF0 | (a & 0xFF) << 4),
    ("bfi.b32 d, a, b, 28, 8;", lambda a, b, c: b & 0x0FFFFFFF | a << 28),
    ("bfi.b32 d, a, b, 0, 32;", lambda a, b, c: a),
    ("sad.u32 d, a, b, c;", lambda a, b, c: abs(a - b) + c),
    ("dp4a.u32.u32 d, a, b, c;", lambda a, b, c: sum((a >> 8 * i & 255) * (b >> 8 * i & 255) for i in range(4)) + c),
    ("setp.lt.s32 p, a, b; selp.b32 d, a, b, p;", lambda a, b, c: min(signed(a), signed(b))),
    ("setp.hi.u32 p|q, a, b; selp.b32 d, a, b, q;", lambda a, b, c: min(a, b)),
    ("setp.ne.u32 q, c, 0; setp.le.and.u32 p, a, b, !q; selp.b32 d, 1, 2, p;", lambda a, b, c: 2 - (a <= b and not c)),
    ("set.ge.u32.s32 d, a, b;", lambda a, b, c: -int(signed(a) >= signed(b))),
    ("slct.u32.s32 d, a, b, c;", lambda a, b, c: a if signed(c) >= 0 else b),
    ("cvt.u8.u32 d, a;", lambda a, b, c: a & 255),
    ("cvt.s8.s32 d, a;", lambda a, b, c: signed(a & 255, 8)),
    ("cvt.sat.s8.s32 d, a;", lambda a, b, c: min(max(signed(a), -128), 127)),
    ("cvt.sat.u16.s32 d, a;", lambda a, b, c: min(max(signed(a), 0), 65535)),
    ("mov.b32 {h, l}, a; mov.b32 d, {l, h};", lambda a, b, c: a << 16 | a >> 16),
    ("mov.b64 w, {a, b}; shr.u64 w, w, 8; cvt.u32.u64 d, w;", lambda a, b, c: (b << 32 | a) >> 8),
    ("mul.wide.s32 w, a, b; shr.s64 w, w, 16; cvt.u32.u64 d, w;", lambda a, b, c: signed(a) * signed(b) >> 16),
    ("mad.wide.u32 w, a, b, 12; shr.u64 w, w, 16; cvt.u32.u64 d, w;", lambda a, b, c: a * b + 12 >> 16),
    ("mul.wide.u32 w, a, b; mul.hi.u64 w, w, w; cvt.u32.u64 d, w;", lambda a, b, c: (a * b) ** 2 >> 64),
    ("vadd2: add.u16x2 d, a, b;", lambda a, b, c: (a & 0xFFFF) + (b & 0xFFFF) & 0xFFFF | (a >> 16) + (b >> 16) << 16),
]  # fmt: skip


@pytest.mark.parametrize(("text", "meaning"), INTEGERS, ids=[text for text, _ in INTEGERS])
def test_integer(text: str, meaning: Callable[[int, int, int], int]):
    found = execute(text, A, B, C, result=np.uint32, extra=".reg .b16 h, l; .reg .b64 w;")
    expected = [meaning(int(a), int(b), int(c)) % (1 << 32) for a, b, c in zip(A, B, C, strict=True)]
    np.testing.assert_array_equal(found, np.array(expected, np.uint32))


X, Y, Z = FLOATS, np.roll(FLOATS, 3), np.roll(FLOATS, 17)


def rounded(value: Fraction, mode: str) -> np.float32:
    """``value`` in f32 by search: the neighbours of the nearest double's nearest float."""
    near = np.float32(float(value))
    candidates = [
        one for one in (np.nextafter(near, np.float32(side)) for side in (-np.inf, np.inf)) if np.isfinite(one)
    ]
    candidates.append(near)
    if mode in ("rm", "rz") and (mode == "rm" or value >= 0):
        return max((one for one in candidates if Fraction(float(one)) <= value), key=float)
    if mode in ("rp", "rz"):
        return min((one for one in candidates if Fraction(float(one)) >= value), key=float)
    distance = [(abs(Fraction(float(one)) - value), int(one.view(np.uint32)) & 1, one) for one in candidates]
    return min(distance, key=lambda entry: entry[:2])[2]


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("opcode", ["add", "sub", "mul", "fma"])
def test_float_arithmetic_is_rounded_once(opcode: str, mode: str):
    names = "a, b, c" if opcode == "fma" else "a, b"
    found = execute(f"{opcode}.{mode}.f32 d, {names};", X, Y, Z, result=np.float32)
    for x, y, z, got in zip(X, Y, Z, found, strict=True):
        with np.errstate(all="ignore"):
            plain = {"add": x + y, "sub": x - y, "mul": x * y, "fma": x * y + z}[opcode]
        if not np.isfinite([x, y, z]).all() or not np.isfinite(plain) or abs(plain) < 1e-30:
            continue
        a, b, c = (Fraction(float(one)) for one in (x, y, z))
        exact = {"add": a + b, "sub": a - b, "mul": a * b, "fma": a * b + c}[opcode]
        if abs(exact) < Fraction(2) ** 127:
            assert got == rounded(exact, mode), (x, y, z)


def test_special_values():
    found = execute("add.f32 d, a, b;", X, Y, result=np.float32)
    with np.errstate(all="ignore"):
        expected = X + Y
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    assert set(found.view(np.uint32)[np.isnan(found)].tolist()) == {0x7FFFFFFF}
    tiny = np.array([1e-40, -1e-40, 2e-38], np.float32)
    np.testing.assert_array_equal(
        execute("add.ftz.f32 d, a, a;", tiny, result=np.float32), np.array([0.0, -0.0, 4e-38], np.float32)
    )
    assert np.signbit(execute("add.ftz.f32 d, a, a;", tiny, result=np.float32)[1])
    np.testing.assert_array_equal(execute("add.f32 d, a, a;", tiny, result=np.float32), tiny * 2)
    wide = np.array([-3.0, 0.25, 7.0, np.nan], np.float32)
    np.testing.assert_array_equal(execute("add.sat.f32 d, a, a;", wide, result=np.float32), [0, 0.5, 1, 0])


def test_minimum_and_maximum():
    a = np.array([1, np.nan, -0.0, 0.0, np.nan], np.float32)
    b = np.array([2, 3, 0.0, -0.0, np.nan], np.float32)
    low, high = (execute(f"{one}.f32 d, a, b;", a, b, result=np.float32) for one in ("min", "max"))
    np.testing.assert_array_equal(low, [1, 3, -0.0, -0.0, np.nan])
    assert np.signbit(low[2:4]).all() and not np.signbit(high[2:4]).any()
    np.testing.assert_array_equal(high, [2, 3, 0, 0, np.nan])
    np.testing.assert_array_equal(execute("max.NaN.f32 d, a, b;", a, b, result=np.float32), [2, np.nan, 0, 0, np.nan])


FUNCTIONS: list[tuple[str, Callable[[Array], Array], int]] = [
    ("ex2.approx.f32", np.exp2, 2),
    ("ex2.approx.ftz.f32", np.exp2, 2),
    ("lg2.approx.f32", np.log2, 2),
    ("rcp.rn.f32", np.reciprocal, 0),
    ("rcp.approx.ftz.f32", np.reciprocal, 1),
    ("sqrt.rn.f32", np.sqrt, 0),
    ("rsqrt.approx.f32", lambda x: 1 / np.sqrt(x), 2),
    ("sin.approx.f32", np.sin, 2),
    ("cos.approx.f32", np.cos, 2),
    ("tanh.approx.f32", np.tanh, 2),
]  # fmt: skip


@pytest.mark.parametrize(("opcode", "meaning", "ulps"), FUNCTIONS)
def test_functions(opcode: str, meaning: Callable[[Array], Array], ulps: int):
    x = np.abs(_RNG.standard_normal(64)).astype(np.float32) + np.float32(0.01)
    expected = meaning(x.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_max_ulp(execute(f"{opcode} d, a;", x, result=np.float32), expected, max(1, ulps))


def test_division():
    x, y = _RNG.standard_normal((2, 64)).astype(np.float32)
    for opcode in ("div.rn.f32", "div.full.f32", "div.approx.ftz.f32"):
        np.testing.assert_array_equal(execute(f"{opcode} d, a, b;", x, y, result=np.float32), x / y)


HALVES = [("f16", np.dtype(np.float16)), ("bf16", np.dtype(ml_dtypes.bfloat16))]


@pytest.mark.parametrize(("kind", "dtype"), HALVES)
@pytest.mark.parametrize("opcode", ["add", "sub", "mul", "fma", "min", "max", "neg"])
def test_halves_and_pairs_of_them(kind: str, dtype: np.dtype[Any], opcode: str):
    x, y, z = np.random.default_rng(len(opcode)).standard_normal((3, 128)).astype(dtype)
    count = {"fma": 3, "neg": 1}.get(opcode, 2)
    wide = [one.astype(np.float64) for one in (x, y, z)]
    exact = {
        "add": wide[0] + wide[1], "sub": wide[0] - wide[1], "mul": wide[0] * wide[1],
        "fma": wide[0] * wide[1] + wide[2], "min": np.minimum(*wide[:2]), "max": np.maximum(*wide[:2]), "neg": -wide[0],
    }[opcode]  # fmt: skip
    modifier = ".rn" if opcode in ("add", "sub", "mul", "fma") else ""
    names = ", ".join("abc"[:count])
    single = execute(f"{opcode}{modifier}.{kind} d, {names};", *(one.view(np.uint16) for one in (x, y, z)), result="u2")
    pairs = execute(
        f"{opcode}{modifier}.{kind}x2 d, {names};", *(one.view(np.uint32) for one in (x, y, z)), result="u4"
    )
    np.testing.assert_array_equal(single, pairs.view(np.uint16))
    got = single.view(dtype).astype(np.float64)
    spacing = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64) * 2.0 ** (13 if kind == "f16" else 16)
    spacing = np.maximum(spacing, 2.0**-24 if kind == "f16" else 0)  # subnormal numbers of f16
    assert (np.abs(got - exact) <= spacing / 2).all()


# Conversions.


def test_float_to_integer_clamps():
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 3e9, -3e9, 1e20, np.nan, np.inf, -np.inf], np.float32)
    expected = {
        "rni": [0, 2, 2, 0, -2], "rzi": [0, 1, 2, 0, -1], "rmi": [0, 1, 2, -1, -2], "rpi": [1, 2, 3, 0, -1],
    }  # fmt: skip
    big, low = (1 << 31) - 1, -(1 << 31)
    for mode, head in expected.items():
        found = execute(f"cvt.{mode}.s32.f32 d, a;", x, result=np.int32)
        np.testing.assert_array_equal(found, [*head, big, low, big, 0, big, low])
    found = execute("cvt.rzi.u32.f32 d, a;", x, result=np.uint32)
    np.testing.assert_array_equal(found, [0, 1, 2, 0, 0, 3000000000, 0, 0xFFFFFFFF, 0, 0xFFFFFFFF, 0])


def test_integer_to_float():
    words = np.array([0, 1, -1, 16777217, 16777219, -16777217, 2147483647], np.int32)
    np.testing.assert_array_equal(execute("cvt.rn.f32.s32 d, a;", words, result=np.float32), words.astype(np.float32))
    found = execute("cvt.rz.f32.s32 d, a;", words, result=np.float32)
    np.testing.assert_array_equal(found, [0, 1, -1, 16777216, 16777218, -16777216, 2147483520])
    large = np.array([(1 << 63) + 1, (1 << 40) + (1 << 16) + 1, (1 << 40) + (1 << 16), (1 << 53) + 1], np.uint64)
    expected = [float(2**63), float(2**40 + 2**17), float(2**40), float(2**53)]
    np.testing.assert_array_equal(execute("cvt.rn.f32.u64 d, a;", large, result=np.float32), expected)


@pytest.mark.parametrize(("kind", "dtype"), HALVES)
def test_packing_converts_and_places(kind: str, dtype: np.dtype[Any]):
    x, y = _RNG.standard_normal((2, 64)).astype(np.float32)
    found = execute(f"cvt.rn.{kind}x2.f32 d, a, b;", x, y, result=np.uint32)
    np.testing.assert_array_equal(found >> 16, x.astype(dtype).view(np.uint16))
    np.testing.assert_array_equal(found & 0xFFFF, y.astype(dtype).view(np.uint16))
    narrow = execute(f"cvt.rn.{kind}.f32 d, a;", x, result=np.uint16)
    np.testing.assert_array_equal(narrow, x.astype(dtype).view(np.uint16))
    back = execute(f"cvt.f32.{kind} d, a;", narrow, result=np.float32)
    np.testing.assert_array_equal(back, x.astype(dtype).astype(np.float32))


def test_rounding_of_ties_and_directions():
    x = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-23, -1 - 2**-8 - 2**-23, 3.4e38, np.nan], np.float32)
    nearest = execute("cvt.rn.bf16.f32 d, a;", x, result=np.uint16)
    np.testing.assert_array_equal(nearest, [0x3F80, 0x3F82, 0x3F81, 0xBF81, 0x7F80, 0x7FFF])
    zero = execute("cvt.rz.bf16.f32 d, a;", x, result=np.uint16)
    np.testing.assert_array_equal(zero, [0x3F80, 0x3F81, 0x3F80, 0xBF80, 0x7F7F, 0x7FFF])
    relu = execute("cvt.rn.relu.bf16.f32 d, a;", x, result=np.uint16)
    assert relu[3] == 0


def test_tf32():
    x = np.array([0x3F801000, 0x3F800FFF, 0x3F803000, 0x3F800000], np.uint32)
    found = execute("cvt.rna.tf32.f32 d, a;", x, result=np.uint32)
    np.testing.assert_array_equal(found, [0x3F802000, 0x3F800000, 0x3F804000, 0x3F800000])


@pytest.mark.parametrize(
    ("kind", "dtype", "most"),
    [("e4m3", np.dtype(ml_dtypes.float8_e4m3fn), 448), ("e5m2", np.dtype(ml_dtypes.float8_e5m2), 57344)],
)
def test_eight_bit_floats(kind: str, dtype: np.dtype[Any], most: float):
    x = np.concatenate([_RNG.standard_normal(60) * 100, [1e6, -1e6, 0.0, 1e-9]]).astype(np.float32)
    y = np.roll(x, 1)
    found = execute(f"cvt.rn.satfinite.{kind}x2.f32 d, a, b;", x, y, result=np.uint16)
    high, low = (np.clip(one, -most, most).astype(dtype).view(np.uint8) for one in (x, y))
    np.testing.assert_array_equal(found, high.astype(np.uint16) << 8 | low)
    back = execute(f"cvt.rn.f16x2.{kind}x2 d, a;", found, result=np.uint32)
    np.testing.assert_array_equal(back.view(np.float16)[::2], low.view(dtype).astype(np.float16))


# Across lanes.


LANES = np.arange(64, dtype=np.uint32)


ACROSS_LANES: list[tuple[str, Callable[[int, int], int]]] = [
    ("shfl.sync.bfly.b32 d, a, 5, 31, -1;", lambda lane, base: base + (lane ^ 5)),
    ("shfl.sync.up.b32 d, a, 3, 0, -1;", lambda lane, base: base + (lane - 3 if lane >= 3 else lane)),
    ("shfl.sync.down.b32 d, a, 3, 31, -1;", lambda lane, base: base + (lane + 3 if lane + 3 < 32 else lane)),
    ("shfl.sync.idx.b32 d, a, 7, 31, -1;", lambda lane, base: base + 7),
    ("shfl.sync.idx.b32 d, a, 3, 0x1807, -1;", lambda lane, base: base + (lane & 24) + 3),
    ("shfl.sync.down.b32 d|p, a, 1, 31, -1; @!p mov.b32 d, 9;", lambda lane, base: 9 if lane > 30 else base + lane + 1),
    ("setp.lt.u32 p, a, 40; vote.sync.ballot.b32 d, p, -1;", lambda lane, base: 0xFFFFFFFF if base == 0 else 0xFF),
    ("setp.lt.u32 p, a, 40; vote.sync.all.pred q, p, -1; selp.b32 d, 1, 0, q;", lambda lane, base: int(base == 0)),
    ("setp.eq.u32 p, a, 40; vote.sync.any.pred q, p, -1; selp.b32 d, 1, 0, q;", lambda lane, base: int(base != 0)),
    ("and.b32 a, a, 3; match.any.sync.b32 d, a, -1;", lambda lane, base: 0x11111111 << (lane & 3)),
    ("redux.sync.add.u32 d, a, -1;", lambda lane, base: sum(range(base, base + 32))),
    ("redux.sync.max.s32 d, a, -1;", lambda lane, base: base + 31),
    ("elect.sync d|p, 0xFFFFFFF0; selp.b32 d, d, 77, p;", lambda lane, base: 4 if lane == 4 else 77),
    ("activemask.b32 d;", lambda lane, base: 0xFFFFFFFF),
    ("mov.u32 d, %lanemask_lt;", lambda lane, base: (1 << lane) - 1),
    ("mov.u32 d, %warpid; mad.lo.u32 d, d, 100, a;", lambda lane, base: base // 32 * 100 + base + lane),
]  # fmt: skip


@pytest.mark.parametrize(("text", "meaning"), ACROSS_LANES)
def test_across_lanes(text: str, meaning: Callable[[int, int], int]):
    found = execute(text, LANES, result=np.uint32)
    expected = [meaning(int(one) % 32, int(one) // 32 * 32) % (1 << 32) for one in LANES]
    np.testing.assert_array_equal(found, np.array(expected, np.uint32))


ATOMICS: list[tuple[str, str, Callable[[int, int], int]]] = [
    ("add", "u32", lambda old, value: old + value),
    ("max", "s32", lambda old, value: max(old, value)),
    ("exch", "b32", lambda old, value: value),
    ("inc", "u32", lambda old, value: 0 if old >= value else old + 1),
    ("dec", "u32", lambda old, value: value if old == 0 or old > value else old - 1),
    ("and", "b32", lambda old, value: old & value),
]


@pytest.mark.parametrize(("operation", "kind", "meaning"), ATOMICS)
def test_atomics(operation: str, kind: str, meaning: Callable[[int, int], int]):
    values = np.array([3, 9, 4, 4, 7], np.uint32)
    text = f".shared .align 4 .b8 s[4]; st.shared.u32 [s], 5; atom.shared.{operation}.{kind} d, [s], a;"
    found = execute(text, values, result=np.uint32)
    old = 5
    for value, got in zip(values.tolist(), found.tolist(), strict=True):
        assert got == old
        old = meaning(old, value)


def test_compare_and_swap():
    values = np.array([5, 1, 5, 2], np.uint32)
    text = ".shared .align 4 .b8 s[4]; st.shared.u32 [s], 5; atom.shared.cas.b32 d, [s], a, 2;"
    np.testing.assert_array_equal(execute(text, values, result=np.uint32), [5, 2, 2, 2])
