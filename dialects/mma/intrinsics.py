"""Is this product one that the intrinsic can compute? Shapes, types, homes and layouts against the intrinsic's row.

    mma.mma %a, %b, %c {intrinsic = "x86.avx512.fma.1x16x1.f32"} : 8x1, 1x64, 8x64     8 * 4 instructions

A fragment of several instructions is *tiled* by the intrinsic's operand: its layout is that of a grid of blocks times
the row's layout. Each hardware unit (warp) must hold the blocks of both factors that its own blocks of the accumulator
need. Rows are looked up when a product is verified, so defining the dialect reads no machine.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

from xdsl.dialects.builtin import FixedBitwidthType
from xdsl.ir import Attribute
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.mma.attributes import canonical
from crosstile.dialects.mma.types import BufferType, FragmentType, SlotType
from crosstile.targets.layout import Layout, LayoutError, Mode

if TYPE_CHECKING:
    from crosstile.targets.model import MmaIntrinsic, Operand

STORED_AS = {"tf32": "f32", "si8": "i8", "ui8": "i8"}
"""MLIR's type for an operand type that MLIR has no name for."""

ROLES = ("lhs", "rhs", "accumulator")


def find_intrinsic(name: str) -> MmaIntrinsic:
    """The row of the intrinsic called ``name``; VerifyException with the nearest names if there is none."""
    from crosstile.targets.model import UnknownNameError, intrinsic

    try:
        return intrinsic(name)
    except UnknownNameError as error:
        raise VerifyException(str(error.args[0])) from error


def verify_product(name: str, lhs: Attribute, rhs: Attribute, accumulator: FragmentType) -> None:
    """Raise VerifyException unless the intrinsic ``name`` computes accumulator [m, n] += lhs [m, k] * rhs [k, n]."""
    row = find_intrinsic(name)
    shapes = tuple(_shape(role, type_) for role, type_ in zip(ROLES, (lhs, rhs, accumulator), strict=True))
    (m, k), (k_rhs, n), (m_acc, n_acc) = shapes
    if (k, m, n) != (k_rhs, m_acc, n_acc):
        raise VerifyException(
            f"shapes {_x(shapes[0])} and {_x(shapes[1])} do not multiply into {_x(shapes[2])}; "
            "expects lhs [m, k], rhs [k, n], accumulator [m, n]"
        )
    if m % row.m or n % row.n or k % row.k:
        raise VerifyException(
            f"computes {m}x{n}x{k} (m, n, k), which is no multiple of the {row.m}x{row.n}x{row.k} of {name}"
        )
    for role, type_ in zip(ROLES, (lhs, rhs, accumulator), strict=True):
        _verify_operand(row, role, type_)
    _verify_units(row, lhs, rhs, accumulator)


def _shape(role: str, type_: Attribute) -> tuple[int, int]:
    if not isinstance(type_, FragmentType | BufferType | SlotType):
        raise VerifyException(f"{role} is {type_}; expects a fragment, or scratch where the intrinsic reads scratch")
    shape = type_.get_shape()
    if len(shape) != 2:
        raise VerifyException(f"{role} has {len(shape)} dimensions; a product takes 2")
    return shape[0], shape[1]


def _x(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _verify_operand(row: MmaIntrinsic, role: str, type_: Attribute) -> None:
    from crosstile.targets.model import Home

    assert isinstance(type_, FragmentType | BufferType | SlotType)
    operand: Operand = getattr(row, role)
    wanted = STORED_AS.get(operand.element, operand.element)
    element = type_.get_element_type()
    if str(element) != wanted or not isinstance(element, FixedBitwidthType):
        raise VerifyException(f"{role} has elements of {element}; {row.name} takes {wanted}")
    home = Home.REGISTER if isinstance(type_, FragmentType) else Home.SCRATCH
    if home not in operand.homes:
        legal = " or ".join("a fragment" if legal is Home.REGISTER else "a buffer or slot" for legal in operand.homes)
        found = "a fragment" if home is Home.REGISTER else "scratch"
        raise VerifyException(f"{role} is {found}; {row.name} takes {legal}")
    if isinstance(type_, FragmentType) and operand.layout is not None:
        try:
            blocks(type_.layout.data, operand.layout)
        except LayoutError as error:
            raise VerifyException(f"{role}: {error}; {row.name} needs blocks laid out as {operand.layout}") from error


@lru_cache(maxsize=1024)
def blocks(layout: Layout, atom: Layout) -> Layout:
    """The grid of blocks such that ``grid.product(atom)`` is ``layout``; raises :class:`LayoutError` if there is none.

    ``blocks`` of ``tile(8, 64) register(8:64, 4:16) lane(16:1)`` by ``tile(1, 16) lane(16:1)`` is
    ``tile(8, 4) register(32:1)``.
    """
    if len(layout.tile) != len(atom.tile) or any(
        size % part for size, part in zip(layout.tile, atom.tile, strict=True)
    ):
        raise LayoutError(f"{layout} is not made of blocks of {list(atom.tile)}")
    counts = tuple(size // part for size, part in zip(layout.tile, atom.tile, strict=True))
    inner = Layout(counts, ()).product(atom).simplify()
    axes: list[tuple[str, tuple[Mode, ...]]] = []
    found = dict(layout.simplify().axes)
    for axis in [*found, *(axis for axis, _ in inner.axes if axis not in found)]:
        rest = _strip(list(found.get(axis, ())), list(dict(inner.axes).get(axis, ())))
        if rest is None:
            raise LayoutError(f"{layout} is not made of such blocks along '{axis}'")
        axes.append((axis, tuple(Mode(size, _block_stride(stride, layout, atom, counts)) for size, stride in rest)))
    grid = Layout(counts, tuple(axes))
    if canonical(grid.product(atom)) != canonical(layout):
        raise LayoutError(f"{layout} is not made of whole blocks")
    return grid


def _strip(modes: list[Mode], suffix: list[Mode]) -> list[Mode] | None:
    """``modes`` without their innermost part, which must be ``suffix``; None if it is not."""
    while suffix:
        size, stride = suffix.pop()
        if not modes:
            return None
        found, at = modes.pop()
        if at != stride:
            return None
        if found > size:
            if found % size:
                return None
            modes.append(Mode(found // size, at * size))
        elif found < size:
            if size % found:
                return None
            suffix.append(Mode(size // found, stride * found))
    return modes


def _block_stride(stride: int, layout: Layout, atom: Layout, counts: tuple[int, ...]) -> int:
    """A step of ``stride`` places of the tile as a step of the grid's places."""
    total, weight, grid_weight = 0, 1, 1
    for size, part, count in reversed(list(zip(layout.tile, atom.tile, counts, strict=True))):
        step = stride // weight % size
        if step % part:
            raise LayoutError(f"{layout} steps {step} elements, which is no whole block of {part}")
        total += step // part * grid_weight
        weight *= size
        grid_weight *= count
    return total


def _verify_units(row: MmaIntrinsic, lhs: Attribute, rhs: Attribute, accumulator: FragmentType) -> None:
    """Each unit holds the blocks of the factors that its blocks of the accumulator need."""
    if row.accumulator.layout is None:
        return
    results = _held(accumulator.layout.data, row.accumulator.layout)
    depth = _shape("lhs", lhs)[1] // row.k
    for role, type_ in (("lhs", lhs), ("rhs", rhs)):
        operand: Operand = getattr(row, role)
        if not isinstance(type_, FragmentType) or operand.layout is None:
            continue
        held = _held(type_.layout.data, operand.layout)
        if held.keys() != results.keys():
            raise VerifyException(
                f"{role} is spread over {len(held)} units and the accumulator over {len(results)}; an axis along which "
                "something is replicated has stride 0, as in warp(4:0)"
            )
        for unit, own in results.items():
            for (i, j), step in product(own, range(depth)):
                if ((i, step) if role == "lhs" else (step, j)) not in held[unit]:
                    block = (i, step) if role == "lhs" else (step, j)
                    raise VerifyException(
                        f"{role}: unit {unit} computes block {(i, j)} of the accumulator and does not hold block "
                        f"{block} of {role}"
                    )


@lru_cache(maxsize=1024)
def _held(layout: Layout, atom: Layout) -> dict[tuple[int, ...], frozenset[tuple[int, ...]]]:
    """The blocks that each unit (one number per axis but registers, in the order of axis names) holds."""
    grid = blocks(layout, atom).simplify()
    axes = sorted(axis for axis, modes in grid.axes if axis != "register" and modes)
    held: dict[tuple[int, ...], frozenset[tuple[int, ...]]] = {}
    for unit in product(*(range(grid.size(axis)) for axis in axes)):
        at = dict(zip(axes, unit, strict=True))
        if any(axis == "register" for axis, _ in grid.axes):
            places = [grid.place(register=number, **at) for number in range(grid.size("register"))]
        else:
            places = [grid.place(**at)]
        held[unit] = frozenset(places)
    return held
