"""``nest.generic``: one perfect loop nest on tensors, with its scalar body; and what stands inside that body.

%c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
    ins(%a (m, k), %b (k, n) : tensor<?x64xf32>, tensor<64x10xf32>) -> (m, n) : tensor<?x10xf32> {
^bb0(%p : f32, %q : f32):
  %t = arith.mulf %p, %q : f32
  nest.yield %t : f32
}
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.arith import FastMathFlagsAttr
from xdsl.dialects.builtin import AffineMapAttr, ArrayAttr, DenseArrayBase, IndexType, StringAttr, TensorType, i64
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.ir.affine import AffineMap
from xdsl.irdl import (
    AnyAttr,
    IRDLOperation,
    irdl_op_definition,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import IsTerminator, Pure
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.nest.attributes import CombinerAttr, Iterator, IteratorAttr, IteratorKind
from crosstile.dialects.nest.index_maps import index_map_text, parse_index_map
from crosstile.dialects.precision import parse_precision, print_precision

AnyTensor = TensorType[Attribute]


@irdl_op_definition
class GenericOp(IRDLOperation):
    """A perfect nest over ``iterators``: at each point the body maps one element of every input to yielded values.

    ``indexing_maps`` (inputs first, then results) say which element of each tensor belongs to a point. Without a
    combiner the yielded values are the results' elements. With one, yielded values are folded along the reduction or
    scan iterators, in lexicographic order, in ``accumulator_type``, and rounded once to the results' element type.

    What a sum of products may lose is its ``precision`` (``dialects/precision.py``): a permission for lowerings.

    An input that is ``clip``ped is zero wherever its index lies outside of it; the index of any other must not.

    Inputs are indexed by arbitrary affine maps, results by distinct iterators (or the constant 0 where their size is
    1). An input whose element the body does not use gives sizes only.
    """

    name = "nest.generic"

    inputs = var_operand_def(TensorType)
    iterators = prop_def(ArrayAttr[IteratorAttr])
    indexing_maps = prop_def(ArrayAttr[AffineMapAttr])
    combiner = opt_prop_def(CombinerAttr)
    accumulator_type = opt_prop_def(AnyAttr())
    precision = opt_prop_def(StringAttr)
    fastmath = opt_prop_def(FastMathFlagsAttr)
    clipped = opt_prop_def(DenseArrayBase.constr(i64))
    body = region_def("single_block")
    results_ = var_result_def(TensorType)

    traits = traits_def(Pure())

    def __init__(
        self,
        inputs: Sequence[SSAValue],
        iterators: Sequence[IteratorAttr],
        indexing_maps: Sequence[AffineMap],
        body: Region | Block,
        result_types: Sequence[Attribute],
        combiner: CombinerAttr | str | None = None,
        accumulator_type: Attribute | None = None,
        fastmath: FastMathFlagsAttr | None = None,
        clipped: Sequence[int] = (),
        precision: StringAttr | None = None,
    ):
        super().__init__(
            operands=[inputs],
            result_types=[result_types],
            properties={
                "iterators": ArrayAttr(iterators),
                "indexing_maps": ArrayAttr([AffineMapAttr(map_) for map_ in indexing_maps]),
                "combiner": CombinerAttr(combiner) if isinstance(combiner, str) else combiner,
                "accumulator_type": accumulator_type,
                "precision": precision,
                "fastmath": fastmath,
                "clipped": DenseArrayBase.from_list(i64, clipped) if clipped else None,
            },
            regions=[Region(body) if isinstance(body, Block) else body],
        )

    # What the properties say, as Python values

    @property
    def loops(self) -> tuple[Iterator, ...]:
        """Names and kinds of the iterators."""
        return tuple(iterator.data for iterator in self.iterators)

    @property
    def iterator_names(self) -> tuple[str, ...]:
        """The iterators' names."""
        return tuple(iterator.data.name for iterator in self.iterators)

    def positions(self, *kinds: IteratorKind) -> tuple[int, ...]:
        """The positions of the iterators of ``kinds``."""
        return tuple(position for position, loop in enumerate(self.loops) if loop.kind in kinds)

    @property
    def clipped_inputs(self) -> tuple[int, ...]:
        """The positions of the inputs that are zero outside of their bounds."""
        return () if self.clipped is None else tuple(int(position) for position in self.clipped.get_values())

    @property
    def input_maps(self) -> tuple[AffineMap, ...]:
        """The index maps of the inputs."""
        return tuple(map_.data for map_ in self.indexing_maps.data[: len(self.inputs)])

    @property
    def result_maps(self) -> tuple[AffineMap, ...]:
        """The index maps of the results."""
        return tuple(map_.data for map_ in self.indexing_maps.data[len(self.inputs) :])

    @property
    def yield_op(self) -> YieldOp:
        """The terminator of the body."""
        terminator = self.body.block.last_op
        assert isinstance(terminator, YieldOp)
        return terminator

    def verify_(self) -> None:
        """See ``nest.verification``, which holds the rules."""
        from crosstile.dialects.nest.verification import verify_generic

        verify_generic(self)

    # Text

    @classmethod
    def parse(cls, parser: Parser) -> GenericOp:
        """Parse the custom form of the module docstring."""
        iterators = parser.parse_comma_separated_list(
            parser.Delimiter.SQUARE, lambda: IteratorAttr.parse_body(parser), " for the iterators"
        )
        names = [iterator.data.name for iterator in iterators]
        combiner = CombinerAttr(CombinerAttr.parse_parameter(parser)) if _keyword(parser, "combiner") else None
        accumulator = parser.parse_type() if _keyword(parser, "accumulate") else None
        precision = parse_precision(parser)
        fastmath = (
            FastMathFlagsAttr(FastMathFlagsAttr.parse_parameter(parser)) if _keyword(parser, "fastmath") else None
        )

        def parse_input():
            return parser.parse_unresolved_operand(), parse_index_map(parser, names), _keyword(parser, "clip")

        def parse_result() -> tuple[AffineMap, Attribute]:
            map_ = parse_index_map(parser, names)
            parser.parse_punctuation(":", " between a result's indices and its type")
            return map_, parser.parse_type()

        operands: Sequence[SSAValue] = ()
        input_maps: list[AffineMap] = []
        clipped: list[int] = []
        if _keyword(parser, "ins"):
            with parser.in_parens():
                written = parser.parse_comma_separated_list(parser.Delimiter.NONE, parse_input)
                parser.parse_punctuation(":", " between inputs and their types")
                position = parser.pos
                types = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_type)
            operands = parser.resolve_operands([operand for operand, _, _ in written], types, position)
            input_maps = [map_ for _, map_, _ in written]
            clipped = [position for position, (_, _, clip) in enumerate(written) if clip]
        parser.parse_punctuation("->", " before the indices and types of the results")
        results = parser.parse_comma_separated_list(parser.Delimiter.NONE, parse_result)
        attributes = parser.parse_optional_attr_dict_with_keyword()
        op = cls(
            operands,
            iterators,
            [*input_maps, *(map_ for map_, _ in results)],
            parser.parse_region(),
            [type_ for _, type_ in results],
            combiner,
            accumulator,
            fastmath,
            clipped,
            precision,
        )
        if attributes is not None:
            op.attributes |= attributes.data
        return op

    def print(self, printer: Printer) -> None:
        """Print the custom form of the module docstring."""
        names = self.iterator_names
        printer.print_string(f" [{', '.join(map(str, self.loops))}]")
        if self.combiner is not None:
            printer.print_string(" combiner")
            self.combiner.print_parameter(printer)
        if self.accumulator_type is not None:
            printer.print_string(" accumulate ")
            printer.print_attribute(self.accumulator_type)
        print_precision(printer, self.precision)
        if self.fastmath is not None:
            printer.print_string(" fastmath")
            self.fastmath.print_parameter(printer)
        if self.inputs:
            printer.print_string(" ins(")
            for position, (value, map_) in enumerate(zip(self.inputs, self.input_maps, strict=True)):
                printer.print_string(", " if position else "")
                printer.print_operand(value)
                printer.print_string(f" {index_map_text(map_, names)}")
                printer.print_string(" clip" if position in self.clipped_inputs else "")
            printer.print_string(" : ")
            printer.print_list(self.inputs.types, printer.print_attribute)
            printer.print_string(")")
        printer.print_string(" -> ")
        for position, (type_, map_) in enumerate(zip(self.result_types, self.result_maps, strict=True)):
            printer.print_string(", " if position else "")
            printer.print_string(f"{index_map_text(map_, names)} : ")
            printer.print_attribute(type_)
        if self.attributes:
            printer.print_op_attributes(self.attributes, print_keyword=True)
        printer.print_string(" ")
        printer.print_region(self.body, print_entry_block_args=bool(self.inputs))


def _keyword(parser: Parser, keyword: str) -> bool:
    return parser.parse_optional_keyword(keyword) is not None


@irdl_op_definition
class YieldOp(IRDLOperation):
    """The end of a generic's body (scalars) or of a kernel (tensors): ``nest.yield %t : f32``."""

    name = "nest.yield"

    arguments = var_operand_def()

    traits = traits_def(IsTerminator(), Pure())
    assembly_format = "attr-dict ($arguments^ `:` type($arguments))?"

    def __init__(self, *arguments: SSAValue | Operation):
        super().__init__(operands=[arguments])


@irdl_op_definition
class IndexOp(IRDLOperation):
    """The step an iterator of the enclosing generic is at: ``%i = nest.index k``, of type index."""

    name = "nest.index"

    iterator = prop_def(StringAttr)
    result = result_def(IndexType)

    traits = traits_def(Pure())

    def __init__(self, iterator: str | StringAttr):
        name = StringAttr(iterator) if isinstance(iterator, str) else iterator
        super().__init__(properties={"iterator": name}, result_types=[IndexType()])

    @classmethod
    def parse(cls, parser: Parser) -> IndexOp:
        """Parse the iterator's name."""
        op = cls(parser.parse_identifier(" for the name of an iterator"))
        op.attributes |= parser.parse_optional_attr_dict()
        return op

    def print(self, printer: Printer) -> None:
        """Print the iterator's name."""
        printer.print_string(f" {self.iterator.data}")
        printer.print_op_attributes(self.attributes)

    @property
    def position(self) -> int:
        """The position of the iterator in the enclosing generic."""
        parent = self.parent_op()
        assert isinstance(parent, GenericOp)
        return parent.iterator_names.index(self.iterator.data)

    def verify_(self) -> None:
        """The enclosing generic has the iterator."""
        parent = self.parent_op()
        if not isinstance(parent, GenericOp):
            raise VerifyException("expects to stand in the body of a nest.generic")
        if self.iterator.data not in parent.iterator_names:
            raise VerifyException(
                f"no iterator is called '{self.iterator.data}': expects one of {', '.join(parent.iterator_names)}"
            )
