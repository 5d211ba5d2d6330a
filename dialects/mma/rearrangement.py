"""Moving elements between registers, into another layout or transposed, and from slot to slot, transposed.

    %p = mma.relayout %s : !s -> !lhs
    %t = mma.transpose %f : !mma.fragment<16x32xf32, ...> -> !mma.fragment<32x16xf32, ...>
    mma.copy_transposed %read to %write : !mma.slot<read 128x256xi8, ...> to !mma.slot<write 256x128xi8, ...>

No other operation does: arithmetic has its operands where its result is.
"""

from __future__ import annotations

from xdsl.ir import Operation, SSAValue
from xdsl.irdl import IRDLOperation, irdl_op_definition, operand_def, result_def, traits_def
from xdsl.traits import NoMemoryEffect
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.mma.types import READ, WRITE, FragmentType, SlotType, type_of


@irdl_op_definition
class RelayoutOp(IRDLOperation):
    """``mma.relayout %f : !a -> !b``: the same elements in another layout.

    Free where the layouts differ in the order of registers only; between lanes it is shuffles, between warps a trip
    through scratch.
    """

    name = "mma.relayout"

    value = operand_def(FragmentType)
    result = result_def(FragmentType)

    traits = traits_def(NoMemoryEffect())

    assembly_format = "$value attr-dict `:` type($value) `->` type($result)"

    def __init__(self, value: SSAValue | Operation, result_type: FragmentType):
        super().__init__(operands=[value], result_types=[result_type])

    def verify_(self) -> None:
        """Shape and element type stay."""
        value, result = type_of(self.value, FragmentType), self.result.type
        if (value.get_shape(), value.get_element_type()) != (result.get_shape(), result.get_element_type()):
            raise VerifyException(f"makes {result} of {value}; expects the same shape and element type")


@irdl_op_definition
class TransposeOp(IRDLOperation):
    """``mma.transpose %f : !a -> !b``: rows become columns, element (i, j) of the result is (j, i) of the value.

    On a core it is shuffles of square blocks, as many rows as a register has lanes. Memory whose contiguous dimension
    is not that of a fragment's lanes is read as it lies and transposed in registers.
    """

    name = "mma.transpose"

    value = operand_def(FragmentType)
    result = result_def(FragmentType)

    traits = traits_def(NoMemoryEffect())

    assembly_format = "$value attr-dict `:` type($value) `->` type($result)"

    def __init__(self, value: SSAValue | Operation, result_type: FragmentType):
        super().__init__(operands=[value], result_types=[result_type])

    def verify_(self) -> None:
        """Rank 2, the sizes exchanged, the element type kept."""
        value, result = type_of(self.value, FragmentType), self.result.type
        shape = value.get_shape()
        if len(shape) != 2:
            raise VerifyException(f"transposes {value}; expects a fragment of two dimensions")
        if (shape[::-1], value.get_element_type()) != (result.get_shape(), result.get_element_type()):
            raise VerifyException(
                f"makes {result} of {value}; expects {shape[1]}x{shape[0]} elements of {value.get_element_type()}"
            )


@irdl_op_definition
class CopyTransposedOp(IRDLOperation):
    """``mma.copy_transposed %a to %b : !mma.slot<read ...> to !mma.slot<write ...>``: rows of %a are columns of %b.

    All warps of the program copy a part each, at once. For instructions that read their factors from scratch and only
    with one dimension contiguous, where memory has the other one so: a role stands between the one that copies and the
    one that multiplies. Who commits ``%b`` tells its readers.
    """

    name = "mma.copy_transposed"

    source = operand_def(SlotType)
    slot = operand_def(SlotType)

    assembly_format = "$source `to` $slot attr-dict `:` type($source) `to` type($slot)"

    def __init__(self, source: SSAValue | Operation, slot: SSAValue | Operation):
        super().__init__(operands=[source, slot])

    @property
    def source_type(self) -> SlotType:
        """The type of the slot that is read."""
        return type_of(self.source, SlotType)

    @property
    def slot_type(self) -> SlotType:
        """The type of the slot that is written."""
        return type_of(self.slot, SlotType)

    def verify_(self) -> None:
        """From a readable slot to a writable one, rank 2, the sizes exchanged, the element type kept."""
        source, slot = self.source_type, self.slot_type
        if (source.access.data, slot.access.data) != (READ, WRITE):
            raise VerifyException(
                f"copies a slot to {source.access.data} into one to {slot.access.data}; expects a slot that mma.wait "
                "gave, and one that mma.acquire gave"
            )
        shape = source.get_shape()
        if len(shape) != 2 or (shape[::-1], source.element_type) != (slot.get_shape(), slot.element_type):
            wanted = "x".join(map(str, shape[::-1]))
            raise VerifyException(f"copies {source} into {slot}; expects {wanted} elements of {source.element_type}")
