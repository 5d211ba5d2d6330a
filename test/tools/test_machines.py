"""crosstile machines: lists, rows, pictures, and names that do not exist."""

from __future__ import annotations

import pytest
from command import call

from crosstile.targets.model import intrinsic, machine, machines
from crosstile.tools import machines as tool


def test_the_list_has_every_machine():
    result = call(tool.main)
    assert result.code == 0 and result.err == ""
    assert [line.split()[0] for line in result.out.splitlines()[2:]] == sorted(machines())


@pytest.mark.parametrize("name", sorted(machines()))
def test_a_machine_shows_its_memories_and_intrinsics(name: str):
    row = machine(name)
    result = call(tool.main, name)
    assert result.code == 0
    first = [line.split()[0] for line in result.out.splitlines() if line]
    assert first[:2] == ["machine", "for"]
    assert all(memory.name in first for memory in row.memories)
    assert first[-len(row.intrinsics) :] == [choice.name for choice in row.intrinsics]


def test_this_machine_is_called_host():
    assert call(tool.main, "host").out.startswith("machine   ")


def test_an_intrinsic_shows_its_arithmetic_and_its_layouts():
    name = "nvidia.wgmma.m64n64k16.f32.bf16"
    row = intrinsic(name)
    assert row.accumulator.layout is not None
    out = call(tool.main, name).out
    assert "64x64 += 64x16 * 16x64, 131072 operations" in out
    assert str(row.numerics) in out
    assert row.document in out
    assert "rhs: bf16 in scratch\n" in out
    assert row.accumulator.layout.draw() in out


def test_several_names_are_described_in_order():
    out = call(tool.main, "generic", "x86.avx2.fma.1x8x1.f32").out
    assert out.index("machine   generic") < out.index("intrinsic   x86.avx2.fma.1x8x1.f32")


def test_unknown_names_and_flags():
    result = call(tool.main, "sm_91")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("crosstile machines: error: unknown machine 'sm_91'; did you mean 'sm_90a'")
    near = "unknown intrinsic 'x86.avx2.fma'; did you mean 'x86.avx2.fma.1x4x1.f64' or 'x86.avx2.fma.1x8x1.f32'?"
    assert near in call(tool.main, "x86.avx2.fma").err
    assert "unknown flag '--hlep'" in call(tool.main, "--hlep").err


def test_help():
    result = call(tool.main, "--help")
    assert result.code == 0
    assert result.out.startswith("usage: crosstile machines ")
