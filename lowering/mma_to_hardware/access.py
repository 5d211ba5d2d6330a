"""Where the elements of a fragment are in memory, and which of them are valid.

A place (``%A[%i, %k] extent [%mr, _] clip``) gives each element of a fragment coordinates in the memory, and those an
address. The address of a register is that of its first lane; whether its lanes are consecutive in memory follows from
the map alone. Addresses and conditions are built from parts that leave the loops they do not depend on::

    4x64 of %C[%i, %j], row 2, register 1:   ((%i + 2) * %n + %j) + 16   the constant added last, at the access
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property, reduce

from xdsl.dialects import arith, vector
from xdsl.dialects.builtin import VectorType, i1
from xdsl.ir import SSAValue
from xdsl.ir.affine import (
    AffineBinaryOpExpr,
    AffineBinaryOpKind,
    AffineConstantExpr,
    AffineDimExpr,
    AffineExpr,
    AffineMap,
    AffineSymExpr,
)

from crosstile.dialects import mma
from crosstile.dialects.arith import CmpiOp
from crosstile.dialects.assembly import default_map
from crosstile.dialects.mma.kernel import integer_list
from crosstile.ir.index_math import Index
from crosstile.lowering.affine_steps import coefficient, summands
from crosstile.lowering.divisibility import constant_value
from crosstile.lowering.linear_index import Linear
from crosstile.lowering.mma_to_hardware.folding import Fold, find_fold
from crosstile.lowering.mma_to_hardware.state import INDEX, HardwareLowering, Memory, vector_type
from crosstile.lowering.vector_registers import Registers, registers_of


@dataclass(frozen=True)
class Condition:
    """``low <= value < high``, where None is no bound."""

    value: Linear
    low: int | None
    high: Index | None


def _stays_inside(start: Linear, span: int, width: int) -> bool:
    """Whether ``span`` neighbours from ``start`` on lie in one panel of ``width``."""
    if Linear(0, start.terms).multiple % width == 0:
        return start.constant % width + span <= width
    return width % span == 0 and start.multiple % span == 0


class Access:
    """One load's or store's place in memory: addresses and validity of the registers of its fragment."""

    def __init__(
        self,
        lowering: HardwareLowering,
        op: mma.LoadOp | mma.StoreOp,
        memory: SSAValue,
        fragment: mma.FragmentType,
        clamp: Sequence[int] = (),
    ):
        self.lowering = lowering
        self.memory: Memory = lowering.memory(memory)
        self.fragment = fragment
        self.shape = fragment.get_shape()
        by = default_map(len(self.shape), len(self.memory.sizes)) if op.map is None else op.map.data
        self.map: AffineMap = by
        self.sizes, self.strides = self.memory.sizes, self.memory.strides
        self.clip = op.clip is not None
        self.clamp = frozenset(clamp)
        self._indices = tuple(op.indices)
        self._symbols: dict[SSAValue, Linear] = {}
        self._more_symbols: tuple[Linear, ...] = ()
        if self.memory.storage is None and not self.clip:
            self._unfold()
        dims = integer_list(op.extent_dims)
        self.extents: Mapping[int, Index] = {
            dim: self._index(extent)
            for dim, extent in zip(dims, op.extents, strict=True)
            if (known := constant_value(extent)) is None or known < self.shape[dim]
        }

    @cached_property
    def registers(self) -> Registers:
        """The vector registers of the fragment."""
        return registers_of(self.fragment.layout.data)

    @cached_property
    def type(self) -> VectorType:
        """The type of one vector register of the fragment."""
        return vector_type(self.fragment)

    def _index(self, old: SSAValue) -> Index:
        constant = constant_value(old)
        return self.lowering.value(old) if constant is None else constant

    # Dimensions walked as one

    def _unfold(self) -> None:
        """Take dimensions that the map walks as one for one dimension of the memory."""
        results, sizes, strides = list(self.map.results), list(self.sizes), list(self.strides)
        for at in range(len(results) - 1, 0, -1):
            fold = find_fold(results[at - 1], results[at])
            above, below = strides[at - 1], strides[at]
            if fold is None or not isinstance(above, int) or not isinstance(below, int) or above != fold.length * below:
                continue
            results[at - 1 : at + 1] = [fold.unfolded]
            sizes[at - 1 : at + 1] = [self.lowering.index.mul(sizes[at - 1], fold.length)]
            strides[at - 1 : at + 1] = [below]
        self.map = AffineMap(self.map.num_dims, self.map.num_symbols, tuple(results))
        self.sizes, self.strides = tuple(sizes), tuple(strides)

    def fold(self) -> tuple[int, Fold] | None:
        """Where the lanes are rows of memory one after the other, each shorter than what it stands for: the position of
        the second dimension and the place that both dimensions are."""
        lane, results = len(self.shape) - 1, self.map.results
        for at in range(1, len(results)):
            size, fold = self.sizes[at], find_fold(results[at - 1], results[at])
            if fold is None or coefficient(fold.place, lane) != 1 or not self.clip or self.strides[at] != 1:
                continue
            others = [*results[: at - 1], *results[at + 1 :], fold.above]
            if isinstance(size, int) and size <= fold.length and self._is_zero(fold.below):
                return (at, fold) if all(coefficient(other, lane) == 0 for other in others) else None
        return None

    def _is_zero(self, expression: AffineExpr) -> bool:
        """Whether a sum of symbols and constants is known to be 0."""
        known = [constant_value(index) for index in self._indices]
        values = [
            known[term.position] if isinstance(term, AffineSymExpr) else getattr(term, "value", None)
            for term in summands(expression)
        ]
        return all(value == 0 for value in values)

    def segments(self, start: Sequence[int]) -> list[Access]:
        """For each row that lanes of the register at ``start`` can lie in, the access to that row alone."""
        found = self.fold()
        assert found is not None
        at, fold = found
        symbols = [self._symbol(index, [Linear(coordinate) for coordinate in start]) for index in self._indices]
        begin = self.lowering.linear.evaluate(fold.place, [Linear(coordinate) for coordinate in start], symbols)
        row = AffineExpr.symbol(len(symbols))
        result: list[Access] = []
        for number in range((fold.length + self.registers.lanes - 2) // fold.length + 1):
            results = list(self.map.results)
            results[at - 1] = fold.above + row + number
            results[at] = fold.place + row * -fold.length + -number * fold.length
            segment = copy(self)
            segment.map = AffineMap(self.map.num_dims, len(symbols) + 1, tuple(results))
            segment._more_symbols = (self.lowering.linear.floor_div(begin, fold.length),)
            result.append(segment)
        return result

    # Coordinates

    def coordinates(self, place: Sequence[Linear]) -> list[Linear]:
        """The coordinates in memory of the element at ``place`` of the fragment."""
        symbols = [*(self._symbol(index, place) for index in self._indices), *self._more_symbols]
        clamped = [self._clamped(dim, coordinate) for dim, coordinate in enumerate(place)]
        return [self.lowering.linear.evaluate(result, clamped, symbols) for result in self.map.results]

    def _clamped(self, dim: int, coordinate: Linear) -> Linear:
        """The coordinate, or that of the last valid element if it lies beyond and the dimension is clamped."""
        if dim not in self.clamp or dim not in self.extents or coordinate == Linear(0):
            return coordinate
        index, linear = self.lowering.index, self.lowering.linear
        last = index.sub(self.extents[dim], 1)
        return linear.of_new(index.minimum(linear.value(coordinate), last))

    def _symbol(self, old: SSAValue, place: Sequence[Linear]) -> Linear:
        """The value of an index at ``place``: itself, or an element of a fragment of indices."""
        if old.type == INDEX:
            if old not in self._symbols:
                self._symbols[old] = self.lowering.linear.of(old)
            return self._symbols[old]
        return self.lowering.linear.of_new(self._gathered(old, place))

    def _gathered(self, old: SSAValue, place: Sequence[Linear]) -> SSAValue:
        """The element of a fragment of indices that ``place`` sees; its coordinates across registers are constants."""
        assert isinstance(old.type, mma.FragmentType)
        registers = registers_of(old.type.layout.data)
        *rows, last = place
        start = [row.constant for row in rows] + [last.constant]
        register = self.lowering.values(old)[registers.holding(start)]
        lane: SSAValue | int = 0
        if not registers.replicated and registers.lanes > 1:
            offset = last + -(last.constant - last.constant % registers.lanes)
            value = self.lowering.linear.value(offset)
            lane = value
        return self.lowering.insert(vector.ExtractOp(register, [lane], INDEX)).result

    # Addresses

    def address(self, place: Sequence[Linear]) -> tuple[SSAValue, SSAValue]:
        """The element at ``place``: a memory of rank 1 and the position in it, as ``element_address`` makes them."""
        return element_address(self.lowering, self.memory, self.position(place))

    def position(self, place: Sequence[Linear]) -> Linear:
        """How many elements the element at ``place`` stands behind the first one of the memory."""
        return linear_position(self.lowering, self._box(self.coordinates(place)), self.strides)

    def _box(self, coordinates: list[Linear]) -> list[Linear]:
        if self.memory.storage is None:
            return coordinates
        return [self.lowering.linear.evaluate(result, coordinates, []) for result in self.memory.storage.results]

    def is_consecutive(self) -> bool:
        """Whether the lanes of every register that can be valid are consecutive in memory."""
        last, lanes = len(self.shape) - 1, self.registers.lanes
        extent = self.extents.get(last)
        return lanes == 1 or self.step(last, min(lanes, extent) if isinstance(extent, int) else lanes) == 1

    def step(self, dim: int, span: int) -> int | None:
        """How far apart in memory neighbours along ``dim`` are among the first ``span`` of a register.

        None if that differs from one to the next, or is not known before the program runs.
        """
        if any(self._varies(index, dim) for index in self._indices):
            return None
        steps = [coefficient(result, dim) for result in self.map.results]
        if self.memory.storage is not None:
            return self._step_in_storage(steps, span, self.memory.storage)
        total = 0
        for step, stride in zip(steps, self.strides, strict=True):
            if step is None or (step and not isinstance(stride, int)):
                return None
            total += step * stride if isinstance(stride, int) else 0
        return total

    def _varies(self, index: SSAValue, dim: int) -> bool:
        return isinstance(index.type, mma.FragmentType) and index.type.get_shape()[dim] > 1

    def _step_in_storage(self, steps: Sequence[int | None], span: int, storage: AffineMap) -> int | None:
        """The same for a buffer whose rows or columns are cut into panels: the neighbours must lie in one panel."""
        moving = [dim for dim, step in enumerate(steps) if step != 0]
        if len(moving) != 1 or steps[moving[0]] != 1:
            return None
        total = 0
        for result, stride in zip(storage.results, self.memory.strides, strict=True):
            step = self._step_in_box(result, moving[0], span)
            if step is None or (step and not isinstance(stride, int)):
                return None
            total += step * stride if isinstance(stride, int) else 0
        return total

    def _step_in_box(self, expression: AffineExpr, dim: int, span: int) -> int | None:
        """How far one result of a storage map moves between ``span`` neighbours; None if that varies."""
        if (step := coefficient(expression, dim)) is not None:
            return step
        if not isinstance(expression, AffineBinaryOpExpr) or not isinstance(expression.rhs, AffineConstantExpr):
            return None
        starts = (self.coordinates([Linear(at) for at in register])[dim] for register in self.registers.starts)
        if not all(_stays_inside(start, span, expression.rhs.value) for start in starts):
            return None
        step = 1 if expression.lhs == AffineDimExpr(dim) else self._step_in_box(expression.lhs, dim, span)
        # A register in one block lies in one of the smaller ones that it may be cut into, or steps with them.
        return {AffineBinaryOpKind.FloorDiv: step and 0, AffineBinaryOpKind.Mod: step}.get(expression.kind)

    # Validity

    def conditions(self, place: Sequence[Linear], dims: Sequence[int]) -> list[Condition]:
        """What makes the element at ``place`` valid, as far as it depends on the dimensions ``dims`` of the fragment.

        A coordinate in memory, or a gathered index, depends on a dimension if it changes along it.
        """
        found = [
            Condition(place[dim], None, extent)
            for dim, extent in self.extents.items()
            if dim in dims and dim not in self.clamp
        ]
        lane_dim = len(self.shape) - 1
        for index in self._indices:
            if isinstance(index.type, mma.FragmentType) and self._varies(index, lane_dim) == (lane_dim in dims):
                found.append(Condition(self.lowering.linear.of_new(self._gathered(index, place)), 0, None))
        if self.clip:
            for result, coordinate, size in zip(self.map.results, self.coordinates(place), self.sizes, strict=True):
                if (coefficient(result, lane_dim) != 0) == (lane_dim in dims):
                    found.append(Condition(coordinate, 0, size))
        return found

    def all_conditions(self, place: Sequence[Linear]) -> list[Condition]:
        """What makes the element at ``place`` valid."""
        *rows, lane = range(len(self.shape))
        return self.conditions(place, rows) + self.conditions(place, [lane])

    def holds(self, conditions: Sequence[Condition]) -> SSAValue | bool:
        """Whether all of ``conditions`` hold: known, or an i1."""
        result: SSAValue | bool = True
        for condition in conditions:
            result = self._both(result, self._in_bounds(condition))
            if result is False:
                return False
        return result

    def _in_bounds(self, condition: Condition) -> SSAValue | bool:
        low, high = condition.low, condition.high
        above, below = self.lowering.linear.lies_in(condition.value, low, high)
        if above and below:
            return True
        value = self.lowering.linear.value(condition.value)
        is_below = True if below or high is None else self._compare(value, high)
        is_above = True if above or low is None else self._compare(low - 1, value)
        return self._both(is_below, is_above)

    def _compare(self, lhs: Index, rhs: Index) -> SSAValue | bool:
        if isinstance(lhs, int) and isinstance(rhs, int):
            return lhs < rhs
        index = self.lowering.index
        return index.build(CmpiOp(index.value(lhs), index.value(rhs), "slt")).result

    def _both(self, lhs: SSAValue | bool, rhs: SSAValue | bool) -> SSAValue | bool:
        if isinstance(lhs, bool):
            return rhs if lhs else False
        if isinstance(rhs, bool):
            return lhs if rhs else False
        return self._and(lhs, rhs)

    def mask(self, start: Sequence[int]) -> SSAValue | bool:
        """The valid lanes of the register that begins at ``start``, consecutive in memory: all, none, or a mask."""
        place = [Linear(coordinate) for coordinate in start]
        lane_dim, lanes = len(self.shape) - 1, self.registers.lanes
        valid = self.holds(self.conditions(place, range(lane_dim)))
        if valid is False:
            return False
        low, high = self._lane_range(place, lane_dim)
        masks: list[SSAValue] = []
        if high is not None:
            masks.append(self._first_lanes(high))
        if low is not None:
            masks.append(self._not(self._first_lanes(low)))
        if valid is not True:
            masks.append(self.lowering.broadcast(valid, VectorType(i1, [lanes])))
        return reduce(self._and, masks) if masks else True

    def _lane_range(self, place: Sequence[Linear], lane_dim: int) -> tuple[Index | None, Index | None]:
        """The first valid lane and the one after the last, None where nothing limits them."""
        index, linear = self.lowering.index, self.lowering.linear
        low: Index | None = None
        high: Index | None = None
        for condition in self.conditions(place, [lane_dim]):
            value = linear.value(condition.value)
            if condition.high is not None:
                bound = index.sub(condition.high, value)
                high = bound if high is None else index.minimum(high, bound)
            if condition.low is not None and not (isinstance(value, int) and value >= 0):
                bound = index.sub(condition.low, value)
                low = bound if low is None else index.maximum(low, bound)
        return low, high

    def _and(self, lhs: SSAValue, rhs: SSAValue) -> SSAValue:
        return self.lowering.index.build(arith.AndIOp(lhs, rhs)).result

    def _first_lanes(self, count: Index) -> SSAValue:
        type_ = VectorType(i1, [self.registers.lanes])
        return self.lowering.index.build(vector.CreateMaskOp([self.lowering.index.value(count)], type_)).mask_vector

    def _not(self, mask: SSAValue) -> SSAValue:
        ones = self.lowering.constant(1, mask.type)
        return self.lowering.index.build(arith.XOrIOp(mask, ones)).result


def linear_position(lowering: HardwareLowering, coordinates: Sequence[Linear], strides: Sequence[Index]) -> Linear:
    """How many elements the one at ``coordinates`` stands behind the first one of a memory with these strides."""
    total = Linear()
    for coordinate, stride in zip(coordinates, strides, strict=True):
        if isinstance(stride, int):
            total += coordinate.scale(stride)
        else:
            total += lowering.linear.of_new(lowering.index.mul(lowering.linear.value(coordinate), stride))
    return total


def element_address(
    lowering: HardwareLowering, memory: Memory, position: Linear, *, exists: bool = True
) -> tuple[SSAValue, SSAValue]:
    """The element that stands ``position`` elements behind the first: a memory of rank 1 and the place in it.

    What does not change in the innermost loop is in the memory, a view that is made before the loop, so that in it
    all rows share one index. The constant is added at the access, where the addressing mode takes it. What may not
    exist (``exists=False``) has no view of its own, but uses one that there is.
    """
    index, linear = lowering.index, lowering.linear
    moving = [term for term in position.terms if index.is_innermost(term.value)]
    fixed = [term for term in position.terms if term not in moving]
    flat = memory.flat
    if moving and fixed:
        offset = linear.sum_of_terms(Linear(0, tuple(fixed)))
        view = lowering.view(memory, offset) if exists else lowering.known_view(memory, offset)
        flat, moving = (view, moving) if view is not None else (flat, [*moving, *fixed])
    variable = linear.sum_of_terms(Linear(0, tuple(moving or fixed)))
    if isinstance(variable, int) or not position.constant:
        return flat, index.value(index.add(variable, position.constant))
    return flat, lowering.insert(arith.AddiOp(variable, index.value(position.constant))).result
