"""Reductions along dimensions, and the operators of whole rows built from them.

%s = nn.reduce add %x dims [1] keep_dims : tensor<?x64xf32> -> tensor<?x1xf32>
%p = nn.softmax %x dim 1 : tensor<?x64xf32>
%y = nn.layer_norm %x, %gamma, %beta epsilon 1.0e-05 : tensor<?x64xf32>, tensor<64xf32>, tensor<64xf32>
%z = nn.rms_norm %x, %gamma epsilon 1.0e-05 : tensor<?x64xf32>, tensor<64xf32>

Their order of summation is free (``fastmath<reassoc>``) unless ``fastmath<none>`` asks for one chain.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from math import inf
from typing import ClassVar, Self

from xdsl.dialects.arith import FastMathFlagsAttr
from xdsl.dialects.builtin import DenseArrayBase, FloatAttr, IntegerAttr, StringAttr, TensorType, UnitAttr, f64, i64
from xdsl.ir import Operation, SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, opt_prop_def, prop_def, result_def, traits_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.nn.shapes import (
    AnyTensor,
    merge_sizes,
    require_dim,
    require_float,
    require_number,
    require_rank,
    require_same_elements,
    tensor_of,
)
from crosstile.dialects.nn.syntax import REASSOC, NnOp, Parsed, decimal

KINDS = ("add", "max")
"""What ``nn.reduce`` folds with. An empty reduction gives 0, and minus infinity or the least integer."""


@irdl_op_definition
class ReduceOp(NnOp):
    """A fold of ``kind`` along ``dims``, which vanish, or stay with size 1 if ``keep_dims``."""

    name = "nn.reduce"
    DEFAULT_FASTMATH: ClassVar[FastMathFlagsAttr] = REASSOC

    operand = operand_def(TensorType)
    kind = prop_def(StringAttr)
    dims = prop_def(DenseArrayBase.constr(i64))
    keep_dims = opt_prop_def(UnitAttr)
    fastmath = prop_def(FastMathFlagsAttr, default_value=REASSOC)
    result = result_def(TensorType)

    traits = traits_def(Pure())

    def __init__(
        self,
        operand: SSAValue | Operation,
        kind: StringAttr | str,
        dims: Sequence[int],
        keep_dims: bool = False,
        fastmath: FastMathFlagsAttr = REASSOC,
    ):
        value = SSAValue.get(operand)
        super().__init__(
            operands=[value],
            result_types=[self.infer(value, dims, keep_dims)],
            properties={
                "kind": StringAttr(kind) if isinstance(kind, str) else kind,
                "dims": DenseArrayBase.from_list(i64, dims),
                "keep_dims": UnitAttr() if keep_dims else None,
                "fastmath": fastmath,
            },
        )

    @staticmethod
    def infer(operand: SSAValue, dims: Sequence[int], keep_dims: bool = False) -> AnyTensor:
        """The operand's type without ``dims``, or with size 1 there."""
        type_ = tensor_of(operand)
        require_number("an operand", type_)
        for dim in dims:
            require_dim("reduced dimension", dim, type_.get_num_dims())
        if list(dims) != sorted(set(dims)) or not dims:
            raise VerifyException(f"expects at least one dimension to reduce, in increasing order, got {list(dims)}")
        sizes = [
            1 if position in dims else size
            for position, size in enumerate(type_.get_shape())
            if keep_dims or position not in dims
        ]
        return TensorType(type_.element_type, sizes)

    @property
    def reduced_dims(self) -> tuple[int, ...]:
        """``dims`` as numbers."""
        return tuple(int(dim) for dim in self.dims.get_values())

    def inferred_type(self) -> AnyTensor:
        if self.kind.data not in KINDS:
            raise VerifyException(f"expects a reduction of kind {' or '.join(KINDS)}, got '{self.kind.data}'")
        return self.infer(self.operand, self.reduced_dims, self.keep_dims is not None)

    @classmethod
    def parse(cls, parser: Parser) -> ReduceOp:
        parsed = Parsed(parser, cls)
        kind = parser.parse_identifier(f" for the kind of reduction, {' or '.join(KINDS)}")
        operands = parsed.operands(1)
        dims = parsed.integers_after("dims")
        keep_dims = parsed.word("keep_dims")
        parsed.flags_and_attributes()
        (operand,) = parsed.types(operands)
        return parsed.finish(cls(operand, kind, dims, keep_dims, parsed.fastmath))

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {self.kind.data} ")
        printer.print_operand(self.operand)
        printer.print_string(f" dims {list(self.reduced_dims)}")
        if self.keep_dims is not None:
            printer.print_string(" keep_dims")
        self.print_end(printer, [self.operand])


@irdl_op_definition
class SoftmaxOp(NnOp):
    """``exp(x - max(x)) / sum(exp(x - max(x)))`` along ``dim``."""

    name = "nn.softmax"
    DEFAULT_FASTMATH: ClassVar[FastMathFlagsAttr] = REASSOC

    operand = operand_def(TensorType)
    dim = prop_def(IntegerAttr.constr(type=i64))
    fastmath = prop_def(FastMathFlagsAttr, default_value=REASSOC)
    result = result_def(TensorType)

    traits = traits_def(Pure())

    def __init__(self, operand: SSAValue | Operation, dim: int, fastmath: FastMathFlagsAttr = REASSOC):
        value = SSAValue.get(operand)
        super().__init__(
            operands=[value],
            result_types=[self.infer(value, dim)],
            properties={"dim": IntegerAttr(dim, i64), "fastmath": fastmath},
        )

    @staticmethod
    def infer(operand: SSAValue, dim: int) -> AnyTensor:
        """The operand's type."""
        type_ = tensor_of(operand)
        require_float("an operand", type_)
        require_dim("dim", dim, type_.get_num_dims())
        return type_

    def inferred_type(self) -> AnyTensor:
        return self.infer(self.operand, self.dim.value.data)

    @classmethod
    def parse(cls, parser: Parser) -> SoftmaxOp:
        parsed = Parsed(parser, cls)
        operands = parsed.operands(1)
        parser.parse_keyword("dim")
        dim = parser.parse_integer()
        parsed.flags_and_attributes()
        (operand,) = parsed.types(operands)
        return parsed.finish(cls(operand, dim, parsed.fastmath))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.operand)
        printer.print_string(f" dim {self.dim.value.data}")
        self.print_end(printer, [self.operand])


class NormOp(NnOp, ABC):
    """A normalisation along the last dimension, then scaled by vectors as long as that: ``operand, gamma, ...``."""

    DEFAULT_FASTMATH: ClassVar[FastMathFlagsAttr] = REASSOC

    epsilon = prop_def(FloatAttr.constr(type=f64))
    fastmath = prop_def(FastMathFlagsAttr, default_value=REASSOC)
    result = result_def(TensorType)

    traits = traits_def(Pure())

    VECTORS: ClassVar[tuple[str, ...]]
    """The names of the vectors."""

    def __init__(self, *operands: SSAValue | Operation, epsilon: float, fastmath: FastMathFlagsAttr = REASSOC):
        values = [SSAValue.get(value) for value in operands]
        super().__init__(
            operands=values,
            result_types=[self.infer(*values)],
            properties={"epsilon": FloatAttr(epsilon, f64), "fastmath": fastmath},
        )

    @classmethod
    def infer(cls, *operands: SSAValue) -> AnyTensor:
        """The operand's type; its last dimension is as long as the vectors."""
        types = [tensor_of(value) for value in operands]
        require_float("an operand", types[0])
        require_same_elements(types)
        if not types[0].get_num_dims():
            raise VerifyException(f"expects an operand with a last dimension to normalise along, got {types[0]}")
        for what, type_ in zip(cls.VECTORS, types[1:], strict=True):
            require_rank(what, type_, 1)
        last = merge_sizes("the last dimension", (type_.get_shape()[-1] for type_ in types))
        return TensorType(types[0].element_type, [*types[0].get_shape()[:-1], last])

    def inferred_type(self) -> AnyTensor:
        if not 0 <= self.epsilon.value.data < inf:
            raise VerifyException(f"expects a finite epsilon of at least 0, got {self.epsilon.value.data}")
        return self.infer(*self.operands)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        parsed = Parsed(parser, cls)
        operands = parsed.operands(1 + len(cls.VECTORS))
        parser.parse_keyword("epsilon")
        epsilon = float(parser.parse_number())
        parsed.flags_and_attributes()
        return parsed.finish(cls(*parsed.types(operands), epsilon=epsilon, fastmath=parsed.fastmath))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_list(self.operands, printer.print_operand)
        printer.print_string(f" epsilon {decimal(self.epsilon.value.data)}")
        self.print_end(printer, self.operands)


@irdl_op_definition
class LayerNormOp(NormOp):
    """``(x - mean) / sqrt(variance + epsilon) * gamma + beta`` along the last dimension.

    The variance is the mean of the squares of ``x - mean``. Source: Ba, Kiros and Hinton, arXiv 1607.06450.
    """

    name = "nn.layer_norm"
    VECTORS: ClassVar[tuple[str, ...]] = ("gamma", "beta")

    operand = operand_def(TensorType)
    gamma = operand_def(TensorType)
    beta = operand_def(TensorType)


@irdl_op_definition
class RmsNormOp(NormOp):
    """``x / sqrt(mean of x^2 + epsilon) * gamma`` along the last dimension.

    Source: Zhang and Sennrich, Root Mean Square Layer Normalization, arXiv 1910.07467.
    """

    name = "nn.rms_norm"
    VECTORS: ClassVar[tuple[str, ...]] = ("gamma",)

    operand = operand_def(TensorType)
    gamma = operand_def(TensorType)
