"""Rules for products: a fragment of many blocks becomes the instructions, in order of k.

    %d = mma.mma %a, %b, %c {intrinsic = "nvidia.mma.m16n8k16.f32.bf16"} : 128x16, 16x128, 128x128 over 4 warps
    ==> 32 x nvvm.mma.sync of each warp
    %p = mma.mma_async %a, %b, %c {intrinsic = "nvidia.wgmma.m64n256k16.f32.bf16"} : slots of 128x64, 64x256
    ==> nvvm.wgmma.fence.aligned, 4 x nvvm.wgmma.mma_async, nvvm.wgmma.commit.group.sync.aligned

Sizes, types and register orders come from the row of the intrinsic; there is no case per kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects import arith, llvm, math
from xdsl.dialects.builtin import VectorType, f16, i32, i64
from xdsl.dialects.llvm import LLVMStructType
from xdsl.ir import SSAValue

from crosstile.dialects import mma
from crosstile.dialects.mma.intrinsics import find_intrinsic
from crosstile.dialects.nvvm.attributes import MmaShape
from crosstile.dialects.nvvm.matrices import MmaSyncOp
from crosstile.dialects.nvvm.warpgroup import WgmmaCommitOp, WgmmaFenceOp, WgmmaOp, WgmmaWaitOp
from crosstile.lowering.linear_index import Linear, Term
from crosstile.lowering.mma_to_nvvm.access import scratch_address
from crosstile.lowering.mma_to_nvvm.fragments import (
    Registers,
    accumulator_type,
    packing,
    registers_of,
    word_types,
)
from crosstile.lowering.mma_to_nvvm.rounding import round_word
from crosstile.lowering.mma_to_nvvm.slots import own_address_of
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering
from crosstile.lowering.mma_to_nvvm.structs import extract, make_struct
from crosstile.lowering.mma_to_nvvm.tensor_maps import Panels, panels_of
from crosstile.targets.layout import Layout
from crosstile.targets.model import MmaIntrinsic, Operand

PTX_TYPES = {"f8E4M3FN": "e4m3", "f8E5M2": "e5m2", "si8": "s8", "ui8": "u8", "i32": "s32"}
"""How PTX calls a type that it calls differently."""
ATOM_ROWS = 8
"""Rows of the matrices that make up shared memory for wgmma (PTX ISA, "Matrix Descriptor")."""
SWIZZLE_MODES = {0: 0, 128: 1, 64: 2, 32: 3}
"""Bits 62 and 63 of a matrix descriptor, by the width of the swizzled rows."""


def ptx_type(element: str) -> str:
    """The name of an element type in PTX."""
    return PTX_TYPES.get(element, element)


def blocks(registers: Registers, operand: Operand, shape: tuple[int, int]) -> dict[tuple[int, int], list[int]]:
    """The registers of each block of an intrinsic's operand, in its order, by where the block begins in thread 0."""
    assert operand.layout is not None
    order = registers_of(_without_threads(operand.layout)).starts
    found: dict[tuple[int, int], list[int]] = {}
    for row, column in registers.starts:
        if row % shape[0] == 0 and column % shape[1] == 0:
            found[row, column] = [registers.number[row + i, column + j] for i, j in order]
    return found


def _without_threads(layout: Layout) -> Layout:
    return Layout(layout.tile, tuple(axis for axis in layout.axes if axis[0] == "register"))


def words_of(lowering: NvvmLowering, old: SSAValue, numbers: Sequence[int]) -> list[SSAValue]:
    """The words that hold registers ``numbers`` of a fragment."""
    assert isinstance(old.type, mma.FragmentType)
    words = lowering.values(old)
    return [words[number] for number in word_numbers(lowering, old.type, numbers)]


def word_numbers(lowering: NvvmLowering, type_: mma.FragmentType, numbers: Sequence[int]) -> list[int]:
    """Which words of a fragment hold its registers ``numbers``."""
    together = packing(type_)
    groups = [numbers[first : first + together] for first in range(0, len(numbers), together)]
    for group in groups:
        if group[0] % together or list(group) != list(range(group[0], group[0] + together)):
            raise lowering.error(
                f"registers {list(group)} of a factor are not one word; neighbours in a lane must be neighbours in the "
                "order of its registers"
            )
    return [group[0] // together for group in groups]


def lower_product(op: mma.MmaOp, lowering: NvvmLowering) -> None:
    """One instruction per block of the accumulator and step of k; an fma if every lane multiplies by itself."""
    row = find_intrinsic(op.intrinsic.data)
    if not isinstance(op.lhs.type, mma.FragmentType) or not isinstance(op.rhs.type, mma.FragmentType):
        raise lowering.error(f"{row.name}: both factors of a product that is waited for are in registers")
    type_ = op.result.type
    lhs = blocks(registers_of(op.lhs.type.layout.data), row.lhs, (row.m, row.k))
    rhs = blocks(registers_of(op.rhs.type.layout.data), row.rhs, (row.k, row.n))
    accumulators = blocks(registers_of(type_.layout.data), row.accumulator, (row.m, row.n))
    values = list(lowering.values(op.accumulator))
    types = ptx_type(row.lhs.element), ptx_type(row.rhs.element)
    for k in range(0, op.lhs.type.get_shape()[1], row.k):
        for (i, j), numbers in accumulators.items():
            a = _operands(lowering, op.lhs, lhs[i, k], row.lhs)
            b = _operands(lowering, op.rhs, rhs[k, j], row.rhs)
            if row.m == row.n == row.k == 1:
                values[numbers[0]] = lowering.insert(math.FmaOp(a[0], b[0], values[numbers[0]])).result
                continue
            held = word_numbers(lowering, type_, numbers)
            c = _typed(lowering, [values[number] for number in held], type_)
            struct = LLVMStructType.from_type_list([value.type for value in c])
            product = lowering.insert(MmaSyncOp(a, b, c, MmaShape(row.m, row.n, row.k), types, struct)).res
            for number, value in zip(held, _untyped(lowering, product, type_), strict=True):
                values[number] = value
    lowering.map_value(op.result, *values)


def _typed(lowering: NvvmLowering, words: Sequence[SSAValue], type_: mma.FragmentType) -> list[SSAValue]:
    """The words of an accumulator in the types that upstream's operations take."""
    wanted = accumulator_type(type_)
    return [word if word.type == wanted else lowering.insert(llvm.BitcastOp(word, wanted)).result for word in words]


def _untyped(lowering: NvvmLowering, struct: SSAValue, type_: mma.FragmentType) -> list[SSAValue]:
    """The members of a product as the words of a fragment."""
    assert isinstance(struct.type, LLVMStructType)
    parts = [extract(lowering, struct, place) for place in range(len(struct.type.types))]
    wanted = word_types(type_)[0]
    return [part if part.type == wanted else lowering.insert(llvm.BitcastOp(part, wanted)).result for part in parts]


def _operands(lowering: NvvmLowering, old: SSAValue, numbers: Sequence[int], operand: Operand) -> list[SSAValue]:
    """Words in the types that upstream's operation takes: pairs of f16, else i32; rounded if the row says so."""
    words = words_of(lowering, old, numbers)
    if operand.rounded and old not in lowering.kernel.rounded:
        words = [lowering.index.once(("tf32", word), lambda word=word: round_word(lowering, word)) for word in words]
    wanted = {"f16": VectorType(f16, [2]), "tf32": i32}.get(operand.element)
    if wanted is None:
        return list(words)
    return [lowering.index.build(llvm.BitcastOp(word, wanted)).result for word in words]


# Products in flight


def lower_mma_async(op: mma.MmaAsyncOp, lowering: NvvmLowering) -> None:
    """A fence, the instructions for every block and step of k, and a commit."""
    row = find_intrinsic(op.intrinsic.data)
    fragment = op.result.type.fragment
    registers = registers_of(fragment.layout.data)
    accumulators = blocks(registers, row.accumulator, (row.m, row.n))
    steps = range(0, _factor_shape(op.lhs)[1], row.k)
    current = lowering.values(op.accumulator)
    if isinstance(op.accumulator.type, mma.PendingType):
        struct = current[0]
    else:
        struct = make_struct(lowering, _typed(lowering, current, fragment))
    left = _factor(lowering, op.lhs, row, row.lhs, (row.m, row.k), "lhs")
    right = _factor(lowering, op.rhs, row, row.rhs, (row.k, row.n), "rhs")
    types = ptx_type(row.lhs.element), ptx_type(row.rhs.element)
    layouts = left.layout, right.layout
    shape = MmaShape(row.m, row.n, row.k)
    held = {at: word_numbers(lowering, fragment, numbers) for at, numbers in accumulators.items()}
    whole = len(held) == 1 and next(iter(held.values())) == list(range(len(word_types(fragment))))
    parts: dict[tuple[int, int], SSAValue] = {}
    for at, numbers in held.items():
        parts[at] = struct if whole else make_struct(lowering, [extract(lowering, struct, n) for n in numbers])
    lowering.insert(WgmmaFenceOp())
    for k in steps:
        for i, j in accumulators:
            a, b = left.at(i, k), right.at(k, j)
            warps = _block_step(lowering, registers, row)
            parts[i, j] = lowering.insert(
                WgmmaOp(left.operands(a, warps[0]), right.operands(b, warps[1])[0], parts[i, j], shape, types, layouts)
            ).results_
    lowering.insert(WgmmaCommitOp())
    if whole:
        struct = next(iter(parts.values()))
    else:
        members: dict[int, SSAValue] = {}
        for at, numbers in held.items():
            members.update({n: extract(lowering, parts[at], place) for place, n in enumerate(numbers)})
        struct = make_struct(lowering, [members[number] for number in range(len(members))])
    lowering.map_value(op.result, struct)


def _factor_shape(value: SSAValue) -> tuple[int, ...]:
    assert isinstance(value.type, mma.FragmentType | mma.SlotType | mma.BufferType)
    return value.type.get_shape()


def _block_step(lowering: NvvmLowering, registers: Registers, row: MmaIntrinsic) -> tuple[Linear, Linear]:
    """How far down and to the right the blocks of this warpgroup begin."""
    found = [Linear(), Linear()]
    for digit in registers.digits:
        if digit.axis == "warp" and digit.step and digit.step % (row.m, row.n)[digit.dim] == 0:
            found[digit.dim] += Linear(0, (Term(lowering.uniform(lowering.digit(digit)), digit.step, 1),))
    return found[0], found[1]


@dataclass
class RegisterFactor:
    """A left factor in registers."""

    lowering: NvvmLowering
    value: SSAValue
    numbers: dict[tuple[int, int], list[int]]
    layout: str = "row"

    def at(self, row: int, column: int) -> tuple[int, int]:
        """Where a block begins."""
        return row, column

    def operands(self, at: tuple[int, int], warps: Linear) -> list[SSAValue]:
        """The words of a block; the layout says which the warp holds."""
        del warps
        return words_of(self.lowering, self.value, self.numbers[at])


@dataclass
class SharedFactor:
    """A factor in shared memory; ``across`` is its dimension that is not k."""

    lowering: NvvmLowering
    value: SSAValue
    panels: Panels
    across: int
    layout: str

    def at(self, row: int, column: int) -> tuple[int, int]:
        """Where a block begins."""
        return row, column

    def operands(self, at: tuple[int, int], warps: Linear) -> list[SSAValue]:
        """The descriptor of a block (PTX ISA, "Matrix Descriptor")."""
        lowering, type_ = self.lowering, self.value.type
        assert isinstance(type_, mma.SlotType | mma.BufferType)
        coordinates = [Linear(at[0]), Linear(at[1])]
        coordinates[self.across] += warps
        # Blocks begin at a row that the swizzle leaves alone; it acts on addresses, so the offset is not swizzled.
        plain = mma.BufferType.of(type_.get_shape(), type_.element_type, type_.map)
        address = scratch_address(lowering, plain, own_address_of(lowering, self.value), coordinates)
        number = lowering.linear.floor_div(address, 16)
        low, high = self.fields()
        # The fields beside the address do not overlap it, so one addition of 32 bits puts them in.
        word = lowering.to_i32(lowering.index.value(lowering.linear.value(number + low)))
        wide = lowering.index.build(arith.ExtUIOp(word, i64)).result
        fields = lowering.constant(high, i64)
        return [lowering.index.build(arith.OrIOp(wide, fields)).result]

    def fields(self) -> tuple[int, int]:
        """The descriptor without the address, lower word and rest: two distances in 16 bytes, and the swizzle."""
        type_ = self.value.type
        assert isinstance(type_, mma.SlotType | mma.BufferType)
        swizzle = type_.swizzle.data if isinstance(type_.swizzle, mma.SwizzleAttr) else 0
        leading = self.panels.panel_bytes if self.panels.inner == self.across else 16
        high = (ATOM_ROWS * self.panels.row_bytes >> 4) << 32 | SWIZZLE_MODES[swizzle] << 62
        return (leading >> 4 & 0x3FFF) << 16, high - (1 << 64) if high >> 63 else high


def _factor(
    lowering: NvvmLowering, value: SSAValue, row: MmaIntrinsic, operand: Operand, shape: tuple[int, int], name: str
) -> RegisterFactor | SharedFactor:
    type_ = value.type
    if isinstance(type_, mma.FragmentType):
        return RegisterFactor(lowering, value, blocks(registers_of(type_.layout.data), operand, shape))
    assert isinstance(type_, mma.SlotType | mma.BufferType)
    panels = panels_of(type_)
    swizzle = type_.swizzle.data if isinstance(type_.swizzle, mma.SwizzleAttr) else 0
    if panels is None or panels.row_bytes != swizzle:
        raise lowering.error(
            f"{row.name} reads the {name} from rows as wide as the swizzle, 32, 64 or 128 bytes; not so is {type_}"
        )
    across = 0 if name == "lhs" else 1
    contiguous_k = panels.inner != across
    if operand.along_k and not contiguous_k:
        raise lowering.error(
            f"{row.name} reads the {name} with k contiguous; not so is {type_}: mma.copy_transposed makes it so"
        )
    # "row" and "col" are k contiguous for the left and the right factor.
    layout = ("row" if contiguous_k else "col") if name == "lhs" else ("col" if contiguous_k else "row")
    return SharedFactor(lowering, value, panels, across, layout)


def lower_await(op: mma.AwaitOp, lowering: NvvmLowering) -> None:
    """Waits for groups; a fragment's registers are then those of the struct."""
    lowering.insert(WgmmaWaitOp(0 if op.in_flight is None else op.in_flight.value.data))
    struct = lowering.value(op.pending)
    if isinstance(op.result.type, mma.PendingType):
        lowering.map_value(op.result, struct)
        return
    lowering.map_value(op.result, *_untyped(lowering, struct, op.result.type))
