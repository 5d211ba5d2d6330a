"""Blocks of convolutions on machines whose programs are blocks of warps: rectangles of pixels.

Level: nest. In: a product whose left factor is an image with channels last, read through a window. Out: how far a block
goes along each axis of the result that its rows count through, images, lines and columns::

    [n >= 8 : n : 4, h : 2, w : 16   14x14 pixels are 7 such blocks for 4 images, of which 87 % are pixels
     n : 1, h : 8, w : 16]           one image: 2 blocks, 77 %

Sides are powers of two, so that a row's number is taken apart by its bits, and a block of the image is one box for
copies of whole blocks: what lies beyond an edge is nothing, as padding is. Of sizes that are known the rectangle leaves
the fewest rows without a pixel, and the block is small enough that there are blocks for all multiprocessors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from crosstile.dialects.nest.axes import Axis, AxisSum, KernelAxes
from crosstile.dialects.nest.contraction_roles import ContractionRoles, row_axes
from crosstile.dialects.nest.schedule import Comparison

Guard = tuple[Comparison, ...]
Sizes = Mapping[Axis, int | None]

SMALL = 8
"""Images of up to so many lines and columns of pixels have blocks of their own, where sizes are not known."""
MANY = (64, 8)
"""Numbers of images from which on blocks are those that are best for so many, where their number is not known."""
TYPICAL = 48
"""Lines and columns of images, where they are not known: sides of up to 16 leave no rest, longer ones do."""
HALO = 2
"""Lines and columns of the image that a filter reads beyond those of its block: 3x3 is the commonest."""
LOAD = 32
"""Multiply-adds in the time that an element of a factor takes to be copied, for all warps of a block; an estimate."""
LEAST = 64
"""The fewest rows and columns of a block of results, unless there are fewer pixels."""
MOST_BOX = 256
"""The largest size of a box that is copied as a whole, and the largest distance of its elements, in the image."""
MOST_STRIDE = 8
MOST_RANK = 5


def size_classes(axes: KernelAxes, roles: ContractionRoles) -> list[tuple[Guard, Sizes]]:
    """Guards over sizes that are not known, and the sizes that blocks are to be good for under them.

    The last has no guard. None stands for any size.
    """
    known: Sizes = {axis: axis.size for axis in row_axes(axes, roles)}
    moving = _moving(axes, roles)
    images = [axis for axis, size in known.items() if size is None and axis not in moving]
    pixels = [axis for axis, size in known.items() if size is None and axis in moving]
    found: list[tuple[Guard, Sizes]] = []
    for are_small in (True, False) if pixels else (False,):
        for count in (*MANY, 1) if images else (1,):
            small = tuple(Comparison(axis.name, "<=", SMALL) for axis in pixels if are_small)
            many = tuple(Comparison(axis.name, ">=", count) for axis in images if count > 1)
            sizes = dict.fromkeys(pixels, SMALL if are_small else None)
            found.append(((*small, *many), {**known, **dict.fromkeys(images, count), **sizes}))
    return found


def _moving(axes: KernelAxes, roles: ContractionRoles) -> set[Axis]:
    """The axes that a window of the image moves along."""
    along = axes.of_operand(roles.nest, roles.lhs)
    return {axis for entry in along if isinstance(entry, AxisSum) for axis, _ in entry.terms}


def rectangle(axes: KernelAxes, roles: ContractionRoles, sizes: Sizes, rows: int) -> dict[Axis, int]:
    """How far ``rows`` rows, a power of two, go along each axis: the fewest blocks, and then the least of the image."""
    moving = _moving(axes, roles)

    def cost(sides: Mapping[Axis, int]) -> tuple[int, int, int]:
        blocks = prod(-(-(TYPICAL if size is None else size) // sides[axis]) for axis, size in sizes.items())
        read = prod(side + HALO if axis in moving else side for axis, side in sides.items())
        return blocks, read, -list(sides.values())[-1]

    return min((dict(zip(sizes, sides, strict=True)) for sides in _products(len(sizes), rows)), key=cost)


def _products(count: int, rows: int) -> Iterator[tuple[int, ...]]:
    """All ways to write ``rows`` as a product of ``count`` powers of two."""
    if count == 1:
        yield (rows,)
        return
    first = 1
    while first <= rows:
        yield from ((first, *rest) for rest in _products(count - 1, rows // first))
        first *= 2


def block_sides(
    axes: KernelAxes, roles: ContractionRoles, sizes: Sizes, most: tuple[int, int], least: int, multiprocessors: int
) -> tuple[int, int]:
    """The rows and columns of a block of results, at most ``most``; an instruction has ``least`` rows.

    The time of a block is that of its products and of the copies that it takes; blocks run in rounds.
    """
    rows, columns = most
    if roles.n.size is None or None in sizes.values():
        return most

    def time(sides: tuple[int, int]) -> tuple[int, int]:
        m, n = sides
        block = rectangle(axes, roles, sizes, m)
        blocks = prod(-(-(size or 0) // block[axis]) for axis, size in sizes.items()) * -(-(roles.n.size or 0) // n)
        return -(-blocks // multiprocessors) * (m * n + LOAD * (m + n)), -m * n

    pixels = prod(size or 0 for size in sizes.values())
    fewest = max(least, min(LEAST, 1 << max(0, pixels - 1).bit_length()))
    return min(((m, n) for m in _sides(rows, fewest) for n in _sides(columns, LEAST)), key=time)


def _sides(most: int, least: int) -> Iterator[int]:
    """The sides to choose from: the largest, and powers of two below it."""
    yield most
    side = 1 << (most - 1).bit_length() - 1
    while side >= least:
        yield side
        side //= 2


def is_box(axes: KernelAxes, roles: ContractionRoles, sides: Mapping[Axis, int]) -> bool:
    """Whether a block of the image, channels last, is one box of it for each place of the filter."""
    along = axes.of_operand(roles.nest, roles.lhs)
    if len(along) > MOST_RANK or along[-1] != roles.k:
        return False
    return all(_is_side(entry.terms, sides) for entry in along if isinstance(entry, AxisSum))


def _is_side(terms: Sequence[tuple[Axis, int]], sides: Mapping[Axis, int]) -> bool:
    """Whether a dimension of the image is walked by one axis of the block at most, in steps that a copy can take."""
    moved = [(sides[axis], factor) for axis, factor in terms if axis in sides]
    return len(moved) <= 1 and all(
        1 <= factor <= MOST_STRIDE and (side - 1) * factor < MOST_BOX for side, factor in moved
    )
