"""Layouts: which place of a tile each hardware location holds. Bottom layer: imports nothing of this project.

Level: data, used by the ``mma`` level and below. In: sizes and strides. Out: maps that compose, invert and draw.

A tutorial
----------
A core computes an 8x32 block of f32 in vector registers of 16 lanes. Each row takes two registers, so the block has
16 registers of 16 lanes, and register 2*i + j holds columns 16*j to 16*j + 15 of row i. As text, and as the parameter
of a fragment's type::

    tile(8, 32) register(8:32, 2:16) lane(16:1)
    %c : !mma.fragment<8x32xf32, #mma.layout<tile(8, 32) register(8:32, 2:16) lane(16:1)>>

``tile(8, 32)`` is the tile, whose places are numbered row by row (place = 32*row + column). Then comes one group per
*hardware axis*. A group is an ordered list of *modes* ``size:stride``, the outermost first like the dimensions of a
tensor: ``register(8:32, 2:16)`` has 8*2 = 16 registers, and register number r has the digits (r div 2, r mod 2), each
worth its stride. A *location* is one number per axis, and its place is the sum of all digits times their strides.
Register 5, lane 3 has digits (2, 1) and 3: place 2*32 + 1*16 + 3*1 = 83, row 2, column 19.

**Sizes are whatever the hardware has**, powers of two or not: six rows of 48 columns are
``tile(6, 48) register(6:48, 3:16) lane(16:1)``.

**Stride 0 is replication**: after a row sum every lane holds the same number, ``tile(8, 1) register(8:1) lane(16:0)``.
So a layout is *onto* (every place is somewhere) and not always one to one. Two rows of what a tensor core leaves in
its lanes, two neighbours to a lane and four lanes to a row of eight::

    >>> print(Layout.parse("tile(2, 8) lane(2:8, 4:2) register(2:1)").draw())
    tile(2, 8), each cell lane/register
         0    1    2    3    4    5    6    7
    0  0/0  0/1  1/0  1/1  2/0  2/1  3/0  3/1
    1  4/0  4/1  5/0  5/1  6/0  6/1  7/0  7/1

**Register order is part of a layout**: ``register(2:8, 2:1)`` and ``register(2:1, 2:8)`` hold the same places and
differ in which register holds which. NVIDIA's m16n8k16 A operand keeps the halves of k outermost, for example.

**Operations.** ``g.compose(f)`` first applies f, then reads f's place as a location of g. ``f.invert()`` maps a place
to a location that holds it, so ``f.compose(f.invert())`` is the identity of the tile. ``grid.product(atom)`` repeats
the atom's tile over the grid's: the first layout of this page is ``tile(8, 2) register(8:2, 2:1)`` times
``tile(1, 16) lane(16:1)``. ``f.restrict("lane")`` keeps one axis and sets the others to 0. A result that sums of digits
times strides cannot express is a :class:`LayoutError`, never an approximation: the caller then moves the data through
scratch. What a layout costs in banked memory, and how a swizzle helps, is in ``targets/banks.py``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple


class LayoutError(ValueError):
    """A layout that cannot exist, or a result that sizes and strides cannot express."""


class Mode(NamedTuple):
    """One digit of a hardware axis: ``size`` values, each worth ``stride`` places; stride 0 replicates."""

    size: int
    stride: int

    def __str__(self) -> str:
        return f"{self.size}:{self.stride}"


_GROUP = re.compile(r"\s*([a-z_][a-z0-9_]*)\s*\(([^()]*)\)")


@dataclass(frozen=True)
class Layout:
    """A map from hardware locations onto the places of ``tile``; ``axes`` are (name, modes), outermost first.

    Raises :class:`LayoutError` for a size below 1, a negative stride, an axis named twice or a place outside the tile.
    """

    tile: tuple[int, ...]
    axes: tuple[tuple[str, tuple[Mode, ...]], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tile", tuple(self.tile))
        object.__setattr__(self, "axes", tuple((name, tuple(Mode(*m) for m in modes)) for name, modes in self.axes))
        if any(size < 1 for size in self.tile):
            raise LayoutError(f"{self}: a tile's sizes are at least 1")
        names = [name for name, _ in self.axes]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise LayoutError(f"{self}: axis {repeated[0]!r} is given twice; list all its modes in one group")
        for mode in self.modes:
            if mode.size < 1 or mode.stride < 0:
                raise LayoutError(f"{self}: mode {mode} needs a size of at least 1 and a stride of at least 0")
        if (last := sum((mode.size - 1) * mode.stride for mode in self.modes)) >= self.places:
            raise LayoutError(f"{self}: the last location maps to place {last}, the tile has only {self.places} places")

    @classmethod
    def of(cls, tile: Sequence[int], **axes: Iterable[tuple[int, int]]) -> Layout:
        """A layout from keyword arguments: ``Layout.of((8, 32), register=[(8, 32), (2, 16)], lane=[(16, 1)])``."""
        return cls(tuple(tile), tuple((name, tuple(Mode(*m) for m in modes)) for name, modes in axes.items()))

    @classmethod
    def parse(cls, text: str) -> Layout:
        """Reads ``tile(8, 32) register(8:32, 2:16) lane(16:1)``; raises :class:`LayoutError` saying what is wrong."""
        groups: list[tuple[str, list[str]]] = []
        position = 0
        while text[position:].strip():
            if (match := _GROUP.match(text, position)) is None:
                raise LayoutError(f"layout {text!r}: expected 'name(...)' at {text[position:].strip()!r}")
            groups.append((match[1], [item.strip() for item in match[2].split(",") if match[2].strip()]))
            position = match.end()
        if not groups or groups[0][0] != "tile":
            raise LayoutError(f"layout {text!r}: it begins with the tile's sizes, as in 'tile(8, 32) lane(16:1)'")
        for name, items in groups:
            pattern, form = (
                (r"\d+", "a size, as in 8") if name == "tile" else (r"\d+\s*:\s*\d+", "size:stride, as in 8:32")
            )
            if bad := [item for item in items if not re.fullmatch(pattern, item)]:
                raise LayoutError(f"layout {text!r}: {bad[0]!r} in {name}(...) is not {form}")
        axes = [(name, tuple(Mode(*map(int, item.split(":"))) for item in items)) for name, items in groups[1:]]
        return cls(tuple(map(int, groups[0][1])), tuple(axes))

    def __str__(self) -> str:
        groups = [("tile", ", ".join(map(str, self.tile)))]
        groups += [(name, ", ".join(map(str, modes))) for name, modes in self.axes]
        return " ".join(f"{name}({items})" for name, items in groups)

    # What it is made of ----------------------------------------------------------------------------------------------

    @property
    def places(self) -> int:
        """The number of places of the tile."""
        return prod(self.tile)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes of all axes in order; a location's number is the mixed-radix number of its digits."""
        return tuple(mode for _, modes in self.axes for mode in modes)

    @property
    def locations(self) -> int:
        """The number of hardware locations."""
        return prod(mode.size for mode in self.modes)

    def axis(self, name: str) -> tuple[Mode, ...]:
        """The modes of axis ``name``; raises :class:`LayoutError` if there is no such axis."""
        for axis, modes in self.axes:
            if axis == name:
                return modes
        raise LayoutError(f"{self}: no axis {name!r}; it has {', '.join(axis for axis, _ in self.axes) or 'none'}")

    def size(self, name: str) -> int:
        """The number of locations along axis ``name``; 1 if the layout does not mention it."""
        return prod(mode.size for axis, modes in self.axes if axis == name for mode in modes)

    # The map ---------------------------------------------------------------------------------------------------------

    def place(self, **location: int) -> tuple[int, ...]:
        """The tile coordinates that ``location`` (a number per axis, 0 where not given) holds."""
        total = 0
        for name in location:
            self.axis(name)
        for name, modes in self.axes:
            rest = location.get(name, 0)
            if not 0 <= rest < self.size(name):
                raise LayoutError(f"{self}: {name} {rest} is out of range, the axis has {self.size(name)}")
            for mode in reversed(modes):
                rest, digit = divmod(rest, mode.size)
                total += digit * mode.stride
        return _coordinates(total, self.tile)

    def offsets(self) -> list[int]:
        """The place of every location, in the order of location numbers (the first axis varies slowest)."""
        ranges = [
            range(0, mode.size * mode.stride, mode.stride) if mode.stride else (0,) * mode.size for mode in self.modes
        ]
        return [sum(digits) for digits in itertools.product(*ranges)]

    def holders(self) -> list[list[tuple[int, ...]]]:
        """For every place the locations (a number per axis) that hold it."""
        found: list[list[tuple[int, ...]]] = [[] for _ in range(self.places)]
        sizes = [self.size(name) for name, _ in self.axes]
        for location, offset in zip(itertools.product(*map(range, sizes)), self.offsets(), strict=True):
            found[offset].append(location)
        return found

    @cached_property
    def _reached(self) -> int:
        """The set of places that have a holder, as the bits of an integer."""
        reached = 1
        for mode in self.modes:
            if mode.stride:
                step = 1
                while step < mode.size:  # doubling: after it, `reached` holds the sums with digits below `step`
                    more = min(step, mode.size - step)
                    reached |= reached << (more * mode.stride)
                    step += more
        return reached

    @property
    def is_onto(self) -> bool:
        """Every place of the tile has at least one location."""
        return self._reached == (1 << self.places) - 1

    @property
    def is_injective(self) -> bool:
        """No place has two locations: nothing is replicated."""
        return self._reached.bit_count() == self.locations

    # The algebra -----------------------------------------------------------------------------------------------------

    def simplify(self) -> Layout:
        """The same map with the fewest modes: size 1 dropped, neighbours merged where one continues the other."""
        return Layout(self.tile, tuple((name, tuple(_merge(modes))) for name, modes in self.axes))

    def restrict(self, *axes: str) -> Layout:
        """The layout seen along ``axes`` only, all other axes at 0 (so it may not be onto)."""
        for name in axes:
            self.axis(name)
        return Layout(self.tile, tuple((name, modes) for name, modes in self.axes if name in axes))

    def compose(self, inner: Layout) -> Layout:
        """``self`` after ``inner``: inner's places are read as self's location numbers.

        Raises :class:`LayoutError` if inner's tile is not as large as self's locations, or if the composite is not a
        sum of digits times strides (multiples of a digit of ``inner``, or two of its digits, carry in ``self``).
        """
        if inner.places != self.locations:
            raise LayoutError(
                f"cannot compose {self} ({self.locations} locations) after {inner} ({inner.places} places)"
            )
        radix = _merge(self.modes)
        used = [0] * len(radix)  # the largest value inner's digits can add up to, per digit of self
        axes: list[tuple[str, tuple[Mode, ...]]] = []
        for name, modes in inner.axes:
            split = [part for mode in modes for part in _through(mode, radix, used, f"{self} after {inner}")]
            axes.append((name, tuple(split)))
        if any(most >= mode.size for most, mode in zip(used, radix, strict=True)):
            raise LayoutError(f"{self} after {inner}: digits carry into each other, so no strides express the result")
        return Layout(self.tile, tuple(axes))

    def invert(self) -> Layout:
        """A right inverse: place -> number of one location that holds it (replicas: the first).

        Its tile is the box of locations, one dimension per axis, and its only axis is called ``place``.
        Raises :class:`LayoutError` if this layout is not onto or its strides are not those of a mixed radix.
        """
        digits = sorted(
            (mode.stride, mode.size, weight)
            for mode, weight in zip(self.modes, _weights(self.modes), strict=True)
            if mode.stride and mode.size > 1
        )
        expected = 1
        for stride, size, _ in digits:
            if stride != expected:
                break
            expected *= size
        if expected != self.places:
            why = "its strides are not those of a mixed radix" if self.is_onto else "some places have no location"
            raise LayoutError(f"{self} has no inverse: {why}")
        box = tuple(self.size(name) for name, _ in self.axes)
        return Layout(box, (("place", tuple(Mode(size, weight) for _, size, weight in reversed(digits))),))

    def product(self, atom: Layout) -> Layout:
        """``atom`` repeated over the grid ``self``: tile sizes multiply, equal axes join, the grid's modes outermost.

        Raises :class:`LayoutError` for different ranks, or where a digit steps across the end of a row.
        """
        if len(self.tile) != len(atom.tile):
            raise LayoutError(f"cannot repeat {atom} over {self}: the tiles have different ranks")
        tile = tuple(count * size for count, size in zip(self.tile, atom.tile, strict=True))
        strides = _row_major(tile)
        steps = [stride * size for stride, size in zip(strides, atom.tile, strict=True)]
        outer = dict(_embed(self, tile, steps).axes)
        inner = dict(_embed(atom, tile, strides).axes)
        return Layout(tile, tuple((name, outer.get(name, ()) + inner.get(name, ())) for name in outer | inner))

    def draw(self) -> str:
        """The tile as text, a row a line; each cell says who holds it, ``*`` where every number of an axis does."""
        names = [name for name, _ in self.axes]
        sizes = [self.size(name) for name in names]
        cells = [_cell(locations, sizes) for locations in self.holders()]
        columns = self.tile[-1] if self.tile else 1
        rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
        labels = [", ".join(map(str, _coordinates(row, self.tile[:-1]))) for row in range(len(rows))]
        width = max(len(text) for text in [*cells, str(columns - 1)])
        margin = max(map(len, labels))
        lines = [f"tile({', '.join(map(str, self.tile))}), each cell {'/'.join(names)}"]
        lines.append(" " * margin + "".join(f"  {column:>{width}}" for column in range(columns)))
        lines += [
            f"{label:>{margin}}" + "".join(f"  {cell:>{width}}" for cell in row)
            for label, row in zip(labels, rows, strict=True)
        ]
        return "\n".join(lines)


def _row_major(shape: Sequence[int]) -> list[int]:
    return [prod(shape[dim + 1 :]) for dim in range(len(shape))]


def _weights(modes: Sequence[Mode]) -> list[int]:
    """What each digit of a mixed-radix number is worth."""
    return _row_major([mode.size for mode in modes])


def _coordinates(offset: int, shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(offset // stride % size for stride, size in zip(_row_major(shape), shape, strict=True))


def _merge(modes: Iterable[Mode]) -> list[Mode]:
    """Fewer modes with the same offsets: an outer mode whose stride is the inner one's extent continues it."""
    merged: list[Mode] = []
    for mode in modes:
        if mode.size == 1:
            continue
        if merged and merged[-1].stride == mode.size * mode.stride:
            mode = Mode(merged.pop().size * mode.size, mode.stride)
        merged.append(mode)
    return merged


def _through(mode: Mode, radix: Sequence[Mode], used: list[int], what: str) -> list[Mode]:
    """``mode``, whose places are numbers in ``radix``, as digits worth radix's strides; adds to ``used`` per digit.

    A multiple of a number multiplies its digits as long as none carries. Where one does, the mode is split there.
    """
    parts: list[Mode] = []
    size, stride = mode
    while size > 1 or not parts:
        digits = [stride // weight % digit.size for weight, digit in zip(_weights(radix), radix, strict=True)]
        room = min([(to.size - 1) // digit + 1 for to, digit in zip(radix, digits, strict=True) if digit] or [size])
        fits = max(factor for factor in range(1, min(size, room) + 1) if size % factor == 0)
        if fits < size and fits == 1:
            raise LayoutError(
                f"{what}: {mode} steps across the digits {', '.join(map(str, radix))}: no strides express it"
            )
        parts.insert(0, Mode(fits, sum(digit * to.stride for to, digit in zip(radix, digits, strict=True))))
        for index, digit in enumerate(digits):
            used[index] += (fits - 1) * digit
        size, stride = size // fits, stride * fits
    return parts


def _embed(layout: Layout, tile: tuple[int, ...], strides: Sequence[int]) -> Layout:
    """``layout`` with its tile's dimension d stepping ``strides[d]`` places of the larger ``tile``."""
    steps = tuple(Mode(size, stride) for size, stride in zip(layout.tile, strides, strict=True))
    return Layout(tile, (("place", steps),)).compose(layout)


def _cell(locations: Sequence[tuple[int, ...]], sizes: Sequence[int]) -> str:
    if not locations:
        return "-"
    parts: list[str] = []
    for axis, size in enumerate(sizes):
        numbers = sorted({location[axis] for location in locations})
        parts.append("*" if len(numbers) == size > 1 else ",".join(map(str, numbers)))
    return "/".join(parts)


def row_major(tile: Sequence[int], axes: Mapping[str, int]) -> Layout:
    """The tile's places in row-major order over ``axes`` (name -> size, outermost first), as a panel is stored.

    Raises :class:`LayoutError` unless the sizes multiply to the number of places.
    """
    if prod(axes.values()) != prod(tile):
        raise LayoutError(f"{dict(axes)} has {prod(axes.values())} locations, tile {tuple(tile)} {prod(tile)} places")
    strides = _row_major(tuple(axes.values()))
    return Layout.of(tile, **{n: [(s, stride)] for (n, s), stride in zip(axes.items(), strides, strict=True)})
