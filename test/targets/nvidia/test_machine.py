"""Every row three ways: it holds every place once, agrees with the PTX ISA's closed form, and ptxas assembles it."""

from itertools import groupby

import numpy as np
import pytest
from one_instruction import module, ptx_type

from crosstile.targets.layout import Layout
from crosstile.targets.model import BlockLimits, Machine, MmaIntrinsic, ModelError, intrinsics, machine
from crosstile.targets.numerics import IntegerDot, SequentialFma, TruncatedSum
from crosstile.targets.nvidia.ptxas import assemble, disassemble
from crosstile.targets.nvidia.simulator.fragments import (
    MMA_SHAPES,
    WGMMA_K,
    Fragment,
    ldmatrix,
    mma_fragment,
    wgmma_fragment,
    wgmma_widths,
)
from crosstile.targets.nvidia.simulator.matrix_units import ACCUMULATORS, arithmetic

MACHINES = [machine("sm_80"), machine("sm_90a")]
ROWS = list(intrinsics("nvidia").values())
PRODUCTS = [row for row in ROWS if row.m > 1]


def unit(row: MmaIntrinsic) -> str:
    return row.name.split(".")[1]


def same_places(layout: Layout, fragment: Fragment) -> bool:
    """Element i of lane l (of warp l / 32) of the closed form is register i of the layout."""
    axes = [(axis, layout.size(axis)) for axis, _ in layout.axes]
    places = np.array(layout.offsets()).reshape([size for _, size in axes])
    names = [axis for axis, _ in axes]
    order = [names.index(axis) for axis in ("register", "warp", "lane") if axis in names]
    places = places.transpose(order).reshape(-1, fragment.rows.shape[1])
    return np.array_equal(places, fragment.rows * fragment.shape[1] + fragment.columns)


@pytest.mark.parametrize("kind", sorted({unit(row) for row in PRODUCTS}))
def test_every_layout_is_the_closed_form(kind: str) -> None:
    """And so it is onto and one to one: the closed forms are, by their own test."""
    for row in (row for row in PRODUCTS if unit(row) == kind):
        element, shape = ptx_type(row.lhs.element), (row.m, row.n, row.k)
        assert row.lhs.layout is not None and row.accumulator.layout is not None
        if kind == "wgmma":
            pairs = [
                (row.lhs.layout, wgmma_fragment("a", row.n, element)),
                (row.accumulator.layout, wgmma_fragment("d", row.n, element)),
            ]
        else:
            assert row.rhs.layout is not None
            pairs = [
                (row.lhs.layout, mma_fragment("a", shape, element)),
                (row.rhs.layout, mma_fragment("b", shape, ptx_type(row.rhs.element))),
                (row.accumulator.layout, mma_fragment("d", shape, element)),
            ]
        for layout, fragment in pairs:
            assert layout.tile == fragment.shape, row.name
            assert layout.is_onto and layout.is_injective, row.name
            assert same_places(layout, fragment), row.name


def test_a_wrong_row_is_found() -> None:
    """The halves of the rows before the steps of k: the order of registers that m16n8k16's A does not have."""
    right = Layout.parse("tile(16, 16) register(2:8, 2:128, 2:1) lane(8:16, 4:2)")
    wrong = Layout.parse("tile(16, 16) register(2:128, 2:8, 2:1) lane(8:16, 4:2)")
    fragment = mma_fragment("a", (16, 8, 16), "f16")
    assert same_places(right, fragment) and not same_places(wrong, fragment)


@pytest.mark.parametrize("owner", MACHINES, ids=lambda owner: owner.name)
def test_every_instruction_assembles(owner: Machine) -> None:
    rows = sorted(owner.intrinsics, key=lambda row: (unit(row), row.lhs.element))
    for _, group in groupby(rows, key=lambda row: (unit(row), row.lhs.element)):
        cubin, _ = assemble(module(group, owner.cpu), owner.cpu)
        assert cubin.startswith(b"\x7fELF")
    cubin, _ = assemble(module(owner.moves, owner.cpu), owner.cpu)
    assert disassemble(cubin)


def test_no_instruction_is_missing() -> None:
    """Every shape, type and accumulator of the closed forms has a row, but what sm_90 makes of other instructions."""
    known = {row.name for row in ROWS}
    for row in PRODUCTS:
        assert ptx_type(row.accumulator.element) in ACCUMULATORS[ptx_type(row.lhs.element)]
    for element, shapes in MMA_SHAPES.items():
        for m, n, k in shapes if element not in ("e4m3", "e5m2") else ():
            found = [
                row.name
                for row in ROWS
                if (row.m, row.n, row.k) == (m, n, k) and ptx_type(row.lhs.element) == element and unit(row) != "wgmma"
            ]
            assert found, (element, m, n, k)
    for element in WGMMA_K:
        widths = {row.n for row in ROWS if unit(row) == "wgmma" and ptx_type(row.lhs.element) == element}
        assert widths == set(wgmma_widths(element))
    assert {"nvidia.fma.1x1x1.f32", "nvidia.fma_sm90.1x1x1.f64", "nvidia.mma_sm90.m16n8k16.f64"} <= known


def test_the_arithmetic_is_that_of_the_matrix_units() -> None:
    for owner in MACHINES:
        for row in owner.intrinsics:
            if isinstance(row.numerics, TruncatedSum):
                found = arithmetic(owner.cpu, ptx_type(row.lhs.element), ptx_type(row.accumulator.element))
                assert row.numerics == found, row.name
            else:
                exact = SequentialFma if row.accumulator.element in ("f32", "f64") else IntegerDot
                assert isinstance(row.numerics, exact), row.name


def test_f32_stays_f32() -> None:
    """tf32 has a type of its own, which no f32 operand has."""
    for owner in MACHINES:
        assert isinstance(owner.choose("f32", "f32", "f32").numerics, SequentialFma)
        assert owner.choose("tf32", "tf32", "f32").lhs.element == "tf32"


@pytest.mark.parametrize(
    ("name", "types", "tera_operations"),
    [
        ("sm_80", ("f32", "f32", "f32"), 19.5),  # NVIDIA A100 white paper, table 1
        ("sm_80", ("f64", "f64", "f64"), 19.5),
        ("sm_80", ("si8", "si8", "i32"), 624),
        ("sm_90a", ("f8E4M3FN", "f8E4M3FN", "f32"), 1978.9),  # NVIDIA H100 white paper, table 2, at 1.83 GHz
        ("sm_90a", ("si8", "ui8", "i32"), 1978.9),
        ("sm_90a", ("f64", "f64", "f64"), 61.8),  # 66.9 at 1.98 GHz
    ],
)
def test_rates_give_the_published_peaks(name: str, types: tuple[str, str, str], tera_operations: float) -> None:
    row = machine(name)
    assert row.peak(row.choose(*types)) == pytest.approx(tera_operations * 1e12, rel=0.003)


def test_matrix_moves_are_ldmatrix() -> None:
    """The layout of each is what the instruction does with rows of numbered elements."""
    for move in machine("sm_90a").moves:
        count = move.layout.tile[0] // 8
        numbered = np.arange(64 * count, dtype=np.uint16).reshape(count, 8, 8)
        registers = ldmatrix(numbered.view(np.uint8).reshape(count, 8, 16), move.name.endswith(".trans"))
        held = np.ascontiguousarray(registers.T).view(np.uint16).T  # [element, lane]
        names = [axis for axis, _ in move.layout.axes]
        assert names == ["register", "lane"]
        np.testing.assert_array_equal(np.array(move.layout.offsets()).reshape(-1, 32), held)
    assert not any(move.store for move in machine("sm_80").moves)


@pytest.mark.parametrize(
    ("name", "threads", "registers", "scratch", "blocks"),
    [
        ("sm_80", 128, 214, 64 << 10, 2),  # 8 registers round up to 216: 2 blocks of 27648
        ("sm_80", 1024, 64, 0, 1),
        ("sm_80", 32, 16, 0, 32),
        ("sm_90a", 384, 168, 200 << 10, 1),
        ("sm_90a", 256, 128, 100 << 10, 2),
        ("sm_90a", 128, 32, 228 << 10, 0),
        ("sm_90a", 1025, 32, 0, 0),
    ],
)
def test_occupancy(name: str, threads: int, registers: int, scratch: int, blocks: int) -> None:
    limits = machine(name).limits
    assert limits is not None
    assert limits.resident_blocks(threads, registers, scratch) == blocks


def test_limits_check_themselves() -> None:
    with pytest.raises(ModelError, match="one block has more than its unit"):
        BlockLimits(1024, 512, 32, 1 << 16, 255, 8, 1 << 10, 0, 1 << 20, 16, 1)


def test_the_h200_differs_in_its_memory() -> None:
    h100, h200 = machine("sm_90a"), machine("sm_90a-h200")
    assert h200.intrinsics == h100.intrinsics
    assert h200.memory("main").bandwidth * h200.clock == pytest.approx(4.8e12, rel=0.001)
    assert h100.memory("main").bandwidth * h100.clock == pytest.approx(3.35e12, rel=0.001)
