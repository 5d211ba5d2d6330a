"""Moving elements of fragments between registers: into another layout, or transposed.

    %p = mma.relayout %s : !s -> !lhs
    %t = mma.transpose %f : !mma.fragment<16x32xf32, ...> -> !mma.fragment<32x16xf32, ...>

No other operation does: arithmetic has its operands where its result is.
"""

from __future__ import annotations

from xdsl.ir import Operation, SSAValue
from xdsl.irdl import IRDLOperation, irdl_op_definition, operand_def, result_def, traits_def
from xdsl.traits import NoMemoryEffect
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.mma.types import FragmentType, type_of


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
