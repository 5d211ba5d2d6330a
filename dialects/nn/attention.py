"""Attention, and the mask that hides later positions from earlier ones.

%y = nn.attention %q, %k, %v causal scale 0.125 accumulate f32
    : tensor<?x8x?x64xf32>, tensor<?x2x?x64xf32>, tensor<?x2x?x64xf32>
%z = nn.attention %q, %k, %v bias %b accumulate f32
    : tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>, tensor<8x?x?xf32>
%s = nn.causal_mask %scores : tensor<?x8x?x?xf32>
"""

from __future__ import annotations

from math import isfinite
from typing import ClassVar

from xdsl.dialects.arith import FastMathFlagsAttr
from xdsl.dialects.builtin import DYNAMIC_INDEX, FloatAttr, TensorType, UnitAttr, f64
from xdsl.ir import Attribute, Operation, SSAValue, TypeAttribute
from xdsl.irdl import (
    base,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.nn.contraction import parse_float_type, result_element_type
from crosstile.dialects.nn.shapes import (
    AnyTensor,
    broadcast_shapes,
    merge_sizes,
    require_float,
    require_rank,
    require_same_elements,
    size_text,
    tensor_of,
)
from crosstile.dialects.nn.syntax import REASSOC, NnOp, Parsed, decimal


@irdl_op_definition
class CausalMaskOp(NnOp):
    """Minus infinity where a column lies after its row, in matrices that stand in the last two dimensions.

    The last row and the last column belong together: with M rows and N columns, element (m, n) stays as it is where
    ``n - N <= m - M``. So rows are the last M of N positions, as when a sequence grows and only new rows are computed.
    """

    name = "nn.causal_mask"

    operand = operand_def(TensorType)
    result = result_def(TensorType)

    traits = traits_def(Pure())

    def __init__(self, operand: SSAValue | Operation):
        value = SSAValue.get(operand)
        super().__init__(operands=[value], result_types=[self.infer(value)])

    @staticmethod
    def infer(operand: SSAValue) -> AnyTensor:
        """The operand's type."""
        type_ = tensor_of(operand)
        require_float("matrices", type_)
        if type_.get_num_dims() < 2:
            raise VerifyException(f"expects rows and columns to compare, so a rank of at least 2, got {type_}")
        return type_

    def inferred_type(self) -> AnyTensor:
        return self.infer(self.operand)

    @classmethod
    def parse(cls, parser: Parser) -> CausalMaskOp:
        parsed = Parsed(parser, cls)
        operands = parsed.operands(1)
        parsed.flags_and_attributes()
        (operand,) = parsed.types(operands)
        return parsed.finish(cls(operand))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.operand)
        self.print_end(printer, [self.operand])


@irdl_op_definition
class AttentionOp(NnOp):
    """``softmax(scale * query key^T + bias) value`` for every head of every sequence.

    ``query`` is [batch, heads, M, D], ``key`` [batch, key heads, N, D], ``value`` [batch, key heads, N, E], the result
    [batch, heads, M, E]. With fewer key heads than heads each key head serves as many consecutive heads. Without
    ``scale`` it is one over the root of D. ``bias`` broadcasts to [batch, heads, M, N]; minus infinity hides a key.
    ``causal`` hides what ``nn.causal_mask`` does. A query that sees no key gets zeros.

    Scores, their softmax and the sums are in the accumulator type; weights are rounded to the operands' type before
    they meet the values. Both products are chains as in ``nn.matmul``; ``fastmath<reassoc>``, the default, frees the
    order in which the exponentials of a row are added up, and lets a running maximum rescale what has been added up.
    Source: Vaswani et al., Attention Is All You Need, arXiv 1706.03762; grouped heads: Ainslie et al., 2305.13245.
    """

    name = "nn.attention"
    DEFAULT_FASTMATH: ClassVar[FastMathFlagsAttr] = REASSOC

    query = operand_def(TensorType)
    key = operand_def(TensorType)
    value = operand_def(TensorType)
    bias = opt_operand_def(TensorType)
    causal = opt_prop_def(UnitAttr)
    scale = opt_prop_def(FloatAttr.constr(type=f64))
    accumulator_type = prop_def(base(TypeAttribute))
    fastmath = prop_def(FastMathFlagsAttr, default_value=REASSOC)
    result = result_def(TensorType)

    traits = traits_def(Pure())

    def __init__(
        self,
        query: SSAValue | Operation,
        key: SSAValue | Operation,
        value: SSAValue | Operation,
        bias: SSAValue | Operation | None,
        accumulator_type: TypeAttribute,
        causal: bool = False,
        scale: float | None = None,
        fastmath: FastMathFlagsAttr = REASSOC,
    ):
        values = [SSAValue.get(operand) for operand in (query, key, value)]
        extra = None if bias is None else SSAValue.get(bias)
        super().__init__(
            operands=[*values, extra],
            result_types=[self.infer(values[0], values[1], values[2], extra, accumulator_type, scale)],
            properties={
                "causal": UnitAttr() if causal else None,
                "scale": None if scale is None else FloatAttr(scale, f64),
                "accumulator_type": accumulator_type,
                "fastmath": fastmath,
            },
        )

    @staticmethod
    def infer(
        query: SSAValue,
        key: SSAValue,
        value: SSAValue,
        bias: SSAValue | None,
        accumulator_type: Attribute,
        scale: float | None,
    ) -> AnyTensor:
        """[batch, heads, M, E] of the operands' element type."""
        types = [tensor_of(operand) for operand in (query, key, value)]
        for what, type_ in zip(("a query", "a key", "a value"), types, strict=True):
            require_float(what, type_)
            require_rank(what, type_, 4)
        extra = [] if bias is None else [tensor_of(bias)]
        element = require_same_elements([*types, *extra])
        result_element_type(element, accumulator_type, None)
        (b, heads, m, d), (key_b, key_heads, n, key_d), (value_b, value_heads, value_n, e) = (
            type_.get_shape() for type_ in types
        )
        batch = merge_sizes("the batch", (b, key_b, value_b))
        d = merge_sizes("the dimension of a head", (d, key_d))
        n = merge_sizes("the number of keys", (n, value_n))
        heads = _heads(heads, merge_sizes("the number of key heads", (key_heads, value_heads)))
        if scale is None and d == DYNAMIC_INDEX:
            raise VerifyException(
                "expects a scale, as one over the root of the dimension of a head is not known: it is '?'"
            )
        if scale is not None and not isfinite(scale):
            raise VerifyException(f"expects a finite scale, got {scale}")
        scores = TensorType(element, [batch, heads, m, n])
        if extra and broadcast_shapes([scores, *extra]) != scores.get_shape():
            raise VerifyException(f"expects a bias that broadcasts to the scores' {scores}, got {extra[0]}")
        return TensorType(element, [batch, heads, m, e])

    def inferred_type(self) -> AnyTensor:
        scale = None if self.scale is None else self.scale.value.data
        return self.infer(self.query, self.key, self.value, self.bias, self.accumulator_type, scale)

    @property
    def factor(self) -> float:
        """What scores are multiplied by."""
        if self.scale is not None:
            return self.scale.value.data
        size = merge_sizes("the dimension of a head", (tensor_of(self.query).get_shape()[3], self._key_shape[3]))
        return float(size) ** -0.5 if size else 1.0

    @property
    def _key_shape(self) -> tuple[int, ...]:
        return tensor_of(self.key).get_shape()

    @property
    def group(self) -> tuple[int, int] | None:
        """The number of key heads and how many heads each serves; None if there are as many key heads as heads."""
        heads = tensor_of(self.query).get_shape()[1]
        key_heads = merge_sizes("the number of key heads", (self._key_shape[1], tensor_of(self.value).get_shape()[1]))
        return None if DYNAMIC_INDEX in (heads, key_heads) or heads == key_heads else (key_heads, heads // key_heads)

    @classmethod
    def parse(cls, parser: Parser) -> AttentionOp:
        parsed = Parsed(parser, cls)
        operands = parsed.operands(3)
        if parsed.word("bias"):
            operands.append(parser.parse_unresolved_operand())
        causal = parsed.word("causal")
        scale = float(parser.parse_number(allow_boolean=False)) if parsed.word("scale") else None
        parser.parse_keyword("accumulate")
        accumulator = parse_float_type(parser)
        parsed.flags_and_attributes()
        query, key, value, *bias = parsed.types(operands)
        op = cls(query, key, value, bias[0] if bias else None, accumulator, causal, scale, parsed.fastmath)
        return parsed.finish(op)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_list([self.query, self.key, self.value], printer.print_operand)
        if self.bias is not None:
            printer.print_string(" bias ")
            printer.print_operand(self.bias)
        if self.causal is not None:
            printer.print_string(" causal")
        if self.scale is not None:
            printer.print_string(f" scale {decimal(self.scale.value.data)}")
        printer.print_string(" accumulate ")
        printer.print_attribute(self.accumulator_type)
        self.print_end(printer, self.operands)


def _heads(heads: int, key_heads: int) -> int:
    """The number of heads, given that of key heads; unknown numbers are equal ones."""
    if DYNAMIC_INDEX in (heads, key_heads):
        return max(heads, key_heads)
    if heads != key_heads and (not key_heads or heads % key_heads):
        raise VerifyException(
            f"expects as many key heads as heads or a divisor of that, {size_text(heads)}, got {size_text(key_heads)}"
        )
    return heads
