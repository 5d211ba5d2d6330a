"""Machine and intrinsic rows: every row is complete, rows check themselves, unknown names are errors."""

import importlib
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from crosstile.targets.layout import Layout
from crosstile.targets.model import (
    ELEMENT_BITS,
    Home,
    Level,
    Machine,
    Memory,
    MmaIntrinsic,
    ModelError,
    Operand,
    UnknownNameError,
    families,
    intrinsic,
    intrinsics,
    machine,
    machines,
)
from crosstile.targets.numerics import EvenOddChains, IntegerDot, MultiplyThenAdd, Rounding, SequentialFma, TruncatedSum

ROW = intrinsic("x86.avx512.fma.1x16x1.f32")
MACHINE = machine("x86-64-avx512")


@pytest.mark.parametrize("name", sorted(intrinsics()))
def test_every_intrinsic_row_is_complete(name: str) -> None:
    row = intrinsic(name)
    assert row.name == name
    assert isinstance(row.numerics, SequentialFma | EvenOddChains | MultiplyThenAdd | TruncatedSum | IntegerDot)
    assert len(row.document) > 20
    assert [owner for owner in machines().values() if row in owner.intrinsics]
    for operand in (row.lhs, row.rhs, row.accumulator):
        if operand.layout is not None:
            # One load or one store of the whole operand: every place has a holder that can be found.
            assert operand.layout.compose(operand.layout.invert()).offsets() == list(range(operand.layout.places))
    assert row.accumulator.layout is not None
    assert row.accumulator.layout.is_injective


@pytest.mark.parametrize("name", sorted(machines()))
def test_every_machine_row_is_complete(name: str) -> None:
    row = machine(name)
    assert row.name == name
    assert [memory.capacity for memory in row.memories] == sorted(memory.capacity for memory in row.memories)
    for choice in row.intrinsics:
        assert row.peak(choice) > 0
        if "lane" in [level.name for level in row.levels] and choice.accumulator.layout is not None:
            lanes = choice.accumulator.layout.size("lane")
            if row.warp_lanes is None:
                assert lanes * ELEMENT_BITS[choice.accumulator.element] == row.vector_bits
            else:  # a warp's instruction, or one that each lane executes by itself
                assert lanes == (1 if choice.m == choice.n == 1 else row.warp_lanes)


@pytest.mark.parametrize(
    ("name", "element", "tera_operations"),
    [
        ("sm_80", "bf16", 312),  # NVIDIA A100 white paper, table 1
        ("sm_80", "tf32", 156),
        ("sm_90a", "bf16", 989.4),  # NVIDIA H100 white paper, table 2 (SXM5, dense)
        ("sm_90a", "tf32", 494.7),
        ("x86-64-avx512", "f32", 0.192),  # 2 fma a cycle of 16 lanes at 3 GHz
        ("x86-64-avx2", "f64", 0.048),
        ("x86-64-amx", "bf16", 3.072),  # 16 cycles for 16 x 16 x 32 multiply-adds
    ],
)
def test_rates_give_the_published_peaks(name: str, element: str, tera_operations: float) -> None:
    row = machine(name)
    accumulator = "f64" if element == "f64" else "f32"
    assert row.peak(row.choose(element, element, accumulator)) == pytest.approx(tera_operations * 1e12, rel=0.002)


def test_nvidia_operands_are_held_as_documented() -> None:
    """PTX ISA: a warp group is 4 warps of 32 lanes; an m64nN accumulator takes N/2 registers of each lane."""
    row = intrinsic("nvidia.wgmma.m64n128k16.f32.bf16")
    layout = row.accumulator.layout
    assert layout is not None
    assert (layout.size("warp"), layout.size("lane"), layout.size("register")) == (4, 32, 64)
    assert row.rhs.homes == (Home.SCRATCH,)
    assert row.rhs.layout is None


def test_choose() -> None:
    assert MACHINE.choose("f64", "f64", "f64").name == "x86.avx512.fma.1x8x1.f64"
    with pytest.raises(UnknownNameError, match=r"no intrinsic for bf16 x bf16 \+ f32; it has f32 x f32 \+ f32, f64 x"):
        MACHINE.choose("bf16", "bf16", "f32")


def test_small_questions() -> None:
    assert MACHINE.lanes("f32") == 16
    assert MACHINE.lanes("f64") == 8
    assert MACHINE.memory("L2").scope == "core"
    with pytest.raises(UnknownNameError, match=r"unknown memory of machine x86-64-avx512 'L4'; did you mean"):
        MACHINE.memory("L4")
    assert ROW.operations == 32


def test_unknown_names_list_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown machine 'x86-64-avx51'; did you mean 'x86-64-avx512' or"):
        machine("x86-64-avx51")
    with pytest.raises(UnknownNameError, match=r"unknown machine 'sm_90'; did you mean 'sm_90a'"):
        machine("sm_90")
    with pytest.raises(
        UnknownNameError, match=r"unknown intrinsic 'x86.avx512.fma.1x16x2.f32'; did you mean 'x86.avx512"
    ):
        intrinsic("x86.avx512.fma.1x16x2.f32")
    with pytest.raises(UnknownNameError, match=r"unknown intrinsic 'tpu.mxu'; known: generic\.muladd"):
        intrinsic("tpu.mxu")
    with pytest.raises(UnknownNameError):
        machine("host")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "x86.avx512.fma.f32"}, "has no shape such as 1x16x1"),
        ({"name": "x86.avx512.fma.1x8x1.f32"}, "the row says 1x16x1"),
        ({"name": "x86.avx512.fma.1x16x1.f64"}, "must end in its shape and types, 'f32'"),
        ({"name": "1x16x1.f32"}, "must end in its shape and types"),
        ({"lhs": Operand("f16", ROW.lhs.layout)}, "must end in its shape and types, 'f32.f16.f32'"),
        ({"lhs": ROW.rhs}, r"lhs layout is of tile \(1, 16\), not \(1, 1\)"),
        (
            {"rhs": Operand("f32", Layout.parse("tile(1, 16) lane(8:1)"))},
            "rhs layout .* leaves places without a holder",
        ),
        ({"rate": 0}, "rate 0 and latency 4 must be positive"),
        ({"document": ""}, "name the vendor's document"),
        ({"numerics": IntegerDot()}, r"IntegerDot\(saturate=False\) needs an accumulator of i32, not f32"),
        ({"numerics": SequentialFma(order=(1, 0))}, r"order \(1, 0\) is not of its 1 products"),
        ({"numerics": TruncatedSum(24, 8, Rounding.NEAREST_EVEN, 10)}, "needs an accumulator of f16, not f32"),
    ],
)
def test_intrinsic_rows_check_themselves(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        replace(ROW, **change)


def test_flushing_needs_f32() -> None:
    with pytest.raises(ModelError, match="needs an accumulator of f32, not f64"):
        replace(intrinsic("x86.avx512.fma.1x8x1.f64"), numerics=SequentialFma(flush_subnormals=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "x86.64"}, "only names of intrinsics have points"),
        ({"memories": ()}, "at least one level, one memory and one intrinsic"),
        ({"memories": (Memory("L1", "socket", 1, 1, 64),)}, "L1 has scope 'socket', not one of"),
        ({"features": ("avx2",)}, "needs 'avx512f', which the machine does not list"),
        ({"clock": 0}, "must be positive"),
        ({"levels": (Level("core", 1), Level("core", 2))}, "named twice"),
    ],
)
def test_machine_rows_check_themselves(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        replace(MACHINE, **change)


def test_small_rows_check_themselves() -> None:
    with pytest.raises(ModelError, match="unknown element type 'f31'"):
        Operand("f31", None, (Home.SCRATCH,))
    with pytest.raises(ModelError, match="exactly if it may live in registers"):
        Operand("f32", None)
    with pytest.raises(ModelError, match="one or more distinct homes"):
        Operand("f32", None, ())
    with pytest.raises(ModelError, match="the line a power of two"):
        Memory("L1", "core", 1 << 15, 64, 48)
    with pytest.raises(ModelError, match="count 0 is below 1"):
        Level("core", 0)
    with pytest.raises(ValueError, match="not a permutation of 0 to 1"):
        SequentialFma(order=(1, 2))
    with pytest.raises(ValueError, match="fused_length 1 to 32"):
        TruncatedSum(24, 64)
    with pytest.raises(ValueError, match="23 or 13 bits toward zero"):
        TruncatedSum(24, 8, Rounding.NEAREST_EVEN)


def test_intrinsic_names_begin_with_their_folder() -> None:
    for family in families():
        rows = importlib.import_module(f"crosstile.targets.{family}.machine").MACHINES
        assert rows
        assert all(isinstance(row, Machine) for row in rows)
        assert all(isinstance(row, MmaIntrinsic) and row.name.startswith(f"{family}.") for row in rows[0].intrinsics)


def test_descriptions_are_cheap_to_import() -> None:
    """Looking a row up takes neither numpy nor xDSL nor llvmlite."""
    program = (
        "import sys; from crosstile.targets import banks, host, model; model.intrinsic('nvidia.mma.m16n8k16.f32.bf16');"
        "model.machine('generic'); print([name for name in ('numpy', 'xdsl', 'llvmlite') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
