"""A picture of fragments: which lane, and which of its elements, holds each place of the matrices of a kernel.

Level: the simulator. In: the instructions that a kernel executed. Out: lines of SVG below each other: for every kind of
mma.sync and wgmma the operands that it has in registers, one cell for each place of the matrix. ``5 a3`` is element 3
of lane 5's fragment A, and cells of one lane have one colour. The layouts are the closed forms of :mod:`fragments`,
so the picture shows what the PTX ISA says and not what the compiler believes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from colorsys import hls_to_rgb
from html import escape
from typing import NamedTuple

import numpy as np

from crosstile.targets.nvidia.ptx.module import Instruction, Vector
from crosstile.targets.nvidia.simulator.fragments import LANES, Fragment, mma_fragment, wgmma_fragment

CELL = 38
ROW = 13
LEFT = 60
GAP = 24
COLUMNS = 32
"""Columns that are drawn of a matrix; an accumulator of wgmma repeats every 8."""


class Drawing(NamedTuple):
    """An operand (``a``, ``b`` or ``d``) of an instruction, and its fragment."""

    title: str
    role: str
    fragment: Fragment


def drawings(instructions: Iterable[Instruction]) -> list[Drawing]:
    """The fragments of every kind of matrix instruction among ``instructions``, in the order of their first one."""
    found: dict[str, Drawing] = {}
    for instruction in instructions:
        shape = next((one for one in instruction.modifiers if re.fullmatch(r"m\d+n\d+k\d+", one)), None)
        if shape is None:
            continue
        for role, fragment in _fragments(instruction, shape):
            title = f"{instruction.name}: {role.upper()}, {fragment.shape[0]} x {fragment.shape[1]}"
            found.setdefault(title, Drawing(title, role, fragment))
    return list(found.values())


def _fragments(instruction: Instruction, shape: str) -> list[tuple[str, Fragment]]:
    m, n, k = (int(one) for one in re.findall(r"\d+", shape))
    if instruction.opcode == "mma":
        a_type, b_type = instruction.modifiers[-3:-1]
        return [
            ("a", mma_fragment("a", (m, n, k), a_type)),
            ("b", mma_fragment("b", (m, n, k), b_type)),
            ("d", mma_fragment("d", (m, n, k), a_type)),
        ]
    a_type = instruction.modifiers[-2]
    a_is_fragment = isinstance(instruction.operands[1], Vector)
    found = [("a", wgmma_fragment("a", n, a_type))] if a_is_fragment else []
    return [*found, ("d", wgmma_fragment("d", n, a_type))]


def height(drawing: Drawing) -> int:
    """The pixels that a drawing takes, with the gap below it."""
    return ROW * (drawing.fragment.shape[0] + 2) + GAP


def width(drawing: Drawing) -> int:
    """The pixels from the left edge of the picture."""
    return LEFT + CELL * min(COLUMNS, drawing.fragment.shape[1]) + GAP


def draw(drawing: Drawing, top: int) -> list[str]:
    """The lines of SVG of one drawing, from ``top`` downwards."""
    rows, columns = drawing.fragment.shape
    shown = min(COLUMNS, columns)
    rest = f"; the first {shown} columns, the others go on alike" if shown < columns else ""
    lines = [_text(8, top + 10, f"{drawing.title}{rest}", 11)]
    lines += [_text(LEFT + column * CELL, top + ROW + 10, str(column)) for column in range(shown)]
    for element, lane in np.argwhere(drawing.fragment.columns < shown).tolist():
        row, column = int(drawing.fragment.rows[element, lane]), int(drawing.fragment.columns[element, lane])
        x, y = LEFT + column * CELL, top + ROW * (row + 2)
        # Hues go around the lanes of a warp, and each warp is darker than the one above it.
        colour = hls_to_rgb(lane % LANES / LANES, 0.86 - 0.06 * (lane // LANES), 0.7)
        fill = ",".join(str(round(255 * channel)) for channel in colour)
        lines.append(
            f'<rect x="{x}" y="{y}" width="{CELL - 1}" height="{ROW - 1}" fill="rgb({fill})"/>'
            + _text(x + 2, y + 9, f"{lane} {drawing.role}{element}", 8)
        )
    return [*lines, *(_text(30, top + ROW * (row + 2) + 10, str(row)) for row in range(rows))]


def _text(x: int, y: int, text: str, size: int = 9) -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}">{escape(text)}</text>'
