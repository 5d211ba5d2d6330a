"""Operations that move or repeat elements without computing: transpose, reshape, broadcast.

%t = nn.transpose %x [1, 0] : tensor<?x64xf32> -> tensor<64x?xf32>
%r = nn.reshape %x : tensor<?x64xf32> -> tensor<?x8x8xf32>
%s = nn.reshape %v sizes [%n, %m] : tensor<?xf32> -> tensor<?x?xf32>
%b = nn.broadcast %v dims [1] sizes [%n] : tensor<64xf32> -> tensor<?x64xf32>
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from xdsl.dialects.builtin import DYNAMIC_INDEX, DenseArrayBase, IndexType, TensorType, i64
from xdsl.ir import Operation, SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, prop_def, result_def, traits_def, var_operand_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.nn.canonicalization import BroadcastPatterns, ReshapePatterns, TransposePatterns
from crosstile.dialects.nn.shapes import AnyTensor, require_dim, require_element, size_text, tensor_of
from crosstile.dialects.nn.syntax import NnOp, Parsed


@irdl_op_definition
class TransposeOp(NnOp):
    """Dimension ``permutation[i]`` of the operand becomes dimension ``i`` of the result."""

    name = "nn.transpose"

    operand = operand_def(TensorType)
    permutation = prop_def(DenseArrayBase.constr(i64))
    result = result_def(TensorType)

    traits = traits_def(Pure(), TransposePatterns())

    def __init__(self, operand: SSAValue | Operation, permutation: Sequence[int]):
        value = SSAValue.get(operand)
        super().__init__(
            operands=[value],
            result_types=[self.infer(value, permutation)],
            properties={"permutation": DenseArrayBase.from_list(i64, permutation)},
        )

    @staticmethod
    def infer(operand: SSAValue, permutation: Sequence[int]) -> AnyTensor:
        """The operand's type with its dimensions in the new order."""
        type_ = tensor_of(operand)
        require_element("an operand", type_)
        if sorted(permutation) != list(range(type_.get_num_dims())):
            raise VerifyException(
                f"expects a permutation of the dimensions {list(range(type_.get_num_dims()))}, got {list(permutation)}"
            )
        return TensorType(type_.element_type, [type_.get_shape()[dim] for dim in permutation])

    @property
    def order(self) -> tuple[int, ...]:
        """``permutation`` as numbers."""
        return tuple(int(dim) for dim in self.permutation.get_values())

    def inferred_type(self) -> AnyTensor:
        return self.infer(self.operand, self.order)

    @classmethod
    def parse(cls, parser: Parser) -> TransposeOp:
        parsed = Parsed(parser, cls)
        operands = parsed.operands(1)
        permutation = parsed.integers()
        parsed.flags_and_attributes()
        (operand,) = parsed.types(operands)
        return parsed.finish(cls(operand, permutation))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.operand)
        printer.print_string(f" {list(self.order)}")
        self.print_end(printer, [self.operand])


@irdl_op_definition
class ReshapeOp(NnOp):
    """The same elements in row-major order in another shape.

    One ``?`` of the result is what makes the numbers of elements equal; several need an index operand each, in order.
    """

    name = "nn.reshape"

    operand = operand_def(TensorType)
    sizes = var_operand_def(IndexType)
    result = result_def(TensorType)

    traits = traits_def(Pure(), ReshapePatterns())

    def __init__(self, operand: SSAValue | Operation, result_type: AnyTensor, sizes: Sequence[SSAValue] = ()):
        super().__init__(operands=[operand, sizes], result_types=[result_type])

    def inferred_type(self) -> AnyTensor:
        operand, result = tensor_of(self.operand), tensor_of(self.result)
        require_element("an operand", operand)
        dynamic = result.get_shape().count(DYNAMIC_INDEX)
        if len(self.sizes) != dynamic and (self.sizes or dynamic > 1):
            alternative = ", or none, which lets it be inferred" if dynamic == 1 else ""
            raise VerifyException(
                f"expects one size operand for each '?' of the result, {dynamic}{alternative}, got {len(self.sizes)}"
            )
        self._verify_count(operand, result)
        return TensorType(operand.element_type, result.get_shape())

    def _verify_count(self, operand: AnyTensor, result: AnyTensor) -> None:
        """As many elements on both sides, as far as the types tell."""
        known = [prod(size for size in type_.get_shape() if size != DYNAMIC_INDEX) for type_ in (operand, result)]
        if DYNAMIC_INDEX not in (*operand.get_shape(), *result.get_shape()) and known[0] != known[1]:
            raise VerifyException(
                f"expects as many elements in {result} as in {operand}, got {known[1]} and {known[0]}"
            )
        if not self.sizes and DYNAMIC_INDEX in result.get_shape():
            if known[1] == 0:
                raise VerifyException(f"the '?' of {result} cannot be inferred, as its other sizes hold no element")
            if DYNAMIC_INDEX not in operand.get_shape() and known[0] % known[1]:
                raise VerifyException(
                    f"the '?' of {result} cannot be inferred: {known[0]} elements are no multiple of {known[1]}"
                )

    @classmethod
    def parse(cls, parser: Parser) -> ReshapeOp:
        parsed = Parsed(parser, cls)
        operands = parsed.operands(1)
        position = parser.pos
        sizes = parsed.size_operands()
        parsed.flags_and_attributes()
        values = parser.resolve_operands(sizes, [IndexType()] * len(sizes), position)
        (operand,) = parsed.types(operands)
        op = cls(operand, parsed.explicit_result(), values)
        return parsed.finish(op)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.operand)
        print_sizes(printer, self.sizes)
        self.print_end(printer, [self.operand], always_result=True)


@irdl_op_definition
class BroadcastOp(NnOp):
    """The operand repeated: its dimension ``i`` is dimension ``dims[i]`` of the result, stretched if its size is 1.

    A ``?`` of the result that is not a ``?`` of the operand needs an index operand, in order.
    """

    name = "nn.broadcast"

    operand = operand_def(TensorType)
    sizes = var_operand_def(IndexType)
    dims = prop_def(DenseArrayBase.constr(i64))
    result = result_def(TensorType)

    traits = traits_def(Pure(), BroadcastPatterns())

    def __init__(
        self,
        operand: SSAValue | Operation,
        result_type: AnyTensor,
        dims: Sequence[int],
        sizes: Sequence[SSAValue] = (),
    ):
        super().__init__(
            operands=[operand, sizes],
            result_types=[result_type],
            properties={"dims": DenseArrayBase.from_list(i64, dims)},
        )

    @property
    def result_dims(self) -> tuple[int, ...]:
        """``dims`` as numbers."""
        return tuple(int(dim) for dim in self.dims.get_values())

    @property
    def sized_dims(self) -> tuple[int, ...]:
        """The dimensions of the result whose sizes are operands, in the order of those."""
        operand = tensor_of(self.operand).get_shape()
        kept = {dim for size, dim in zip(operand, self.result_dims, strict=True) if size != 1}
        shape = tensor_of(self.result).get_shape()
        return tuple(dim for dim, size in enumerate(shape) if size == DYNAMIC_INDEX and dim not in kept)

    def inferred_type(self) -> AnyTensor:
        operand, result = tensor_of(self.operand), tensor_of(self.result)
        require_element("an operand", operand)
        dims, shape = self.result_dims, result.get_shape()
        if len(dims) != operand.get_num_dims() or list(dims) != sorted(set(dims)):
            raise VerifyException(
                f"expects one result dimension for each of the operand's {operand.get_num_dims()}, "
                f"in increasing order, got {list(dims)}"
            )
        for position, (size, dim) in enumerate(zip(operand.get_shape(), dims, strict=True)):
            require_dim("result dimension", dim, len(shape))
            if size not in (1, shape[dim]):
                raise VerifyException(
                    f"dimension {position} of the operand has size {size_text(size)} and cannot become "
                    f"{size_text(shape[dim])}: only a static 1 is stretched"
                )
        if len(self.sizes) != len(self.sized_dims):
            raise VerifyException(
                f"expects one size operand for each '?' of the result that the operand does not have, "
                f"{len(self.sized_dims)}, got {len(self.sizes)}"
            )
        return TensorType(operand.element_type, shape)

    @classmethod
    def parse(cls, parser: Parser) -> BroadcastOp:
        parsed = Parsed(parser, cls)
        operands = parsed.operands(1)
        dims = parsed.integers_after("dims")
        position = parser.pos
        sizes = parsed.size_operands()
        parsed.flags_and_attributes()
        values = parser.resolve_operands(sizes, [IndexType()] * len(sizes), position)
        (operand,) = parsed.types(operands)
        op = cls(operand, parsed.explicit_result(), dims, values)
        return parsed.finish(op)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.operand)
        printer.print_string(f" dims {list(self.result_dims)}")
        print_sizes(printer, self.sizes)
        self.print_end(printer, [self.operand], always_result=True)


def print_sizes(printer: Printer, sizes: Sequence[SSAValue]) -> None:
    """Print `` sizes [%n, %m]``, or nothing."""
    if sizes:
        printer.print_string(" sizes [")
        printer.print_list(sizes, printer.print_operand)
        printer.print_string("]")
