"""Fragments are drawn where the PTX ISA's figures have them, for the matrix instructions that a kernel executes."""

from __future__ import annotations

import re

import pytest

from crosstile.targets.nvidia.ptx.module import Instruction
from crosstile.targets.nvidia.ptx.parser import parse_ptx
from crosstile.targets.nvidia.simulator.fragment_picture import CELL, LEFT, ROW, draw, drawings, height, width

HEAD = ".version 8.3\n.target sm_90a\n.address_size 64\n.visible .entry k() {\n.reg .f32 %d<4>;\n.reg .b32 %r<9>;\n"
MMA = (
    "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
    "{%d0,%d1,%d2,%d3}, {%r0,%r1,%r2,%r3}, {%r4,%r5}, {%d0,%d1,%d2,%d3};\n"
)
WGMMA = (
    ".reg .b64 %rd<2>;\n.reg .pred %p<1>;\n"
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%d0,%d1,%d2,%d3}, %rd0, %rd1, %p0, 1, 1, 0, 0;\n"
)


def body(text: str) -> list[Instruction]:
    return list(parse_ptx(f"{HEAD}{text}ret;\n}}\n").functions["k"].body)


def places(lines: list[str], top: int) -> dict[str, tuple[int, int]]:
    """Row and column of the cell with each text."""
    found: dict[str, tuple[int, int]] = {}
    for line in lines:
        if match := re.fullmatch(r'<rect x="(\d+)" y="(\d+)" .*>(\d+ [abd]\d+)</text>', line):
            found[match[3]] = ((int(match[2]) - top) // ROW - 2, (int(match[1]) - LEFT) // CELL)
    return found


def test_mma_has_three_fragments_once_however_often_it_is_executed():
    found = drawings(body(MMA + MMA))
    assert [(one.role, one.fragment.shape) for one in found] == [("a", (16, 16)), ("b", (16, 8)), ("d", (16, 8))]
    assert found[0].title == "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32: A, 16 x 16"


# "Matrix Fragments for mma.m16n8k16 with floating point type": group = lane >> 2, member = lane % 4.
@pytest.mark.parametrize(
    ("operand", "cells"),
    [
        (0, {"0 a0": (0, 0), "5 a1": (1, 3), "5 a2": (9, 2), "5 a4": (1, 10), "31 a7": (15, 15)}),
        (1, {"0 b0": (0, 0), "5 b1": (3, 1), "5 b2": (10, 1), "31 b3": (15, 7)}),
        (2, {"0 d0": (0, 0), "5 d1": (1, 3), "5 d2": (9, 2), "31 d3": (15, 7)}),
    ],
)
def test_each_cell_stands_where_the_isa_has_it(operand: int, cells: dict[str, tuple[int, int]]):
    drawing = drawings(body(MMA))[operand]
    found = places(draw(drawing, 100), 100)
    assert len(found) == drawing.fragment.shape[0] * drawing.fragment.shape[1]
    assert {name: found[name] for name in cells} == cells


def test_four_warps_of_wgmma_lie_below_each_other_and_operands_in_memory_have_no_fragment():
    (accumulator,) = drawings(body(WGMMA))
    found = places(draw(accumulator, 0), 0)
    assert (len(found), found["32 d0"], found["127 d3"]) == (64 * 8, (16, 0), (63, 7))


def test_wide_accumulators_are_cut_and_say_so():
    registers = ",".join(f"%d{i}" for i in range(128))
    wide = WGMMA.replace("m64n8k16", "m64n256k16").replace("%d0,%d1,%d2,%d3", registers)
    (accumulator,) = drawings(body(wide))
    lines = draw(accumulator, 0)
    assert len(places(lines, 0)) == 64 * 32 and "the first 32 columns" in lines[0]
    assert width(accumulator) > LEFT + 32 * CELL and height(accumulator) > 64 * ROW
