"""What the rules of ``mma-to-nvvm`` share: threads, words of fragments, constants, addresses in shared memory.

``NvvmLowering`` is the driver with these; what it knows of a kernel is in ``kernel_state``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd

from xdsl.dialects import arith, llvm, memref, vector
from xdsl.dialects.builtin import DYNAMIC_INDEX, IntegerType, MemRefType, NoneAttr, VectorType, i1, i32
from xdsl.dialects.llvm import GEP_USE_SSA_VAL, LLVMPointerType
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects import mma
from crosstile.dialects.arith import CmpiOp, SelectOp
from crosstile.dialects.mma.kernel import integer_list
from crosstile.dialects.nvvm.special import ThreadIdXOp
from crosstile.dialects.nvvm.synchronisation import ShuffleOp
from crosstile.ir.index_math import Index
from crosstile.lowering.constants import scalar_attribute
from crosstile.lowering.divisibility import constant_value, known_multiple
from crosstile.lowering.driver import Lowering, Rule
from crosstile.lowering.hoisting import Hoister
from crosstile.lowering.linear_index import Linear, LinearBuilder, Term
from crosstile.lowering.mma_to_nvvm.fragments import LANES, Digit, Registers, memory_bytes, packing
from crosstile.lowering.mma_to_nvvm.kernel_state import (
    ALL_LANES,
    INDEX,
    SHARED,
    SHARED_ALIGNMENT,
    SHARED_MEMORY,
    KernelState,
    Program,
    convert_type,
)


class NvvmLowering(Lowering):
    """The driver with what the rules of this lowering share.

    ``alignment``: bytes that divide every pointer, and every stride but that of neighbours, in the kernel at hand;
    ``usual_alignment`` is that of kernels that do not say.
    """

    def __init__(
        self, pass_name: str, rules: Mapping[type[Operation], Rule], kept_dialects: frozenset[str], alignment: int
    ):
        super().__init__(pass_name, rules, kept_dialects, convert_type)
        self.alignment = self.usual_alignment = alignment
        self.index = Hoister(self)
        self.linear = LinearBuilder(self.index)
        self._kernel: KernelState | None = None
        self.program = Program(0, 1, 0)

    @property
    def kernel(self) -> KernelState:
        """The kernel that is being lowered; an error outside of one."""
        if self._kernel is None:
            raise self.error("stands outside of an mma.kernel")
        return self._kernel

    def enter_kernel(self, kernel: KernelState) -> None:
        """From now on rules lower the body of ``kernel``."""
        self._kernel, self.program = kernel, Program(0, kernel.warps, 0)

    # Threads

    def thread(self) -> SSAValue:
        """The number of this thread among those of the program."""
        return self.index.once(("thread", self.program.first_warp), self._thread)

    def _thread(self) -> SSAValue:
        number = self.index.build(ThreadIdXOp()).result
        number = self.index.build(arith.IndexCastOp(number, INDEX)).result
        value = self.index.value(self.index.sub(number, self.program.first_warp * LANES))
        self.linear.below[value] = self.program.warps * LANES
        return value

    def digit(self, digit: Digit) -> SSAValue:
        """A digit of this thread's lane or warp, as an index."""
        key = (digit.axis, digit.weight, digit.size, self.program.first_warp, self.program.warps)
        return self.index.once(key, lambda: self._digit(digit))

    def _digit(self, digit: Digit) -> SSAValue:
        weight = digit.weight * (LANES if digit.axis == "warp" else 1)
        threads = self.program.warps * LANES
        value = self.index.floor_div(self.thread(), weight)
        if digit.size * weight < threads:
            value = self.index.remainder(value, digit.size)
        result = self.index.value(value)
        self.linear.below[result] = digit.size
        return result

    def uniform(self, value: SSAValue) -> SSAValue:
        """A number that all lanes of a warp agree on, taken from the first, so that ptxas knows that they do."""
        mask, zero, clamp = self.integer(ALL_LANES), self.integer(0), self.integer(LANES - 1)
        result = self.index.build(ShuffleOp("idx", mask, value, zero, clamp)).res
        self.linear.below[result] = self.linear.below[value]
        return result

    def coordinates(self, registers: Registers, number: int) -> list[Linear]:
        """The element that a register of this thread holds."""
        found = [Linear(start) for start in registers.starts[number]]
        for digit in registers.joined:
            found[digit.dim] += Linear(0, (Term(self.digit(digit), digit.step, 1),))
        return found

    def first_lane(self) -> SSAValue:
        """Whether this is the first lane of its warp."""
        lane = self.index.value(self.index.remainder(self.thread(), LANES))
        return self.compare("eq", lane, 0)

    def replica(self, registers: Registers) -> SSAValue | bool:
        """Whether this thread is the first of those that hold the same elements."""
        result: SSAValue | bool = True
        for digit in registers.digits:
            if not digit.step:
                result = self.both(result, self.compare("eq", self.digit(digit), 0))
        return result

    # Words of fragments

    def elements(self, old: SSAValue) -> list[SSAValue]:
        """The elements of a fragment that this thread holds, in the order of registers."""
        type_, words = old.type, self.values(old)
        assert isinstance(type_, mma.FragmentType)
        if (together := packing(type_)) == 1:
            return list(words)
        pair = VectorType(type_.element_type, [together])
        found: list[SSAValue] = []
        for word in words:
            parts = self.index.build(llvm.BitcastOp(word, pair)).result
            found += [
                self.index.build(vector.ExtractOp(parts, [place], type_.element_type)).result
                for place in range(together)
            ]
        return found

    def pack(self, elements: Sequence[SSAValue], type_: mma.FragmentType) -> list[SSAValue]:
        """The words of a fragment whose elements are given in the order of registers."""
        if (together := packing(type_)) == 1:
            return list(elements)
        pair = VectorType(type_.element_type, [together])
        words: list[SSAValue] = []
        for first in range(0, len(elements), together):
            parts = self.insert(llvm.UndefOp(pair)).res
            for place, element in enumerate(elements[first : first + together]):
                position = self.integer(place)
                parts = self.insert(llvm.InsertElementOp(parts, element, position)).res
            words.append(self.insert(llvm.BitcastOp(parts, i32)).result)
        return words

    def set_elements(self, old: SSAValue, elements: Sequence[SSAValue]) -> None:
        """From now on these are the elements of the fragment ``old``."""
        type_ = old.type
        assert isinstance(type_, mma.FragmentType)
        self.map_value(old, *self.pack(elements, type_))

    # Constants, conditions, conversions

    def constant(self, value: float | int, type_: Attribute) -> SSAValue:
        """A constant of a scalar type."""
        return self.index.once(
            (repr(value), type_), lambda: self.index.build(arith.ConstantOp(scalar_attribute(value, type_))).result
        )

    def integer(self, value: int) -> SSAValue:
        """A constant of type i32."""
        return self.constant(value, i32)

    def to_i32(self, value: Index) -> SSAValue:
        """An index as an i32."""
        if isinstance(value, int):
            return self.integer(value)
        return self.index.once(("i32", value), lambda: self.index.build(arith.IndexCastOp(value, i32)).result)

    def to_index(self, value: SSAValue) -> SSAValue:
        """An integer as an index."""
        return self.index.build(arith.IndexCastOp(value, INDEX)).result

    def compare(self, predicate: str, lhs: Index, rhs: Index) -> SSAValue:
        """The comparison of two indices."""
        return self.index.once(
            (predicate, lhs, rhs),
            lambda: self.index.build(CmpiOp(self.index.value(lhs), self.index.value(rhs), predicate)).result,
        )

    def less(self, lhs: Index, rhs: Index) -> SSAValue | bool:
        """Whether ``lhs < rhs``, if that is not known."""
        if isinstance(lhs, int) and isinstance(rhs, int):
            return lhs < rhs
        return self.compare("slt", lhs, rhs)

    def both(self, lhs: SSAValue | bool, rhs: SSAValue | bool) -> SSAValue | bool:
        """Whether both hold."""
        if isinstance(lhs, bool):
            return rhs if lhs else False
        if isinstance(rhs, bool):
            return lhs if rhs else False
        return self.index.once(("and", lhs, rhs), lambda: self.index.build(arith.AndIOp(lhs, rhs)).result)

    def condition(self, value: SSAValue | bool) -> SSAValue:
        """A condition as a value."""
        return self.constant(int(value), i1) if isinstance(value, bool) else value

    def select(self, condition: SSAValue | bool, lhs: SSAValue, rhs: SSAValue) -> SSAValue:
        """``lhs`` if the condition holds, else ``rhs``."""
        if isinstance(condition, bool):
            return lhs if condition else rhs
        return self.index.build(SelectOp(condition, lhs, rhs)).result

    # Addresses

    def shared_base(self) -> SSAValue:
        """The address of the block's shared memory, as an index."""

        def build() -> SSAValue:
            pointer = self.index.build(llvm.AddressOfOp(SHARED_MEMORY, SHARED)).result
            number = self.index.build(llvm.PtrToIntOp(pointer, i32)).output
            return self.index.build(arith.IndexCastOp(number, INDEX)).result

        return self.index.once(SHARED_MEMORY, build)

    def shared_place(self, place: int) -> Linear:
        """The address of a place in shared memory."""
        return Linear(place, (Term(self.shared_base(), 1, SHARED_ALIGNMENT),))

    def shared_pointer(self, address: Linear) -> SSAValue:
        """A pointer; the constant is added at the access, where the addressing mode takes it."""
        number = self.linear.sum_of_terms(address)
        word = self.to_i32(number)
        pointer = self.index.once(("shared", word), lambda: self._shared_pointer_of(word))
        return self.offset(pointer, address.constant)

    def _shared_pointer_of(self, word: SSAValue) -> SSAValue:
        return self.index.build(llvm.IntToPtrOp.create(operands=[word], result_types=[SHARED])).output

    def offset(self, pointer: SSAValue, distance: int | SSAValue) -> SSAValue:
        """A pointer ``distance`` bytes, a number or an i64, further."""
        if distance == 0:
            return pointer
        return self.index.once(("offset", pointer, distance), lambda: self._offset(pointer, distance))

    def _offset(self, pointer: SSAValue, distance: int | SSAValue) -> SSAValue:
        assert isinstance(pointer.type, LLVMPointerType)
        if isinstance(distance, int):
            op = llvm.GEPOp(pointer, [distance], IntegerType(8), result_type=pointer.type)
        else:
            op = llvm.GEPOp(pointer, [GEP_USE_SSA_VAL], IntegerType(8), [distance], pointer.type)
        return self.index.build(op).result

    def zero_index(self) -> SSAValue:
        """The index 0, as a value that stands for itself on both levels."""
        zero = self.index.value(0)
        self.map_value(zero, zero)
        return zero

    def multiple(self, old: SSAValue) -> int:
        """A number that divides an index of the old level, given what this variant of the kernel may expect."""
        owner = old.owner
        if isinstance(owner, memref.DimOp):
            return max(1, self.multiple_of_size(owner.source.type, constant_value(owner.index)))
        if isinstance(owner, arith.AddiOp | arith.SubiOp | arith.MinSIOp | arith.MaxSIOp):
            return gcd(self.multiple(owner.lhs), self.multiple(owner.rhs))
        if isinstance(owner, Block) and isinstance(parallel := owner.parent_op(), mma.ParallelOp):
            rank, dim = len(parallel.upper_bounds), owner.args.index(old)
            if parallel.is_grid and dim >= rank:
                bounds = (parallel.lower_bounds[dim - rank], parallel.upper_bounds[dim - rank])
                return gcd(integer_list(parallel.steps)[dim - rank], *map(self.multiple, bounds))
        return known_multiple(old)

    def multiple_of_size(self, type_: Attribute, dim: int | None) -> int:
        """What divides a size of a memref: that of its last dimension is the stride of the one before."""
        if not isa(type_, MemRefType) or not isinstance(type_.layout, NoneAttr) or dim is None:
            return 1
        if (size := type_.get_shape()[dim]) != DYNAMIC_INDEX:
            return size
        rank = type_.get_num_dims()
        element: Attribute = type_.get_element_type()
        return max(1, self.alignment // memory_bytes(element)) if rank > 1 and dim == rank - 1 else 1
