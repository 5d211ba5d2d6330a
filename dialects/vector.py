"""The ``vector`` dialect of the hardware level: xDSL's operations, with what it lacks of upstream's.

That is ``vector.constant_mask`` and the alignment of ``vector.store``. The dialect is registered under ``vector`` in
place of xDSL's::

    %m = vector.constant_mask [3] : vector<8xi1>        lanes 0, 1 and 2 set
    vector.store %v, %a[%i] {alignment = 64 : i64, nontemporal = true} : memref<?xf32>, vector<16xf32>
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import vector
from xdsl.dialects.builtin import BoolAttr, DenseArrayBase, IndexType, IntegerAttr, MemRefType, VectorType, i1, i64
from xdsl.ir import Dialect, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_attr_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa


@irdl_op_definition
class ConstantMaskOp(IRDLOperation):
    """A mask whose leading ``mask_dim_sizes`` lanes of each dimension are set."""

    name = "vector.constant_mask"

    mask_dim_sizes = prop_def(DenseArrayBase.constr(i64))
    mask = result_def(VectorType)
    traits = traits_def(Pure())

    def __init__(self, mask_dim_sizes: Sequence[int], result_type: VectorType):
        sizes = DenseArrayBase.from_list(i64, mask_dim_sizes)
        super().__init__(result_types=[result_type], properties={"mask_dim_sizes": sizes})

    def verify_(self) -> None:
        type_ = self.mask.type
        sizes = self.mask_dim_sizes.get_values()
        if not isa(type_, VectorType) or type_.element_type != i1:
            raise VerifyException(f"'vector.constant_mask' makes a vector of i1, not {type_}")
        if len(sizes) != type_.get_num_dims():
            raise VerifyException(f"'vector.constant_mask' of {type_} takes a size per dimension, found {len(sizes)}")
        for size, bound in zip(sizes, type_.get_shape(), strict=True):
            if not 0 <= size <= bound:
                raise VerifyException(f"'vector.constant_mask' of {type_} cannot set {size} lanes of {bound}")

    def print(self, printer: Printer) -> None:
        printer.print_string(" [")
        printer.print_list(self.mask_dim_sizes.get_values(), lambda size: printer.print_string(str(size)))
        printer.print_string("]")
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        printer.print_attribute(self.mask.type)

    @classmethod
    def parse(cls, parser: Parser) -> ConstantMaskOp:
        sizes = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_integer)
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        position = parser.pos
        type_ = parser.parse_type()
        if not isa(type_, VectorType):
            parser.raise_error("expected a vector type", position)
        op = cls(sizes, type_)
        op.attributes |= attributes
        return op


@irdl_op_definition
class StoreOp(vector.StoreOp):
    """``vector.store`` that may promise its ``alignment`` in bytes, and be ``nontemporal``: past the caches."""

    vector = operand_def(VectorType)
    base = operand_def(MemRefType)
    indices = var_operand_def(IndexType)
    nontemporal = opt_prop_def(BoolAttr, default_value=BoolAttr.from_bool(False))
    alignment = opt_attr_def(IntegerAttr.constr(i64))

    assembly_format = None

    def __init__(self, value: SSAValue, base: SSAValue, indices: Sequence[SSAValue], streamed_at: int | None = None):
        """``streamed_at`` is the alignment of a store past the caches; None makes an ordinary store."""
        super().__init__(value, base, indices, None if streamed_at is None else BoolAttr.from_bool(True))
        if streamed_at is not None:
            self.attributes["alignment"] = IntegerAttr(streamed_at, i64)

    def verify_(self) -> None:
        super().verify_()
        alignment = 1 if self.alignment is None else self.alignment.value.data
        if alignment < 1 or alignment & (alignment - 1):
            raise VerifyException(f"'vector.store' is aligned to a power of two of bytes, not to {alignment}")


Vector = Dialect(
    "vector",
    [*(op for op in vector.Vector.operations if op is not vector.StoreOp), ConstantMaskOp, StoreOp],
    list(vector.Vector.attributes),
)
