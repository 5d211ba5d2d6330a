"""Tiles in the vector registers of a core: the layout each shape gets, and which register holds which place.

The last dimension lies across the lanes of a register and then across registers; all other dimensions across registers.
A tile whose last dimension is 1 has one register per row, the same number in every lane. On 16 lanes::

    8x32   tile(8, 32) lane(16:1) register(16:16)    register 2*i + j holds columns 16*j to 16*j + 15 of row i
    8x1    tile(8, 1) lane(16:0) register(8:1)       register i holds row i in all lanes

The factors of a dot-product instruction have words of G elements in their lanes, neighbours in k (axis ``element``)::

    2x32   tile(2, 32) lane(16:1) element(2:32) register(2:16)    lane l of register j: rows 0 and 1 of column 16*j + l
    8x2    tile(8, 2) lane(16:0) element(2:1) register(8:2)       register i: columns 0 and 1 of row i in all lanes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import prod

from crosstile.dialects.mma.attributes import canonical
from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.layout import Layout
from crosstile.targets.model import Machine, UnknownNameError

LANE, REGISTER, ELEMENT = "lane", "register", "element"


def lanes_of(machine: Machine, element: str) -> int:
    """How many lanes the machine's multiply-add of ``element`` has; f32's for a type that has none."""
    try:
        layout = machine.choose(element, element, element).accumulator.layout
    except UnknownNameError:
        return lanes_of(machine, "f32")
    if layout is None:
        raise CrosstileError(f"machine {machine.name} keeps accumulators of {element} in no vector registers")
    return layout.size(LANE)


def registers_needed(rows: int, vectors: int) -> int:
    """The registers of a product: accumulators, one row of the right factor, one number of the left."""
    return rows * vectors + vectors + 1


def tile_registers_needed(rows: int, columns: int) -> int:
    """The tile registers of a product of so many rows and columns of them: accumulators, and one step of factors."""
    return rows * columns + rows + columns


@cache
def register_layout(shape: tuple[int, ...], lanes: int) -> Layout:
    """The layout of a tile of ``shape`` in registers of ``lanes`` lanes.

    Raises :class:`CrosstileError` if the last dimension is neither 1 nor a multiple of ``lanes``.
    """
    *rows, last = shape
    if last != 1 and last % lanes:
        below, above = last - last % lanes, last - last % lanes + lanes
        legal = " or ".join(str(size) for size in (below or 1, above))
        raise CrosstileError(
            f"a tile of shape {'x'.join(map(str, shape))} does not fill vector registers of {lanes} lanes: its last "
            f"dimension must be 1 or a multiple of {lanes}; the nearest legal size is {legal}"
        )
    modes = [(size, prod(shape[dim + 1 :])) for dim, size in enumerate(rows)]
    if last == 1:
        return canonical(Layout.of(shape, lane=[(lanes, 0)], register=modes))
    return canonical(Layout.of(shape, lane=[(lanes, 1)], register=[*modes, (last // lanes, lanes)]))


def factor_layout(shape: tuple[int, int], atom: Layout) -> Layout:
    """The layout of a factor of ``shape`` made of the operands ``atom`` of an instruction, row after row."""
    rows, columns = (size // part for size, part in zip(shape, atom.tile, strict=True))
    grid = Layout.of((rows, columns), register=[(rows, columns), (columns, 1)])
    return canonical(grid.product(atom))


@dataclass(frozen=True)
class Registers:
    """The registers of a fragment: ``starts`` are the places that lane 0 of each holds, ``lanes`` how many lanes.

    Along the lanes of one register the last coordinate grows by one, or (``replicated``) nothing changes. A lane holds
    ``group`` elements: neighbours along the last dimension if replicated, else along the one before it.
    """

    shape: tuple[int, ...]
    lanes: int
    replicated: bool
    starts: tuple[tuple[int, ...], ...]
    group: int = 1

    @property
    def elements(self) -> int:
        """How many elements a register holds, copies counted."""
        return self.lanes * self.group

    def holding(self, place: Sequence[int]) -> int:
        """The register that holds ``place``; coordinates of dimensions of size 1 do not count."""
        wanted = [0 if size == 1 else coordinate for size, coordinate in zip(self.shape, place, strict=True)]
        if not self.replicated:
            wanted[-1] -= wanted[-1] % self.lanes
        if self.group > 1:
            along = -1 if self.replicated else -2
            wanted[along] -= wanted[along] % self.group
        return _positions(self.starts)[tuple(wanted)]


@cache
def _positions(starts: tuple[tuple[int, ...], ...]) -> dict[tuple[int, ...], int]:
    return {start: number for number, start in enumerate(starts)}


@cache
def registers_of(layout: Layout) -> Registers:
    """The registers of a fragment laid out as ``layout``.

    Raises :class:`CrosstileError` for a layout that is not one of a core's vector registers: another axis than lanes
    and registers, or lanes that do not hold consecutive places of the last dimension (or all the same place).
    """
    known = (LANE, REGISTER, ELEMENT)
    strange = [axis for axis, modes in layout.axes if axis not in known and any(m.size > 1 for m in modes)]
    lane_modes = [mode for axis, modes in layout.axes if axis == LANE for mode in modes if mode.size > 1]
    lanes = prod(mode.size for mode in lane_modes)
    replicated = all(mode.stride == 0 for mode in lane_modes)
    consecutive = len(lane_modes) <= 1 and all(mode.stride == 1 for mode in lane_modes)
    words = [mode for axis, modes in layout.axes if axis == ELEMENT for mode in modes]
    group = prod(mode.size for mode in words)
    # The elements of a word are neighbours: in a row if all lanes hold the same word, else in a column.
    neighbours = 1 if replicated else layout.tile[-1]
    strange += [ELEMENT for _ in words if [mode.stride for mode in words] != [neighbours]]
    if strange or not (replicated or consecutive):
        raise CrosstileError(
            f"layout {layout} is not one of a core's vector registers, whose lanes hold consecutive places of the last "
            f"dimension or all the same place, as in {register_layout((8, 4 * lanes), lanes)}"
        )
    registers = [mode for axis, modes in layout.axes if axis == REGISTER for mode in modes]
    offsets = [sum(digits) for digits in product(*(tuple(i * m.stride for i in range(m.size)) for m in registers))]
    starts = tuple(_coordinates(offset, layout.tile) for offset in offsets)
    if not replicated and any(start[-1] % lanes for start in starts):
        raise CrosstileError(f"layout {layout}: a register must begin at a multiple of its {lanes} lanes")
    if lanes == 1 and replicated and group == 1:
        return Registers(layout.tile, 1, layout.tile[-1] == 1, starts)
    return Registers(layout.tile, lanes, replicated, starts, group)


def _coordinates(place: int, shape: Sequence[int]) -> tuple[int, ...]:
    coordinates: list[int] = []
    for size in reversed(shape):
        place, coordinate = divmod(place, size)
        coordinates.insert(0, coordinate)
    return tuple(coordinates)
