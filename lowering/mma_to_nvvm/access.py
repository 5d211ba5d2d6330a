"""Where the elements of a tile are: addresses and validity of places in global and in shared memory.

%A[%i, %k] extent [%mc, %kc] : memref<?x?xbf16>      the element at (r, c):
  pointer of A + ((%i + r) * stride + %k + c) * 2    64 bits, each part added in the loop in which it changes
  valid: r < %mc and c < %kc                         what is known or does not change is decided once
%slot[%kk, %c0] : !mma.slot<..., affine_map<...>, #mma.swizzle<128>>
  address of the slot + swizzled offset              32 bits; constants go to the instruction's immediate
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod

from xdsl.dialects import arith, memref
from xdsl.dialects.builtin import AffineMapAttr, DenseArrayBase, MemRefType, i64
from xdsl.ir import Attribute, SSAValue
from xdsl.ir.affine import AffineConstantExpr, AffineDimExpr, AffineExpr, AffineMap, AffineSymExpr
from xdsl.utils.hints import isa

from crosstile.dialects import mma
from crosstile.dialects.assembly import default_map
from crosstile.dialects.mma.access import element_type_of
from crosstile.dialects.mma.kernel import integer_list
from crosstile.ir.index_math import Index
from crosstile.lowering.affine_steps import coefficient
from crosstile.lowering.divisibility import constant_value
from crosstile.lowering.linear_index import Linear
from crosstile.lowering.mma_to_nvvm.fragments import memory_bytes, registers_of
from crosstile.lowering.mma_to_nvvm.kernel_state import INDEX, GlobalMemory
from crosstile.lowering.mma_to_nvvm.slots import address_of
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering
from crosstile.targets.banks import Swizzle

SWIZZLES = {128: Swizzle(3, 4, 3), 64: Swizzle(2, 4, 3), 32: Swizzle(1, 4, 3)}
"""How the bits of an address change, by the width of the swizzled rows (PTX ISA, "Swizzling modes")."""

_READERS = (mma.LoadOp, memref.DimOp)
Scratch = mma.BufferType | mma.SlotType | mma.RingType


def box_strides(type_: Scratch) -> list[int]:
    """The strides, in elements, of the box in which scratch is stored."""
    box = type_.storage_shape()
    return [prod(box[dim + 1 :]) for dim in range(len(box))]


class Place:
    """A place of a tile of ``shape`` in memory."""

    def __init__(
        self,
        lowering: NvvmLowering,
        memory: SSAValue,
        shape: Sequence[int],
        by: AffineMapAttr | None,
        indices: Sequence[SSAValue],
        extents: Sequence[SSAValue],
        extent_dims: DenseArrayBase | None,
        clip: bool,
        clamp: Sequence[int] = (),
    ):
        self.lowering = lowering
        self.memory = memory
        self.type: Attribute = memory.type
        self.element: Attribute = element_type_of(memory.type)
        self.shape = tuple(shape)
        self.indices = indices
        rank = len(self.source_shape)
        self.map = _default_map(len(shape), rank, indices) if by is None else by.data
        self.clip = clip
        self.clamp = clamp
        self.extents: dict[int, Index] = {}
        for dim, old in zip(integer_list(extent_dims), extents, strict=True):
            known = constant_value(old)
            if known is None or known < shape[dim]:
                self.extents[dim] = lowering.value(old) if known is None else known
        self.old_extents = dict(zip(integer_list(extent_dims), extents, strict=True))

    @property
    def source_shape(self) -> tuple[int, ...]:
        """The sizes of the memory as its type says them."""
        if isa(self.type, MemRefType):
            return tuple(self.type.get_shape())
        assert isinstance(self.type, mma.BufferType | mma.SlotType)
        return self.type.get_shape()

    @property
    def element_bytes(self) -> int:
        """The bytes of an element in this memory."""
        return memory_bytes(self.element)

    @property
    def is_global(self) -> bool:
        """Whether the memory is global memory."""
        return isinstance(self.type, MemRefType)

    @property
    def is_only_read(self) -> bool:
        """Whether it is an argument that the kernel only reads; arguments that are written overlap no others."""
        return self.is_global and all(isinstance(use.operation, _READERS) for use in self.memory.uses)

    @property
    def global_memory(self) -> GlobalMemory:
        """The memref that the place is in."""
        return self.lowering.kernel.memories[self.memory]

    # Coordinates

    def coordinates(self, place: Sequence[Linear]) -> list[Linear]:
        """The coordinates in memory of the element at ``place`` of the tile."""
        symbols = [self._symbol(index, place) for index in self.indices]
        clamped = [self._clamped(dim, at) for dim, at in enumerate(place)]
        return [self.lowering.linear.evaluate(result, clamped, symbols) for result in self.map.results]

    def _clamped(self, dim: int, at: Linear) -> Linear:
        if dim not in self.clamp or dim not in self.extents:
            return at
        index, linear = self.lowering.index, self.lowering.linear
        last = index.maximum(index.sub(self.extents[dim], 1), 0)
        return linear.of_new(index.minimum(linear.value(at), last))

    def _symbol(self, old: SSAValue, place: Sequence[Linear]) -> Linear:
        if old.type == INDEX:
            return self.lowering.linear.of(old)
        return self.lowering.linear.of_new(self._gathered(old, place))

    def _gathered(self, old: SSAValue, place: Sequence[Linear]) -> SSAValue:
        """The element of a fragment of indices that ``place`` sees; the fragment must be laid out as the tile is."""
        assert isinstance(old.type, mma.FragmentType)
        registers = registers_of(old.type.layout.data)
        return self.lowering.values(old)[registers.holding([at.constant for at in place])]

    # Steps

    def step(self, dim: int) -> int | None:
        """How many elements apart in memory neighbours along ``dim`` of the tile are, if that is known and constant."""
        if any(old.type != INDEX and _varies(old, dim) for old in self.indices):
            return None
        steps = [coefficient(result, dim) for result in self.map.results]
        if self.is_global:
            return _total(steps, self.global_memory.strides)
        assert isinstance(self.type, mma.BufferType | mma.SlotType)
        if isinstance(self.type.map, AffineMapAttr):
            inner = self.type.map.data.results
            # Neighbours in one block of a storage map: quotients stand still and remainders step.
            by_dim = [[_inner_step(result, at) for at in range(len(steps))] for result in inner]
            steps = [_total(list(row), steps) for row in by_dim]
        return _total(steps, box_strides(self.type))

    def contiguous(self) -> int | None:
        """The dimension of the tile along which elements are neighbours in memory."""
        dims = [dim for dim, size in enumerate(self.shape) if size > 1 and self.step(dim) == 1]
        return dims[-1] if dims else None

    def aligned(self, dim: int, most: int) -> int:
        """How many neighbours along ``dim`` one access moves, at most ``most``: a power of two that keeps it aligned.

        The first of them is at a multiple of that number along ``dim``.
        """
        size, width = self.element_bytes, most
        while width > 1 and not self._is_aligned(dim, width * size):
            width //= 2
        return width

    def _is_aligned(self, dim: int, size: int) -> bool:
        width = size // self.element_bytes
        if self.shape[dim] % width:
            return False
        if not self.is_global:
            assert isinstance(self.type, mma.BufferType | mma.SlotType)
            return self._scratch_is_aligned(dim, width)
        memory = self.global_memory
        if size > self.lowering.alignment:
            return False
        for result, stride in zip(self.map.results, memory.strides, strict=True):
            multiple = self._multiple(result, dim, width)
            step = stride if isinstance(stride, int) else self.lowering.alignment // self.element_bytes
            if (multiple * step) % width:
                return False
        return True

    def _scratch_is_aligned(self, dim: int, width: int) -> bool:
        assert isinstance(self.type, mma.BufferType | mma.SlotType)
        if isinstance(self.type.map, AffineMapAttr):
            for result in self.type.map.data.results:
                for part in result.dfs():
                    rhs = getattr(part, "rhs", None)
                    if isinstance(rhs, AffineConstantExpr) and rhs.value % width:
                        return False
        box = self.type.storage_shape()
        if box[-1] % width or (isinstance(self.type.swizzle, mma.SwizzleAttr) and width * self.element_bytes > 16):
            return False
        return all(
            self._multiple(result, dim, width) % width == 0
            for result in self.map.results
            if coefficient(result, dim) != 0
        )

    def _multiple(self, result: AffineExpr, dim: int, width: int) -> int:
        """A divisor of a coordinate, given that the tile's ``dim`` is at a multiple of ``width``; 0 if it is 0."""
        match result:
            case AffineConstantExpr():
                return abs(result.value)
            case AffineDimExpr():
                return width if result.position == dim else 1
            case AffineSymExpr():
                old = self.indices[result.position]
                return self.lowering.multiple(old) if old.type == INDEX else 1
            case _:
                lhs = self._multiple(getattr(result, "lhs"), dim, width)  # noqa: B009
                rhs = self._multiple(getattr(result, "rhs"), dim, width)  # noqa: B009
                kind = str(getattr(result, "kind", "")).rsplit(".", 1)[-1]
                return gcd(lhs, rhs) if kind == "Add" else lhs * rhs if kind == "Mul" else 1

    # Addresses

    def pointer(self, place: Sequence[Linear]) -> SSAValue:
        """A pointer to the element at ``place``."""
        if self.is_global:
            return self._global_pointer(place)
        return self.lowering.shared_pointer(self.shared_address(place))

    def _global_pointer(self, place: Sequence[Linear]) -> SSAValue:
        lowering, memory = self.lowering, self.global_memory
        known = 0
        moving: list[SSAValue] = []
        for at, stride in zip(self.coordinates(place), memory.strides, strict=True):
            if isinstance(stride, int):
                known += at.constant * stride * self.element_bytes
                moving += [
                    self._scaled(lowering.index.mul(term.value, term.factor), stride * self.element_bytes)
                    for term in at.terms
                ]
            else:
                moving += [self._scaled(lowering.index.mul(term.value, term.factor), stride) for term in at.terms]
                if at.constant:
                    moving.append(self._scaled(at.constant, stride))
        pointer = memory.pointer
        for part in sorted(moving, key=lowering.index.depth):
            pointer = lowering.offset(pointer, part)
        return lowering.offset(pointer, known)

    def _scaled(self, value: Index, stride: Index) -> SSAValue:
        """An offset in bytes, as an i64: ``value`` strides, where a stride that is not known is in elements."""
        key = ("scaled", value, stride, self.element_bytes)
        return self.lowering.index.once(key, lambda: self._product(value, stride))

    def _product(self, value: Index, stride: Index) -> SSAValue:
        lowering = self.lowering
        if isinstance(stride, int):
            factor = lowering.constant(stride, i64)
        else:
            factor = self._wide(lowering.index.value(lowering.index.mul(stride, self.element_bytes)))
        number = lowering.constant(value, i64) if isinstance(value, int) else self._wide(value)
        return lowering.index.build(arith.MuliOp(number, factor)).result

    def _wide(self, value: SSAValue) -> SSAValue:
        index = self.lowering.index
        return index.once(("i64", value), lambda: index.build(arith.IndexCastOp(value, i64)).result)

    def shared_address(self, place: Sequence[Linear]) -> Linear:
        """The address, in bytes, of an element in shared memory."""
        assert isinstance(self.type, mma.BufferType | mma.SlotType)
        begin = address_of(self.lowering, self.memory)
        return scratch_address(self.lowering, self.type, begin, self.coordinates(place))

    # Validity

    def valid(self, place: Sequence[Linear], without: int | None = None) -> SSAValue | bool:
        """Whether the element at ``place`` is valid, as far as it does not depend on dimension ``without``."""
        lowering = self.lowering
        result: SSAValue | bool = True
        for dim, extent in self.extents.items():
            if dim != without and dim not in self.clamp:
                result = lowering.both(result, self._below(place[dim], extent))
        for old in self.indices:
            if old.type != INDEX:
                row = self._gathered(old, place)
                result = lowering.both(result, lowering.compare("sge", row, 0))
        if self.clip:
            sizes: Sequence[Index] = self.global_memory.sizes if self.is_global else self.source_shape
            for coordinate, size in zip(self.coordinates(place), sizes, strict=True):
                result = lowering.both(result, self._inside(coordinate, size))
        return result

    def is_clipped_between(self, dim: int, width: int) -> bool:
        """Whether runs of ``width`` neighbours along ``dim``, from multiples of that on, lie inside or outside."""
        moved = [at for at, result in enumerate(self.map.results) if coefficient(result, dim) != 0]
        return self.is_global and all(
            self.lowering.multiple_of_size(self.type, at) % width == 0
            and self._multiple(self.map.results[at], dim, width) % width == 0
            for at in moved
        )

    def _inside(self, at: Linear, size: Index) -> SSAValue | bool:
        """Whether ``0 <= at < size``: one comparison, as numbers below 0 are large ones without a sign."""
        lowering = self.lowering
        low, high = lowering.linear.lies_in(at, 0, size)
        if low:
            return high or self._below(at, size)
        value = lowering.linear.value(at)
        if isinstance(value, int) and isinstance(size, int):
            return 0 <= value < size
        return lowering.compare("ult", value, size)

    def _below(self, at: Linear, limit: Index) -> SSAValue | bool:
        """Whether ``at < limit``, constants on the side of the limit so that registers share a sum."""
        lowering = self.lowering
        if isinstance(limit, int) and not at.terms:
            return at.constant < limit
        moving = lowering.linear.sum_of_terms(at)
        if isinstance(moving, int):
            return lowering.less(moving + at.constant, limit)
        if isinstance(limit, int):
            return lowering.less(moving, limit - at.constant)
        index = lowering.index
        if len(self.extents) == 1 and index.depth(limit) <= index.depth(moving):  # as a mask of what was loaded asks
            return lowering.less(at.constant, index.sub(limit, moving))
        return lowering.less(index.add(moving, at.constant), limit)


def scratch_address(lowering: NvvmLowering, type_: Scratch, begin: Linear, coordinates: Sequence[Linear]) -> Linear:
    """The address of an element of scratch whose first byte is at ``begin``, swizzled as the type says."""
    linear = lowering.linear
    if isinstance(type_.map, AffineMapAttr):
        coordinates = [linear.evaluate(result, coordinates, ()) for result in type_.map.data.results]
    size = memory_bytes(type_.element_type)
    total = Linear()
    for at, stride in zip(coordinates, box_strides(type_), strict=True):
        total += at.scale(stride * size)
    if isinstance(type_.swizzle, mma.SwizzleAttr):
        total = _swizzled(lowering, total, SWIZZLES[type_.swizzle.data])
    return total + begin


def _swizzled(lowering: NvvmLowering, offset: Linear, swizzle: Swizzle) -> Linear:
    """The swizzled offset; a swizzle acts on constant bits and on moving ones apart if they do not overlap."""
    linear, index = lowering.linear, lowering.index
    if not offset.terms:
        return Linear(swizzle.apply(offset.constant))
    bits = _bits(lowering, offset)
    moving = Linear(0, offset.terms)
    constant = offset.constant
    if bits is None or bits & constant:
        moving, constant, bits = offset, 0, None
    value = index.value(linear.value(moving))
    target = ((1 << swizzle.bits) - 1) << swizzle.base
    if bits is None or bits & (target << swizzle.shift):
        row = index.build(arith.AndIOp(value, index.value(target << swizzle.shift))).result
        shift = index.value(swizzle.shift)
        chunk = index.build(arith.ShRUIOp(row, shift)).result
        value = index.build(arith.XOrIOp(value, chunk)).result
    fixed = swizzle.apply(constant)
    if fixed & target:
        value = index.build(arith.XOrIOp(value, index.value(fixed & target))).result
    return linear.of_new(value, 1) + (fixed & ~target)


def _bits(lowering: NvvmLowering, offset: Linear) -> int | None:
    """The bits that may be set in the moving part of an offset; None if that is not known, or its parts overlap."""
    found = 0
    for value, factor, _ in offset.terms:
        below = lowering.linear.below.get(value)
        if factor < 1 or factor & (factor - 1):
            return None
        if below is None:
            return None
        mask = ((1 << (below - 1).bit_length()) - 1) * factor
        if found & mask:
            return None
        found |= mask
    return found


def _default_map(rank: int, source_rank: int, indices: Sequence[SSAValue]) -> AffineMap:
    """The tile's dimensions are the memory's last ones; an index that is gathered says where by itself."""
    by = default_map(rank, source_rank)
    results = [
        result if index.type == INDEX else AffineExpr.symbol(at)
        for at, (result, index) in enumerate(zip(by.results, indices, strict=True))
    ]
    return AffineMap(rank, source_rank, tuple(results))


def _varies(index: SSAValue, dim: int) -> bool:
    return isinstance(index.type, mma.FragmentType) and index.type.get_shape()[dim] > 1


def _total(steps: Sequence[int | None], strides: Sequence[Index | None]) -> int | None:
    total = 0
    for step, stride in zip(steps, strides, strict=True):
        if step == 0:
            continue
        if step is None or not isinstance(stride, int):
            return None
        total += step * stride
    return total


def _inner_step(result: AffineExpr, dim: int) -> int | None:
    """How a result of a storage map moves between neighbours in one block of it."""
    if (step := coefficient(result, dim)) is not None:
        return step
    kind = str(getattr(result, "kind", "")).rsplit(".", 1)[-1]
    lhs: AffineExpr | None = getattr(result, "lhs", None)
    if lhs is None or kind not in ("FloorDiv", "Mod"):
        return None
    return 0 if kind == "FloorDiv" else _inner_step(lhs, dim)
