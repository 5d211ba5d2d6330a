"""The ``amx`` dialect of the hardware level: tile registers of x86 and the products of two of them.

Names and syntax are upstream's. A tile has up to 16 rows of up to 64 bytes; the right factor's rows are words of 32
bits that hold neighbours in k, 2 of bf16 or 4 of 8 bits, one word per column. ``stride`` is the distance of two rows
in memory, in elements; without it the rows are those of the memref's last two dimensions::

    %c = amx.tile_zero : !amx.tile<16x16xf32>
    %a = amx.tile_load %A[%at], %stride : memref<?xbf16> into !amx.tile<16x32xbf16>
    %b = amx.tile_load %B[%i, %j] {nontemporal} : memref<?x?xbf16> into !amx.tile<16x32xbf16>
    %d = amx.tile_mulf %a, %b, %c : !amx.tile<16x32xbf16>, !amx.tile<16x32xbf16>, !amx.tile<16x16xf32>
    amx.tile_store %C[%at], %d, %stride : memref<?xf32>, !amx.tile<16x16xf32>
    %n = amx.tile_muli %u zext, %s, %m : !amx.tile<16x64xi8>, !amx.tile<16x64xi8>, !amx.tile<16x16xi32>

``nontemporal`` is an attribute that upstream lets pass: the rows go by the first-level cache, which keeps what is
read again (TILELOADDT1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from xdsl.dialects.builtin import (
    ArrayAttr,
    ContainerType,
    FixedBitwidthType,
    IndexType,
    IntAttr,
    MemRefType,
    ShapedType,
    UnitAttr,
    bf16,
    f16,
    f32,
    i8,
    i32,
)
from xdsl.ir import Attribute, Dialect, ParametrizedAttribute, SSAValue, TypeAttribute
from xdsl.irdl import (
    AttrSizedOperandSegments,
    BaseAttr,
    IRDLOperation,
    VarConstraint,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.traits import MemoryReadEffect, MemoryWriteEffect, Pure
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

from crosstile.dialects.assembly import parse_static_shape, print_static_shape

ROWS = 16
ROW_BYTES = 64
"""The size of a tile register of palette 1."""
NONTEMPORAL = "nontemporal"


@irdl_attr_definition
class TileType(ParametrizedAttribute, TypeAttribute, ShapedType, ContainerType[Attribute]):
    """``!amx.tile<16x32xbf16>``: a tile register, or a part of one."""

    name = "amx.tile"

    shape: ArrayAttr[IntAttr]
    element_type: Attribute

    @classmethod
    def of(cls, shape: Sequence[int], element_type: Attribute) -> TileType:
        """The type of a tile."""
        return cls(ArrayAttr(map(IntAttr, shape)), element_type)

    def get_num_dims(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def get_shape(self) -> tuple[int, ...]:
        """Rows and elements of a row."""
        return tuple(size.data for size in self.shape)

    def get_element_type(self) -> Attribute:
        """The type of one element."""
        return self.element_type

    @property
    def row_bytes(self) -> int:
        """The bytes of a row."""
        assert isinstance(self.element_type, FixedBitwidthType)
        return self.shape.data[1].data * self.element_type.bitwidth // 8

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """Parse ``<16x32xbf16>``."""
        with parser.in_angle_brackets():
            return parse_static_shape(parser)

    def print_parameters(self, printer: Printer) -> None:
        """Print ``<16x32xbf16>``."""
        with printer.in_angle_brackets():
            print_static_shape(printer, self.get_shape(), self.element_type)

    def verify(self) -> None:
        """It fits a tile register, and its rows are whole words."""
        if self.element_type not in (f32, f16, bf16, i8, i32):
            raise VerifyException(f"a tile holds f32, f16, bf16, i8 or i32, not {self.element_type}")
        if len(self.shape) != 2:
            raise VerifyException(f"a tile has 2 dimensions, not {len(self.shape)}")
        if not 1 <= self.shape.data[0].data <= ROWS:
            raise VerifyException(f"a tile has 1 to {ROWS} rows, not {self.shape.data[0].data}")
        if not 4 <= self.row_bytes <= ROW_BYTES or self.row_bytes % 4:
            raise VerifyException(
                f"a row of a tile has 4 to {ROW_BYTES} bytes, a multiple of 4; {self.shape.data[1].data} of "
                f"{self.element_type} are {self.row_bytes}"
            )


@irdl_op_definition
class TileZeroOp(IRDLOperation):
    """A tile of zeros."""

    name = "amx.tile_zero"

    res = result_def(TileType)
    traits = traits_def(Pure())
    assembly_format = "attr-dict `:` type($res)"

    def __init__(self, type_: TileType):
        super().__init__(result_types=[type_])


@irdl_op_definition
class TileLoadOp(IRDLOperation):
    """The rows of a tile from memory."""

    name = "amx.tile_load"

    base = operand_def(MemRefType)
    indices = var_operand_def(IndexType())
    stride = opt_operand_def(IndexType())
    res = result_def(TileType)

    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    traits = traits_def(MemoryReadEffect())

    def __init__(
        self,
        base: SSAValue,
        indices: Sequence[SSAValue],
        type_: TileType,
        stride: SSAValue | None = None,
        nontemporal: bool = False,
    ):
        super().__init__(
            operands=[base, list(indices), [] if stride is None else [stride]],
            result_types=[type_],
            attributes={NONTEMPORAL: UnitAttr()} if nontemporal else {},
        )

    assembly_format = "$base `[` $indices `]` (`,` $stride^)? attr-dict `:` type($base) `into` type($res)"

    @property
    def nontemporal(self) -> bool:
        """Whether the first-level cache need not keep the rows."""
        return NONTEMPORAL in self.attributes

    def verify_(self) -> None:
        _verify_access(self.base, self.indices, self.stride, self.res.type)


@irdl_op_definition
class TileStoreOp(IRDLOperation):
    """The rows of a tile to memory."""

    name = "amx.tile_store"

    base = operand_def(MemRefType)
    indices = var_operand_def(IndexType())
    val = operand_def(TileType)
    stride = opt_operand_def(IndexType())

    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    traits = traits_def(MemoryWriteEffect())

    def __init__(self, base: SSAValue, indices: Sequence[SSAValue], value: SSAValue, stride: SSAValue | None = None):
        super().__init__(operands=[base, list(indices), value, [] if stride is None else [stride]])

    assembly_format = "$base `[` $indices `]` `,` $val (`,` $stride^)? attr-dict `:` type($base) `,` type($val)"

    def verify_(self) -> None:
        _verify_access(self.base, self.indices, self.stride, self.val.type)


@irdl_op_definition
class TileMulFOp(IRDLOperation):
    """``acc`` plus the product of two tiles of bf16; Intel's TDPBF16PS."""

    name = "amx.tile_mulf"

    ACC: ClassVar = VarConstraint("Acc", BaseAttr(TileType))
    lhs = operand_def(TileType)
    rhs = operand_def(TileType)
    acc = operand_def(ACC)
    res = result_def(ACC)
    traits = traits_def(Pure())

    assembly_format = "$lhs `,` $rhs `,` $acc attr-dict `:` type($lhs) `,` type($rhs) `,` type($acc)"

    def __init__(self, lhs: SSAValue, rhs: SSAValue, acc: SSAValue):
        super().__init__(operands=[lhs, rhs, acc], result_types=[acc.type])

    def verify_(self) -> None:
        _verify_product(self.lhs, self.rhs, self.acc, bf16, f32)


@irdl_op_definition
class TileMulIOp(IRDLOperation):
    """``acc`` plus the product of two tiles of bytes, each signed or (``zext``) not; Intel's TDPBSSD and its kin."""

    name = "amx.tile_muli"

    ACC: ClassVar = VarConstraint("Acc", BaseAttr(TileType))
    lhs = operand_def(TileType)
    rhs = operand_def(TileType)
    acc = operand_def(ACC)
    isZextLhs = opt_prop_def(UnitAttr)  # noqa: N815 - upstream's property name
    isZextRhs = opt_prop_def(UnitAttr)  # noqa: N815 - upstream's property name
    res = result_def(ACC)
    traits = traits_def(Pure())

    assembly_format = (
        "$lhs (`zext` $isZextLhs^)? `,` $rhs (`zext` $isZextRhs^)? `,` $acc attr-dict "
        "`:` type($lhs) `,` type($rhs) `,` type($acc)"
    )

    def __init__(self, lhs: SSAValue, rhs: SSAValue, acc: SSAValue, unsigned: tuple[bool, bool]):
        names = ("isZextLhs", "isZextRhs")
        super().__init__(
            operands=[lhs, rhs, acc],
            result_types=[acc.type],
            properties={name: UnitAttr() for name, given in zip(names, unsigned, strict=True) if given},
        )

    def verify_(self) -> None:
        _verify_product(self.lhs, self.rhs, self.acc, i8, i32)


def _verify_access(base: SSAValue, indices: Sequence[SSAValue], stride: SSAValue | None, tile: Attribute) -> None:
    assert isa(base.type, MemRefType) and isinstance(tile, TileType)
    rank = base.type.get_num_dims()
    if base.type.element_type != tile.element_type:
        raise VerifyException(f"memory of {base.type.element_type} holds no rows of {tile}")
    if len(indices) != rank:
        raise VerifyException(f"{base.type} takes {rank} indices, not {len(indices)}")
    if rank < (1 if stride is not None else 2):
        raise VerifyException(f"rows of {base.type} need a stride: it has {rank} dimensions, not 2 or more")


def _verify_product(lhs: SSAValue, rhs: SSAValue, acc: SSAValue, factor: Attribute, result: Attribute) -> None:
    """lhs [m, k] times rhs [k / group, n * group] plus acc [m, n]."""
    a, b, c = lhs.type, rhs.type, acc.type
    assert isinstance(a, TileType) and isinstance(b, TileType) and isinstance(c, TileType)
    if (a.element_type, b.element_type, c.element_type) != (factor, factor, result):
        raise VerifyException(
            f"multiplies {a.element_type} by {b.element_type} into {c.element_type}; expects two tiles of {factor} "
            f"and one of {result}"
        )
    assert isinstance(factor, FixedBitwidthType)
    group = 32 // factor.bitwidth
    (m, k), (n, columns) = a.get_shape(), c.get_shape()
    if m != n or k % group or b.get_shape() != (k // group, columns * group):
        raise VerifyException(
            f"tiles {a} and {b} do not multiply into {c}: expects lhs m x k, rhs k/{group} x {group}n in words of "
            f"{group} neighbours in k, accumulator m x n"
        )


Amx = Dialect("amx", [TileZeroOp, TileLoadOp, TileStoreOp, TileMulFOp, TileMulIOp], [TileType])
