"""What the rules of ``mma-to-hardware`` share: registers of fragments, memory, scratch, index arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any, cast

from xdsl.dialects import arith, memref, vector
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    AffineMapAttr,
    AnyFloat,
    ArrayAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    MemRefType,
    NoneAttr,
    StridedLayoutAttr,
    VectorType,
    i64,
)
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.ir.affine import AffineMap
from xdsl.utils.hints import isa

from crosstile.dialects import mma
from crosstile.dialects.amx import TileType
from crosstile.dialects.packing import layout_map, packed_layout
from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.index_math import Index
from crosstile.lowering.constants import scalar_attribute, vector_attribute
from crosstile.lowering.divisibility import static_size
from crosstile.lowering.driver import Lowering, Rule
from crosstile.lowering.hoisting import Hoister
from crosstile.lowering.linear_index import LinearBuilder
from crosstile.lowering.tile_registers import is_in_tiles, tile_registers_of
from crosstile.lowering.vector_registers import registers_of
from crosstile.targets.packing import PackedLayout

SCRATCH_ALIGNMENT = 64
"""Bytes; a cache line and the widest vector register."""

BYTES = MemRefType(IntegerType(8), [DYNAMIC_INDEX])
INDEX = IndexType()
NONE = NoneAttr()


def element_bytes(type_: Attribute) -> int:
    """The bytes one element of a buffer occupies."""
    if isinstance(type_, IndexType):
        return 8
    if isinstance(type_, IntegerType | AnyFloat):
        return (type_.bitwidth + 7) // 8
    raise CrosstileError(f"elements of type {type_} have no size in memory")


def buffer_bytes(type_: mma.BufferType) -> int:
    """The bytes a buffer occupies, rounded up to the alignment of scratch."""
    size = prod(type_.storage_shape()) * element_bytes(type_.element_type)
    return -(-size // SCRATCH_ALIGNMENT) * SCRATCH_ALIGNMENT


def scratch_bytes(kernel: mma.KernelOp) -> int:
    """The bytes of scratch one worker of ``kernel`` needs: all its buffers side by side."""
    return sum(buffer_bytes(op.result.type) for op in kernel.walk() if isinstance(op, mma.AllocOp))


@cache
def vector_type(fragment: mma.FragmentType) -> VectorType:
    """The type of one register of a fragment."""
    return VectorType(fragment.element_type, [registers_of(fragment.layout.data).elements])


@cache
def tile_type(fragment: mma.FragmentType) -> TileType:
    """The type of one tile register of a fragment."""
    registers = tile_registers_of(fragment.layout.data)
    return TileType.of((registers.rows, registers.columns), fragment.element_type)


def convert_type(type_: Attribute) -> Sequence[Attribute]:
    """The types of the values that stand for one of ``type_``: a fragment's registers, else the type itself."""
    if isinstance(type_, mma.FragmentType) and is_in_tiles(type_.layout.data):
        return [tile_type(type_)] * len(tile_registers_of(type_.layout.data).starts)
    if isinstance(type_, mma.FragmentType):
        return [vector_type(type_)] * len(registers_of(type_.layout.data).starts)
    return (type_,)


@dataclass(frozen=True)
class Memory:
    """Memory as one row of elements: ``flat`` has rank 1, and dimension d of its box advances by ``strides[d]``.

    ``sizes`` are those of the memory's own dimensions; ``storage`` maps its coordinates to the box (None: they are it).
    ``elements`` are those of the box, where it is larger than the memory and no type knows its size.
    """

    flat: SSAValue
    sizes: tuple[Index, ...]
    strides: tuple[Index, ...]
    storage: AffineMap | None = None
    elements: Index | None = None


@dataclass
class KernelState:
    """The kernel being lowered: its scratch, of which ``used`` bytes are taken, this worker and how many there are.

    ``streams`` says whether it writes past the caches, which ends with ``store_fence``, an intrinsic of LLVM.
    """

    scratch: SSAValue
    part: SSAValue
    parts: SSAValue
    store_fence: str = ""
    used: int = 0
    streams: bool = False


@dataclass(frozen=True)
class HostState:
    """The host function being lowered: which stage of ``stages`` this call is for, the worker, its scratch."""

    stage: SSAValue
    part: SSAValue
    parts: SSAValue
    stages: int
    scratch: SSAValue


class HardwareLowering(Lowering):
    """The driver with what the rules of this lowering share."""

    def __init__(
        self,
        pass_name: str,
        rules: Mapping[type[Operation], Rule],
        kept_dialects: frozenset[str],
    ):
        super().__init__(pass_name, rules, kept_dialects, convert_type)
        self.index = Hoister(self)
        self.linear = LinearBuilder(self.index)
        self._kernel: KernelState | None = None
        self._host: HostState | None = None
        self._memories: dict[SSAValue, Memory] = {}
        self._deferred: dict[SSAValue, Callable[[int], SSAValue]] = {}

    # Registers that are made where they are used

    def defer(self, old: SSAValue, make: Callable[[int], SSAValue]) -> None:
        """Let the one reader of the fragment ``old`` make register after register with ``make``."""
        self._deferred[old] = make

    def register(self, old: SSAValue, number: int) -> SSAValue:
        """A register of the fragment ``old``; of a deferred one each is to be asked for once."""
        make = self._deferred.get(old)
        return self.values(old)[number] if make is None else make(number)

    @property
    def kernel(self) -> KernelState:
        """The kernel that is being lowered; an error outside of one."""
        if self._kernel is None:
            raise self.error("stands outside of an mma.kernel")
        return self._kernel

    @property
    def host(self) -> HostState:
        """The host function that is being lowered; an error outside of one."""
        if self._host is None:
            raise self.error("stands outside of a host function")
        return self._host

    def enter_host(self, host: HostState) -> None:
        """From now on rules lower the body of a host function."""
        self._host = host

    def enter_kernel(self, kernel: KernelState) -> None:
        """From now on rules lower the body of ``kernel``."""
        self._kernel, self._memories = kernel, {}

    # Memory

    def memory(self, old: SSAValue) -> Memory:
        """The memory that ``old``, a memref or a buffer, stands for."""
        if (known := self._memories.get(old)) is None:
            known = self._memories[old] = self._open(old)
        return known

    def _open(self, old: SSAValue) -> Memory:
        value, type_ = self.value(old), old.type
        if isinstance(type_, mma.BufferType):
            box = type_.storage_shape()
            strides = tuple(prod(box[dim + 1 :]) for dim in range(len(box)))
            storage = type_.map.data if isinstance(type_.map, AffineMapAttr) else None
            return Memory(value, type_.get_shape(), strides, storage)
        if not isa(type_, MemRefType):
            raise self.error(f"reads or writes {type_}; a core's memory is a memref or a buffer")
        sizes = tuple(self.size(value, dim) for dim in range(type_.get_num_dims()))
        if isinstance(type_.layout, StridedLayoutAttr):
            return self._open_strided(value, type_, sizes)
        if (layout := packed_layout(type_)) is not None:
            return self._open_packed(value, type_, sizes, layout)
        if type_.layout != NONE and type_.layout != AffineMapAttr(AffineMap.identity(len(sizes))):
            raise self.error(f"the layout of {type_} is neither row-major, nor strided<[...]>, nor made of blocks")
        strides = tuple(self.index.product(sizes[dim + 1 :][::-1]) for dim in range(len(sizes)))
        return Memory(self._flatten(value, type_), sizes, strides)

    def _open_packed(
        self, value: SSAValue, type_: MemRefType[Attribute], sizes: tuple[Index, ...], layout: PackedLayout
    ) -> Memory:
        """The box of a packed memref as one row of elements."""
        box: list[Index] = []
        for part in layout.parts:
            size: Index = part.within or sizes[part.dim]
            box.append(self.index.floor_div(self.index.add(size, part.size - 1), part.size))
        strides = tuple(self.index.product(box[dim + 1 :][::-1]) for dim in range(len(box)))
        elements = self.index.mul(strides[0], box[0])
        known = elements if isinstance(elements, int) else DYNAMIC_INDEX
        flat = MemRefType(type_.element_type, [known], memory_space=type_.memory_space)
        dynamic = [] if isinstance(elements, int) else [elements]
        cast = memref.ReinterpretCastOp(value, [], dynamic, [], [0], [known], [1], flat)
        return Memory(self.index.build(cast).result, sizes, strides, layout_map(layout), elements)

    def size(self, value: SSAValue, dim: int) -> Index:
        """The size of a dimension of a new memref."""
        if (size := static_size(value, dim)) is not None:
            return size
        return self.index.build(memref.DimOp(value, self.index.value(dim))).result

    def _flatten(self, value: SSAValue, type_: MemRefType[Attribute]) -> SSAValue:
        rank, shape = type_.get_num_dims(), type_.get_shape()
        if rank == 1:
            return value
        size = DYNAMIC_INDEX if DYNAMIC_INDEX in shape else prod(shape)
        flat = MemRefType(type_.element_type, [size], memory_space=type_.memory_space)
        if rank == 0:
            one = MemRefType(type_.element_type, [1], StridedLayoutAttr([1]), type_.memory_space)
            return self.index.build(memref.ReinterpretCastOp(value, [], [], [], [0], [1], [1], one)).result
        groups = ArrayAttr([ArrayAttr([IntegerAttr(dim, i64) for dim in range(rank)])])
        collapse = memref.CollapseShapeOp(operands=[value], result_types=[flat], properties={"reassociation": groups})
        return self.index.build(collapse).result

    def _open_strided(self, value: SSAValue, type_: MemRefType[Attribute], sizes: tuple[Index, ...]) -> Memory:
        known = type_.get_strides()
        assert known is not None
        metadata = self.index.build(memref.ExtractStridedMetaDataOp(value))
        found = metadata.strides
        strides = tuple(found[dim] if stride is None else stride for dim, stride in enumerate(known))
        size = self.index.value(self.index.mul(sizes[0], strides[0]))
        flat = MemRefType(
            type_.element_type, [DYNAMIC_INDEX], StridedLayoutAttr([1], NONE), memory_space=type_.memory_space
        )
        cast = memref.ReinterpretCastOp(
            metadata.base_buffer, [metadata.offset], [size], [], [DYNAMIC_INDEX], [DYNAMIC_INDEX], [1], flat
        )
        return Memory(self.index.build(cast).result, sizes, strides)

    def view(self, memory: Memory, offset: Index) -> SSAValue:
        """The part of a memory that starts at element ``offset``."""
        # A view of a row that is not there is an error.
        return self.index.build(self._view(memory, offset), guarded=True).result

    def known_view(self, memory: Memory, offset: Index) -> SSAValue | None:
        """What ``view`` made of the same at this place or further out; None if it did not."""
        op = self._view(memory, offset)
        known = self.index.known(op)
        op.erase()
        return None if known is None else known.result

    def _view(self, memory: Memory, offset: Index) -> memref.SubviewOp:
        type_ = memory.flat.type
        assert isa(type_, MemRefType)
        (stored,) = type_.get_shape()
        # A packed buffer is stored in another shape than its own; its flat type knows.
        elements: Index = stored
        if stored == DYNAMIC_INDEX:
            elements = memory.elements or self.index.mul(memory.sizes[0], memory.strides[0])
        size = self.index.sub(elements, offset)
        result = MemRefType(type_.element_type, [DYNAMIC_INDEX], StridedLayoutAttr([1], NONE), type_.memory_space)
        operands = self.index.values([offset, size])
        return memref.SubviewOp(
            memory.flat, operands[:1], operands[1:], [], [DYNAMIC_INDEX], [DYNAMIC_INDEX], [1], result
        )

    # Constants and scalars

    def constant(self, value: float | int, type_: Attribute) -> SSAValue:
        """A constant of a scalar type or, in every lane, of a vector type."""

        def build() -> SSAValue:
            if isinstance(type_, VectorType):
                return self.constant_vector([value], cast("VectorType[Attribute]", type_))
            return self.index.build(arith.ConstantOp(scalar_attribute(value, type_))).result

        return self.index.once((repr(value), type_), build)  # 0.0 and -0.0 are equal and not the same

    def constant_vector(self, values: Sequence[float | int], type_: VectorType[Any]) -> SSAValue:
        """A register with known lanes; one number stands for all."""
        return self.index.build(arith.ConstantOp(vector_attribute(values, type_))).result

    def broadcast(self, scalar: SSAValue, type_: VectorType) -> SSAValue:
        """A register that holds ``scalar`` in every lane."""
        return self.index.build(vector.BroadcastOp(scalar, type_)).vector
