"""NVIDIA A100 (sm_80), H100 SXM (sm_90a) and H200 (sm_90a-h200): memories, limits and matrix instructions. Rows only.

Documents: PTX ISA 8.7, "Matrix multiply-accumulate operation using mma instruction" and "Asynchronous Warpgroup Level
Matrix Multiply-Accumulate Instructions" for shapes and register fragments; NVIDIA A100 and H100 Tensor Core GPU
Architecture white papers for memories and rates (1024 and 2048 dense bf16 fma a cycle and SM), NVIDIA H200 data sheet;
CUDA C++ Programming Guide, "Technical Specifications per Compute Capability", for limits. Latencies were measured by
Sun et al., arXiv 2206.02874 (mma), and Luo et al., arXiv 2402.13499 (wgmma; and mma at 63 % of wgmma's rate on Hopper);
where they have none (f64, fma, Hopper's mma), that of the nearest shape stands. Arithmetic: MMA-Sim, arXiv 2511.10909.

Within a family of instructions for the same types the preferred shape comes first.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from crosstile.targets.layout import Layout
from crosstile.targets.model import (
    ELEMENT_BITS,
    BlockLimits,
    Home,
    Level,
    Machine,
    MatrixMove,
    Memory,
    MmaIntrinsic,
    Operand,
)
from crosstile.targets.numerics import IntegerDot, Numerics, Rounding, SequentialFma, TruncatedSum

_AMPERE, _HOPPER = "sm_80", "sm_90a"
_FRACTION_BITS = {_AMPERE: 24, _HOPPER: 25}
_FUSED_BYTES = {_AMPERE: 16, _HOPPER: 32}
"""Bytes of a row of the left factor whose products are one sum: 8 of 16 bits on Ampere, 16 on Hopper."""

_BYTES = [(one, other) for one in ("si8", "ui8") for other in ("si8", "ui8")]
_FLOAT8 = [(one, other) for one in ("f8E4M3FN", "f8E5M2") for other in ("f8E4M3FN", "f8E5M2")]


def _numerics(machine: str, element: str, accumulator: str) -> Numerics:
    if element == "f64":
        return SequentialFma()
    if accumulator == "i32":
        return IntegerDot()
    bits = ELEMENT_BITS[element]
    fraction_bits = 13 if bits == 8 else _FRACTION_BITS[machine]
    length = _FUSED_BYTES[machine] * 8 // bits
    if accumulator == "f16":
        return TruncatedSum(fraction_bits, length, Rounding.NEAREST_EVEN, 10)
    return TruncatedSum(fraction_bits, length, result_fraction_bits=13 if bits == 8 else 23)


# Fragments: four lanes share a row of the left operand and of the accumulator, or a column of the right one. A lane
# holds as many neighbours along k as fit 32 bits, and two neighbours of the accumulator. Registers count the steps
# along k (or 8 columns) first, then the halves of the rows, then the neighbours. The `warps` of a group are below
# each other.


def _layout(tile: tuple[int, int], **axes: list[tuple[int, int]]) -> Layout:
    kept = {name: [mode for mode in modes if mode[0] > 1] for name, modes in axes.items()}
    return Layout.of(tile, **{name: modes for name, modes in kept.items() if modes})


def _neighbours(element: str) -> int:
    return max(1, 32 // ELEMENT_BITS[element])


@cache
def _lhs(element: str, m: int, k: int, warps: int = 1) -> Layout:
    near, halves = _neighbours(element), m // warps // 8
    register = [(k // (4 * near), 4 * near), (halves, 8 * k), (near, 1)]
    return _layout((m, k), warp=[(warps, 16 * k)], register=register, lane=[(8, k), (4, near)])


@cache
def _rhs(element: str, k: int, n: int) -> Layout:
    near = _neighbours(element)
    return _layout((k, n), register=[(k // (4 * near), 4 * near * n), (near, n)], lane=[(8, 1), (4, near * n)])


@cache
def _sums(m: int, n: int, warps: int = 1) -> Layout:
    register = [(n // 8, 8), (m // warps // 8, 8 * n), (2, 1)]
    return _layout((m, n), warp=[(warps, 16 * n)], register=register, lane=[(8, n), (4, 2)])


def _name(unit: str, shape: str, types: tuple[str, str, str]) -> str:
    kept = list(types)
    while len(kept) > 1 and kept[-1] == kept[-2]:
        kept.pop()
    return ".".join(("nvidia", unit, shape, *kept))


def _mma(machine: str, types: tuple[str, str, str], shape: tuple[int, int, int], latency: int) -> MmaIntrinsic:
    """One mma.sync; ``types`` are those of accumulator, lhs and rhs. A tensor core's rate is by bytes along k.

    The instruction itself cuts f32 off to tf32; factors are in registers, where they are rounded first.
    """
    (accumulator, lhs, rhs), (m, n, k) = types, shape
    if lhs == "f64":
        rate = {_AMPERE: 64, _HOPPER: 128}[machine] / (m * n * k)
    else:
        rate = {_AMPERE: 0.5, _HOPPER: 0.63}[machine] * 256 / (ELEMENT_BITS[lhs] * k) * 16 / m
    return MmaIntrinsic(
        name=_name("mma" if machine == _AMPERE else "mma_sm90", f"m{m}n{n}k{k}", types),
        m=m,
        n=n,
        k=k,
        lhs=Operand(lhs, _lhs(lhs, m, k), rounded=lhs == "tf32"),
        rhs=Operand(rhs, _rhs(rhs, k, n), rounded=rhs == "tf32"),
        accumulator=Operand(accumulator, _sums(m, n)),
        numerics=_numerics(machine, lhs, accumulator),
        rate=rate,
        latency=latency,
        feature=machine,
        document=f"PTX ISA 8.7, mma instruction, Matrix Fragments for mma.m{m}n{n}k{k}",
    )


def _wgmma(types: tuple[str, str, str], n: int) -> MmaIntrinsic:
    accumulator, lhs, rhs = types
    k = 256 // ELEMENT_BITS[lhs]
    along_k = ELEMENT_BITS[lhs] != 16  # PTX ISA 8.7, wgmma.mma_async: imm-trans-a and imm-trans-b are for f16 and bf16
    return MmaIntrinsic(
        name=_name("wgmma", f"m64n{n}k{k}", types),
        m=64,
        n=n,
        k=k,
        lhs=Operand(lhs, _lhs(lhs, 64, k, warps=4), (Home.SCRATCH, Home.REGISTER), along_k=along_k),
        rhs=Operand(rhs, None, (Home.SCRATCH,), along_k=along_k),
        accumulator=Operand(accumulator, _sums(64, n, warps=4)),
        numerics=_numerics(_HOPPER, lhs, accumulator),
        rate=2 / n,
        latency=max(32, n // 2),
        feature=_HOPPER,
        document=f"PTX ISA 8.7, wgmma.mma_async, Register Fragments and Shared Memory Matrix Layouts for m64nNk{k}",
    )


def _fma(machine: str, element: str, lanes: int) -> MmaIntrinsic:
    """The plain fma of every lane by itself, ``lanes`` of them a cycle and SM: f32 programs stay f32."""
    scalar = Operand(element, Layout.of((1, 1)))
    return MmaIntrinsic(
        name=f"nvidia.{'fma' if machine == _AMPERE else 'fma_sm90'}.1x1x1.{element}",
        m=1,
        n=1,
        k=1,
        lhs=scalar,
        rhs=scalar,
        accumulator=scalar,
        numerics=SequentialFma(),
        rate=lanes,
        latency=4,
        feature=machine,
        document="PTX ISA 8.7, Floating Point Instructions: fma; CUDA C++ Programming Guide, Arithmetic Instructions",
    )


def _mma_rows(machine: str) -> Iterator[MmaIntrinsic]:
    for types in (("f32", "bf16", "bf16"), ("f32", "f16", "f16"), ("f16", "f16", "f16")):
        yield _mma(machine, types, (16, 8, 16), 24 if types[0] == "f16" else 33)
        yield _mma(machine, types, (16, 8, 8), 18 if types[0] == "f16" else 25)
    yield _mma(machine, ("f32", "tf32", "tf32"), (16, 8, 8), 33)
    yield _mma(machine, ("f32", "tf32", "tf32"), (16, 8, 4), 25)
    for pair in _BYTES:
        for shape, latency in (((16, 8, 32), 25), ((16, 8, 16), 18), ((8, 8, 16), 16)):
            yield _mma(machine, ("i32", *pair), shape, latency)
    for shape in ((16, 8, 16), (16, 8, 8), (16, 8, 4), (8, 8, 4))[0 if machine == _HOPPER else 3 :]:
        yield _mma(machine, ("f64", "f64", "f64"), shape, 26)


def _wgmma_rows() -> Iterator[MmaIntrinsic]:
    floats = [("f32", "bf16", "bf16"), ("f32", "f16", "f16"), ("f16", "f16", "f16"), ("f32", "tf32", "tf32")]
    floats += [(accumulator, *pair) for pair in _FLOAT8 for accumulator in ("f32", "f16")]
    for types in floats:
        yield from (_wgmma(types, n) for n in range(8, 257, 8))
    for pair in _BYTES:
        yield from (_wgmma(("i32", *pair), n) for n in (8, 16, 24, *range(32, 257, 16)))


def _moves(store: bool) -> Iterator[MatrixMove]:
    """ldmatrix and stmatrix: matrices of 8x8 elements of 16 bits below each other, as they are or transposed."""
    instruction, feature = ("stmatrix", _HOPPER) if store else ("ldmatrix", _AMPERE)
    for count in (4, 2, 1):
        for transposed in (False, True):
            near, row, column = (8, 1, 16) if transposed else (1, 8, 2)
            layout = _layout((8 * count, 8), register=[(count, 64), (2, near)], lane=[(8, row), (4, column)])
            yield MatrixMove(
                name=f"nvidia.{instruction}.x{count}{'.trans' if transposed else ''}",
                layout=layout,
                element_bits=16,
                store=store,
                feature=feature,
                document=f"PTX ISA 8.7, Warp-level matrix {'store' if store else 'load'} instruction: {instruction}",
            )


_LOADS, _STORES = tuple(_moves(store=False)), tuple(_moves(store=True))
_APPROXIMATIONS = ("exp2", "rsqrt")
"""``ex2.approx.ftz.f32``: 2 units of 2^-23, ``rsqrt.approx.ftz.f32``: 2^-22.9 of the result (PTX ISA 8.7, Floating
Point Instructions: ex2, rsqrt). The others that there are are less accurate than f32 asks for."""
_LIMITS = BlockLimits(
    threads=1024,
    threads_per_unit=2048,
    blocks_per_unit=32,
    registers_per_unit=1 << 16,
    registers_per_thread=255,
    register_granularity=8,
    scratch=163 << 10,
    scratch_reserved=1 << 10,
    scratch_per_unit=164 << 10,
    barriers=16,
    cluster=1,
)


def _hopper(name: str, main_capacity: int, main_bandwidth: float) -> Machine:
    return Machine(
        name=name,
        features=("sm_80", "sm_90a"),
        triple="nvptx64-nvidia-cuda",
        cpu="sm_90a",
        attributes="+ptx80",
        levels=(Level("sm", 132), Level("warp", 64), Level("lane", 32)),
        memories=(
            Memory("shared", "sm", 228 << 10, 128, 128),
            Memory("L2", "machine", 50 << 20, 5632, 128),
            Memory("main", "machine", main_capacity, main_bandwidth, 64),
        ),
        vector_registers=255,
        vector_bits=1024,
        clock=1.83e9,
        intrinsics=_HOPPER_ROWS,
        moves=(*_LOADS, *_STORES),
        limits=replace(_LIMITS, scratch=227 << 10, scratch_per_unit=228 << 10, cluster=8),
        block_copy_bytes=16,
        approximations=_APPROXIMATIONS,
    )


_HOPPER_ROWS = (*_wgmma_rows(), *_mma_rows(_HOPPER), _fma(_HOPPER, "f32", 128), _fma(_HOPPER, "f64", 64))

MACHINES = (
    Machine(
        name="sm_80",
        features=("sm_80",),
        triple="nvptx64-nvidia-cuda",
        cpu="sm_80",
        attributes="+ptx80",
        levels=(Level("sm", 108), Level("warp", 64), Level("lane", 32)),
        memories=(
            Memory("shared", "sm", 164 << 10, 128, 128),
            Memory("L2", "machine", 40 << 20, 5120, 128),
            Memory("main", "machine", 40 << 30, 1103, 64),
        ),
        vector_registers=255,
        vector_bits=1024,
        clock=1.41e9,
        intrinsics=(*_mma_rows(_AMPERE), _fma(_AMPERE, "f32", 64), _fma(_AMPERE, "f64", 32)),
        moves=_LOADS,
        limits=_LIMITS,
        approximations=_APPROXIMATIONS,
    ),
    _hopper("sm_90a", 80 << 30, 1831),
    _hopper("sm_90a-h200", 141 * 10**9, 2623),
)
