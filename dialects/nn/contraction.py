"""Sums of products: matrix products and the general contraction that they are cases of.

%c = nn.matmul %a, %b {transpose_b} accumulate f32 : tensor<?x64xf32>, tensor<10x64xf32> -> tensor<?x10xf32>
%s = nn.batch_matmul %q, %k {transpose_b} accumulate f32 : tensor<8x?x64xf32>, tensor<8x?x64xf32> -> tensor<8x?x?xf32>
%c = nn.contract [m, n, k] %a (m, k), %b (n, k) -> (m, n) accumulate f32
    : tensor<?x64xf32>, tensor<10x64xf32> -> tensor<?x10xf32>
%q = nn.matmul %u, %s {unsigned_a} accumulate i32 : tensor<?x64xi8>, tensor<64x10xi8> -> tensor<?x10xi32>
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

from xdsl.dialects.arith import FastMathFlagsAttr
from xdsl.dialects.builtin import AffineMapAttr, ArrayAttr, StringAttr, TensorType, UnitAttr, f32, i8, i16, i32, i64
from xdsl.ir import Attribute, Operation, SSAValue, TypeAttribute
from xdsl.ir.affine import AffineDimExpr, AffineMap
from xdsl.irdl import base, irdl_op_definition, operand_def, opt_prop_def, prop_def, result_def, traits_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.nn.shapes import (
    AnyTensor,
    float_width,
    is_float,
    is_float8,
    merge_sizes,
    require_rank,
    require_same_elements,
    tensor_of,
)
from crosstile.dialects.nn.syntax import NO_FLAGS, NnOp, Parsed
from crosstile.dialects.precision import print_precision, verify_precision

INTEGER_FACTORS = (i8, i16, i32)
"""The integers that a contraction multiplies, signed unless it says otherwise."""


def result_element_type(element: Attribute, accumulator: Attribute, result: Attribute | None) -> Attribute:
    """The element type of a contraction of ``element`` in ``accumulator``, ``result`` if that is legal.

    A sum of integers is what its accumulator holds; one of floats may be rounded to the operands' type.
    """
    if element in INTEGER_FACTORS:
        if accumulator not in (i32, i64):
            raise VerifyException(
                f"expects an accumulator type of i32 or i64, as wide as the operands' {element}, got {accumulator}"
            )
        if result not in (None, accumulator):
            raise VerifyException(f"expects a result of the accumulator type {accumulator}, got {result}")
        return accumulator
    if is_float8(element):
        if accumulator != f32 or result not in (None, f32):
            raise VerifyException(
                f"expects products of {element} to be summed in f32, with a result of f32, got {accumulator} and "
                f"{result or f32}"
            )
        return f32
    if not is_float(accumulator) or float_width(accumulator) < float_width(element):
        raise VerifyException(
            f"expects an accumulator type at least as wide as the operands' {element}, got {accumulator}"
        )
    if result is None:
        return element
    if result not in (element, accumulator):
        raise VerifyException(
            f"expects a result of the operands' element type {element} or the accumulator type {accumulator}, "
            f"got {result}"
        )
    return result


def require_factor(what: str, type_: AnyTensor) -> None:
    """Raise unless elements of ``type_`` can be multiplied and summed: floats, or integers of some bytes."""
    element = type_.element_type
    if not is_float(element) and not is_float8(element) and element not in INTEGER_FACTORS:
        raise VerifyException(
            f"expects {what} of f8E4M3FN, f8E5M2, f16, bf16, f32, f64, i8, i16 or i32 elements, got {type_}"
        )


def common_element(types: Sequence[AnyTensor]) -> Attribute:
    """The element type of both factors; of 8-bit floats, which may be of two types, the left one's. Else raises."""
    if all(is_float8(type_.element_type) for type_ in types):
        return types[0].element_type
    return require_same_elements(types)


def verify_signs(element: Attribute, *unsigned: UnitAttr | None) -> None:
    """Raise if floats are said to have no sign."""
    if element not in INTEGER_FACTORS and any(mark is not None for mark in unsigned):
        raise VerifyException(f"unsigned_a and unsigned_b are for integers; the operands are of {element}")


class MatrixProductOp(NnOp, ABC):
    """Products of the matrices in the last two dimensions of both operands, either of them read transposed.

    Dimensions before those are batches: one product for each, of equal sizes in both operands.
    """

    lhs = operand_def(TensorType)
    rhs = operand_def(TensorType)
    transpose_a = opt_prop_def(UnitAttr)
    transpose_b = opt_prop_def(UnitAttr)
    unsigned_a = opt_prop_def(UnitAttr)
    unsigned_b = opt_prop_def(UnitAttr)
    accumulator_type = prop_def(base(TypeAttribute))
    precision = opt_prop_def(StringAttr)
    fastmath = prop_def(FastMathFlagsAttr, default_value=NO_FLAGS)
    result = result_def(TensorType)

    traits = traits_def(Pure())

    def __init__(
        self,
        lhs: SSAValue | Operation,
        rhs: SSAValue | Operation,
        accumulator_type: TypeAttribute,
        transpose_a: bool = False,
        transpose_b: bool = False,
        fastmath: FastMathFlagsAttr = NO_FLAGS,
        result_element: Attribute | None = None,
        unsigned: tuple[bool, bool] = (False, False),
        precision: StringAttr | None = None,
    ):
        values = SSAValue.get(lhs), SSAValue.get(rhs)
        super().__init__(
            operands=values,
            result_types=[self.infer(*values, accumulator_type, transpose_a, transpose_b, result_element)],
            properties={
                "transpose_a": UnitAttr() if transpose_a else None,
                "transpose_b": UnitAttr() if transpose_b else None,
                "unsigned_a": UnitAttr() if unsigned[0] else None,
                "unsigned_b": UnitAttr() if unsigned[1] else None,
                "accumulator_type": accumulator_type,
                "precision": precision,
                "fastmath": fastmath,
            },
        )

    @classmethod
    @abstractmethod
    def check_ranks(cls, lhs: AnyTensor, rhs: AnyTensor) -> None:
        """Raise unless operands of these types are of legal ranks."""

    @classmethod
    def infer(
        cls,
        lhs: SSAValue,
        rhs: SSAValue,
        accumulator_type: Attribute,
        transpose_a: bool = False,
        transpose_b: bool = False,
        result_element: Attribute | None = None,
    ) -> AnyTensor:
        """``[batches x] M x N`` of ``result_element``, or of the operands' element type."""
        types = [tensor_of(lhs), tensor_of(rhs)]
        for type_ in types:
            require_factor("matrices", type_)
        cls.check_ranks(*types)
        element = result_element_type(common_element(types), accumulator_type, result_element)
        shapes = [type_.get_shape() for type_ in types]
        m, lhs_k = reversed(shapes[0][-2:]) if transpose_a else shapes[0][-2:]
        rhs_k, n = reversed(shapes[1][-2:]) if transpose_b else shapes[1][-2:]
        merge_sizes("the summed dimension (K)", (lhs_k, rhs_k))
        batches = zip(shapes[0][:-2], shapes[1][:-2], strict=True)
        sizes = [merge_sizes(f"batch dimension {position}", pair) for position, pair in enumerate(batches)]
        return TensorType(element, [*sizes, m, n])

    def inferred_type(self) -> AnyTensor:
        elements = [tensor_of(factor).element_type for factor in (self.lhs, self.rhs)]
        verify_signs(elements[0], self.unsigned_a, self.unsigned_b)
        verify_precision(self.precision, elements, self.accumulator_type)
        return self.infer(
            self.lhs,
            self.rhs,
            self.accumulator_type,
            self.transpose_a is not None,
            self.transpose_b is not None,
            tensor_of(self.result).element_type,
        )

    @property
    def indexing_maps(self) -> tuple[AffineMap, AffineMap, AffineMap]:
        """Operands and result as maps over the iterators of the batches, then m, n, k."""
        count = tensor_of(self.result).get_num_dims() + 1
        *batches, m, n, k = (AffineDimExpr(position) for position in range(count))
        lhs = (k, m) if self.transpose_a is not None else (m, k)
        rhs = (n, k) if self.transpose_b is not None else (k, n)
        along = ((*batches, *matrix) for matrix in (lhs, rhs, (m, n)))
        lhs_map, rhs_map, result_map = (AffineMap(count, 0, iterators) for iterators in along)
        return lhs_map, rhs_map, result_map

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        parsed = Parsed(parser, cls)
        operands = parsed.operands(2)
        parsed.attributes = parser.parse_optional_attr_dict()
        parser.parse_keyword("accumulate")
        accumulator = parse_accumulator_type(parser)
        parsed.flags_and_attributes()
        unsigned_a, unsigned_b = (parsed.take(name) is not None for name in ("unsigned_a", "unsigned_b"))
        transpose_a, transpose_b = (parsed.take(name) is not None for name in ("transpose_a", "transpose_b"))
        lhs, rhs = parsed.types(operands)
        result = None if parsed.result is None else parsed.result.element_type
        signs = unsigned_a, unsigned_b
        return parsed.finish(
            cls(lhs, rhs, accumulator, transpose_a, transpose_b, parsed.fastmath, result, signs, parsed.precision)
        )

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_list(self.operands, printer.print_operand)
        marks = ("transpose_a", "transpose_b", "unsigned_a", "unsigned_b")
        printer.print_op_attributes({name: UnitAttr() for name in marks if name in self.properties})
        printer.print_string(" accumulate ")
        printer.print_attribute(self.accumulator_type)
        print_precision(printer, self.precision)
        self.print_end(printer, self.operands)


@irdl_op_definition
class MatmulOp(MatrixProductOp):
    """The product of two matrices, either of them read transposed.

    Without ``fastmath<reassoc>`` each element is one chain: k = 0, 1, 2, ... in the accumulator type, rounded once to
    the result's element type, which is the operands' unless the result type says the accumulator's. K = 0 gives 0.
    Integers are signed, or with ``unsigned_a``, ``unsigned_b`` are not, and their sums wrap in the accumulator type.
    """

    name = "nn.matmul"

    @classmethod
    def check_ranks(cls, lhs: AnyTensor, rhs: AnyTensor) -> None:
        for type_ in (lhs, rhs):
            require_rank("matrices", type_, 2)


@irdl_op_definition
class BatchMatmulOp(MatrixProductOp):
    """The products of matrices in the last two dimensions of tensors with the same batch dimensions before those.

    Each product is as ``nn.matmul`` says. Batch dimensions do not broadcast; ``nn.broadcast`` repeats them.
    """

    name = "nn.batch_matmul"

    @classmethod
    def check_ranks(cls, lhs: AnyTensor, rhs: AnyTensor) -> None:
        ranks = lhs.get_num_dims(), rhs.get_num_dims()
        if ranks[0] != ranks[1] or ranks[0] < 3:
            raise VerifyException(
                f"expects operands of one rank of at least 3, batches before the two dimensions of matrices, "
                f"got {lhs} and {rhs}"
            )


def parse_float_type(parser: Parser) -> TypeAttribute:
    """Parse the type of an accumulator of floats."""
    position = parser.pos
    type_ = parser.parse_type()
    if not is_float(type_):
        parser.raise_error(f"expected the accumulator type f16, bf16, f32 or f64, found {type_}", position, parser.pos)
    return type_


def parse_accumulator_type(parser: Parser) -> TypeAttribute:
    """Parse the type of an accumulator."""
    position = parser.pos
    type_ = parser.parse_type()
    if not is_float(type_) and type_ not in (i32, i64):
        parser.raise_error(
            f"expected the accumulator type f16, bf16, f32, f64, i32 or i64, found {type_}", position, parser.pos
        )
    return type_


@irdl_op_definition
class ContractOp(NnOp):
    """The sum over every iterator that the result does not have, of products of an element of each operand.

    ``indexing_maps`` (lhs, rhs, result) are lists of distinct iterators. Iterators of both operands and the result are
    batch dimensions; one that the result lacks must be in both operands. The order of summation is lexicographic in
    the order of the iterators, one chain per element unless ``fastmath<reassoc>``.
    """

    name = "nn.contract"

    lhs = operand_def(TensorType)
    rhs = operand_def(TensorType)
    indexing_maps = prop_def(ArrayAttr[AffineMapAttr])
    unsigned_a = opt_prop_def(UnitAttr)
    unsigned_b = opt_prop_def(UnitAttr)
    accumulator_type = prop_def(base(TypeAttribute))
    precision = opt_prop_def(StringAttr)
    fastmath = prop_def(FastMathFlagsAttr, default_value=NO_FLAGS)
    result = result_def(TensorType)

    traits = traits_def(Pure())

    def __init__(
        self,
        lhs: SSAValue | Operation,
        rhs: SSAValue | Operation,
        indexing_maps: Sequence[AffineMap],
        accumulator_type: TypeAttribute,
        fastmath: FastMathFlagsAttr = NO_FLAGS,
        result_element: Attribute | None = None,
        unsigned: tuple[bool, bool] = (False, False),
        precision: StringAttr | None = None,
    ):
        values = SSAValue.get(lhs), SSAValue.get(rhs)
        super().__init__(
            operands=values,
            result_types=[self.infer(*values, indexing_maps, accumulator_type, result_element)],
            properties={
                "unsigned_a": UnitAttr() if unsigned[0] else None,
                "unsigned_b": UnitAttr() if unsigned[1] else None,
                "indexing_maps": ArrayAttr([AffineMapAttr(map_) for map_ in indexing_maps]),
                "accumulator_type": accumulator_type,
                "precision": precision,
                "fastmath": fastmath,
            },
        )

    @staticmethod
    def infer(
        lhs: SSAValue,
        rhs: SSAValue,
        indexing_maps: Sequence[AffineMap],
        accumulator_type: Attribute,
        result_element: Attribute | None = None,
    ) -> AnyTensor:
        """The sizes of the result's iterators, with ``result_element`` or the operands' element type."""
        types = [tensor_of(lhs), tensor_of(rhs)]
        for type_ in types:
            require_factor("operands", type_)
        element = result_element_type(common_element(types), accumulator_type, result_element)
        positions = positions_of(indexing_maps)
        sizes: dict[int, list[int]] = {}
        for what, type_, iterators in zip(("the left operand", "the right operand"), types, positions, strict=False):
            require_rank(what, type_, len(iterators))
            for size, iterator in zip(type_.get_shape(), iterators, strict=True):
                sizes.setdefault(iterator, []).append(size)
        names = _iterator_names(positions, indexing_maps[0].num_dims)
        merged = {iterator: merge_sizes(f"iterator '{names[iterator]}'", found) for iterator, found in sizes.items()}
        return TensorType(element, [merged[iterator] for iterator in positions[2]])

    def inferred_type(self) -> AnyTensor:
        elements = [tensor_of(factor).element_type for factor in (self.lhs, self.rhs)]
        verify_signs(elements[0], self.unsigned_a, self.unsigned_b)
        verify_precision(self.precision, elements, self.accumulator_type)
        return self.infer(self.lhs, self.rhs, self.maps, self.accumulator_type, tensor_of(self.result).element_type)

    @property
    def maps(self) -> tuple[AffineMap, ...]:
        """The index maps of the left operand, the right operand and the result."""
        return tuple(map_.data for map_ in self.indexing_maps)

    @property
    def positions(self) -> list[tuple[int, ...]]:
        """The iterators of the left operand, the right operand and the result, by number."""
        return positions_of(self.maps)

    @property
    def iterator_names(self) -> tuple[str, ...]:
        """A name for each iterator by its role: batch ``b``, rows ``m``, columns ``n``, summed ``k``."""
        return _iterator_names(self.positions, self.maps[0].num_dims)

    @classmethod
    def parse(cls, parser: Parser) -> ContractOp:
        parsed = Parsed(parser, cls)
        names = parser.parse_comma_separated_list(
            parser.Delimiter.SQUARE, lambda: parser.parse_identifier(" for the name of an iterator")
        )

        def parse_map() -> AffineMap:
            position = parser.pos
            found = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_identifier)
            for name in found:
                if name not in names:
                    parser.raise_error(
                        f"no iterator is called '{name}': expected one of {', '.join(names)}", position, parser.pos
                    )
            return AffineMap(len(names), 0, tuple(AffineDimExpr(names.index(name)) for name in found))

        lhs = parser.parse_unresolved_operand()
        maps = [parse_map()]
        parser.parse_punctuation(",")
        rhs = parser.parse_unresolved_operand()
        maps.append(parse_map())
        parser.parse_punctuation("->", " before the iterators of the result")
        maps.append(parse_map())
        parsed.attributes = parser.parse_optional_attr_dict()
        parser.parse_keyword("accumulate")
        accumulator = parse_accumulator_type(parser)
        parsed.flags_and_attributes()
        unsigned_a, unsigned_b = (parsed.take(name) is not None for name in ("unsigned_a", "unsigned_b"))
        values = parsed.types([lhs, rhs])
        result = None if parsed.result is None else parsed.result.element_type
        signs = unsigned_a, unsigned_b
        return parsed.finish(
            cls(values[0], values[1], maps, accumulator, parsed.fastmath, result, signs, parsed.precision)
        )

    def print(self, printer: Printer) -> None:
        names = self.iterator_names
        lists = [f"({', '.join(names[position] for position in positions)})" for positions in self.positions]
        printer.print_string(f" [{', '.join(names)}] ")
        printer.print_operand(self.lhs)
        printer.print_string(f" {lists[0]}, ")
        printer.print_operand(self.rhs)
        printer.print_string(f" {lists[1]} -> {lists[2]}")
        marks = ("unsigned_a", "unsigned_b")
        printer.print_op_attributes({name: UnitAttr() for name in marks if name in self.properties})
        printer.print_string(" accumulate ")
        printer.print_attribute(self.accumulator_type)
        print_precision(printer, self.precision)
        self.print_end(printer, self.operands)


def positions_of(maps: Sequence[AffineMap]) -> list[tuple[int, ...]]:
    """The iterators that each of the three maps (lhs, rhs, result) lists; raises unless they are a contraction's."""
    if len(maps) != 3:
        raise VerifyException(f"expects three indexing maps, of the operands and the result, got {len(maps)}")
    count = maps[0].num_dims
    result: list[tuple[int, ...]] = []
    for what, map_ in zip(("left operand", "right operand", "result"), maps, strict=True):
        iterators = tuple(part.position for part in map_.results if isinstance(part, AffineDimExpr))
        if map_.num_dims != count or map_.num_symbols or len(set(iterators)) != len(map_.results):
            raise VerifyException(f"expects distinct iterators of one list as indices of the {what}, got {map_}")
        result.append(iterators)
    lhs, rhs, out = map(set, result)
    for iterator in range(count):
        if iterator not in lhs and iterator not in rhs:
            raise VerifyException(f"iterator {iterator} indexes neither operand, so its size is not known")
        if iterator not in out and not (iterator in lhs and iterator in rhs):
            raise VerifyException(
                f"iterator {iterator} is summed, as the result lacks it, but indexes only one operand: "
                "nn.reduce sums along a dimension of one tensor"
            )
    return result


def _iterator_names(positions: Sequence[tuple[int, ...]], count: int) -> tuple[str, ...]:
    lhs, rhs, out = map(set, positions)
    roles = [
        "k" if iterator not in out else "b" if iterator in lhs and iterator in rhs else "m" if iterator in lhs else "n"
        for iterator in range(count)
    ]
    return tuple(
        role if roles.count(role) == 1 else f"{role}{roles[:iterator].count(role)}"
        for iterator, role in enumerate(roles)
    )
