"""The values of ``arith.constant``: one number of a scalar type, or the elements of a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.dialects.builtin import (
    AnyFloat,
    DenseIntOrFPElementsAttr,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    VectorType,
)
from xdsl.ir import Attribute
from xdsl.utils.hints import isa

from crosstile.ir.diagnostics import CrosstileError

Number = float | int


def scalar_attribute(value: Number, type_: Attribute) -> FloatAttr[AnyFloat] | IntegerAttr[IntegerType | IndexType]:
    """The value of a constant of a scalar type."""
    if isa(type_, AnyFloat):
        return FloatAttr(float(value), type_)
    if isa(type_, IntegerType | IndexType):
        return IntegerAttr(int(value), type_)
    raise CrosstileError(f"there are no constants of type {type_}")


def vector_attribute(values: Sequence[Number], type_: VectorType[Any]) -> DenseIntOrFPElementsAttr[Any]:
    """The elements of a constant vector; one number stands for all."""
    element: Attribute = type_.element_type
    if isinstance(element, AnyFloat):
        return DenseIntOrFPElementsAttr.from_list(type_, [float(value) for value in values])
    if isinstance(element, IntegerType | IndexType):
        return DenseIntOrFPElementsAttr.from_list(type_, [int(value) for value in values])
    raise CrosstileError(f"there are no constants of type {type_}")
