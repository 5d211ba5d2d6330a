"""Convolution of images: a contraction of a filter with the window of the image that it covers at every place.

%y = nn.conv2d %x, %w nchw strides [2, 2] padding [1, 1, 1, 1] accumulate f32
    : tensor<?x64x?x?xf32>, tensor<128x64x3x3xf32> -> tensor<?x128x?x?xf32>
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects.arith import FastMathFlagsAttr
from xdsl.dialects.builtin import DYNAMIC_INDEX, DenseArrayBase, IntegerAttr, IntegerType, StringAttr, TensorType, i64
from xdsl.ir import Attribute, Operation, SSAValue, TypeAttribute
from xdsl.irdl import base, irdl_op_definition, operand_def, opt_prop_def, prop_def, result_def, traits_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.nn.contraction import parse_float_type, result_element_type
from crosstile.dialects.nn.shapes import (
    AnyTensor,
    merge_sizes,
    require_float,
    require_rank,
    require_same_elements,
    size_text,
    tensor_of,
)
from crosstile.dialects.nn.syntax import NO_FLAGS, NnOp, Parsed
from crosstile.dialects.precision import print_precision, verify_precision


@dataclass(frozen=True)
class Layout:
    """Where the dimensions of image, filter and result are, by letter: ``o`` counts the channels of the result."""

    image: str
    filter: str
    result: str


LAYOUTS = {"nchw": Layout("nchw", "ocrs", "nohw"), "nhwc": Layout("nhwc", "rsco", "nhwo")}
"""The layouts by name; in both the dimensions of the image are those of the name."""


@dataclass(frozen=True)
class Axis2d:
    """One of the two dimensions of an image: how result place ``h`` and filter place ``r`` make an image place.

    That is ``stride * h + dilation * r - before``; outside of the image it is zero.
    """

    stride: int
    dilation: int
    before: int
    after: int

    def result_size(self, image: int, filter_: int) -> int:
        """The number of places where the filter fits into the padded image; negative if it does not at all."""
        return (image + self.slack(filter_)) // self.stride

    def slack(self, filter_: int) -> int:
        """What is added to the size of the image before it is divided by the stride."""
        return self.before + self.after - self.dilation * (filter_ - 1) - 1 + self.stride


@irdl_op_definition
class Conv2dOp(NnOp):
    """``y[n, o, h, w] = sum over r, s, c of x[n, c, stride h + dilation r - padding, ...] * w[o, c, r, s]``.

    ``padding`` (top, bottom, left, right) surrounds the image with zeros. With ``groups`` g, channels of image and
    result are divided into g equal parts, and each part of the result is a convolution of the same part of the image;
    the filter's channels are those of one part. The filter is ``[o, c, r, s]`` in layout nchw, ``[r, s, c, o]`` in
    nhwc; its places r and s are of static size. Each element is one chain in the order of the image in memory, as in
    ``nn.contract``: over c, r, s in layout nchw and over r, s, c in nhwc, which ``channels-last`` may make of nchw.
    """

    name = "nn.conv2d"

    image = operand_def(TensorType)
    filter = operand_def(TensorType)
    layout = prop_def(StringAttr)
    strides = prop_def(DenseArrayBase.constr(i64))
    padding = prop_def(DenseArrayBase.constr(i64))
    dilations = prop_def(DenseArrayBase.constr(i64))
    groups = prop_def(IntegerAttr.constr(type=i64))
    accumulator_type = prop_def(base(TypeAttribute))
    precision = opt_prop_def(StringAttr)
    fastmath = prop_def(FastMathFlagsAttr, default_value=NO_FLAGS)
    result = result_def(TensorType)

    traits = traits_def(Pure())

    def __init__(
        self,
        image: SSAValue | Operation,
        filter_: SSAValue | Operation,
        accumulator_type: TypeAttribute,
        layout: str = "nchw",
        strides: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0, 0, 0),
        dilations: Sequence[int] = (1, 1),
        groups: int = 1,
        fastmath: FastMathFlagsAttr = NO_FLAGS,
        result_element: Attribute | None = None,
        precision: StringAttr | None = None,
    ):
        values = SSAValue.get(image), SSAValue.get(filter_)
        sizes = self.infer(*values, accumulator_type, layout, strides, padding, dilations, groups, result_element)
        super().__init__(
            operands=values,
            result_types=[sizes],
            properties={
                "layout": StringAttr(layout),
                "strides": DenseArrayBase.from_list(i64, strides),
                "padding": DenseArrayBase.from_list(i64, padding),
                "dilations": DenseArrayBase.from_list(i64, dilations),
                "groups": IntegerAttr(groups, i64),
                "accumulator_type": accumulator_type,
                "precision": precision,
                "fastmath": fastmath,
            },
        )

    @staticmethod
    def infer(
        image: SSAValue,
        filter_: SSAValue,
        accumulator_type: Attribute,
        layout: str,
        strides: Sequence[int],
        padding: Sequence[int],
        dilations: Sequence[int],
        groups: int,
        result_element: Attribute | None = None,
    ) -> AnyTensor:
        """The type of the result; raises unless everything fits together."""
        types = [tensor_of(image), tensor_of(filter_)]
        for what, type_ in zip(("an image", "a filter"), types, strict=True):
            require_float(what, type_)
            require_rank(what, type_, 4)
        element = result_element_type(require_same_elements(types), accumulator_type, result_element)
        if layout not in LAYOUTS:
            raise VerifyException(f"expects the layout {' or '.join(LAYOUTS)}, got '{layout}'")
        letters = LAYOUTS[layout]
        x = dict(zip(letters.image, types[0].get_shape(), strict=True))
        f = dict(zip(letters.filter, types[1].get_shape(), strict=True))
        axes = axes_of(strides, padding, dilations)
        if groups < 1:
            raise VerifyException(f"expects at least one group, got {groups}")
        for what, size in (("the image's channels", x["c"]), ("the filter's output channels", f["o"])):
            if size != DYNAMIC_INDEX and size % groups:
                raise VerifyException(f"{what}, {size}, cannot be divided into {groups} groups")
        if groups > 1 and DYNAMIC_INDEX in (x["c"], f["o"]):
            raise VerifyException("expects static numbers of channels to be divided into groups")
        part = x["c"] if x["c"] == DYNAMIC_INDEX else x["c"] // groups
        merge_sizes("the dimension of channels (of one group)", (part, f["c"]))
        sizes = {"n": x["n"], "o": f["o"]}
        for name, place, axis in zip("hw", "rs", axes, strict=True):
            if f[place] < 1:
                raise VerifyException(f"expects a filter of static size of at least 1, got {size_text(f[place])}")
            size = x[name] if x[name] == DYNAMIC_INDEX else axis.result_size(x[name], f[place])
            if size < 0 and x[name] != DYNAMIC_INDEX:
                raise VerifyException(
                    f"a filter of {f[place]} with dilation {axis.dilation} does not fit into an image of {x[name]} "
                    f"with padding {axis.before} and {axis.after}"
                )
            sizes[name] = size
        return TensorType(element, [sizes[name] for name in letters.result])

    def inferred_type(self) -> AnyTensor:
        verify_precision(self.precision, [tensor_of(self.image).element_type], self.accumulator_type)
        return self.infer(
            self.image,
            self.filter,
            self.accumulator_type,
            self.layout.data,
            _integers(self.strides),
            _integers(self.padding),
            _integers(self.dilations),
            self.group_count,
            tensor_of(self.result).element_type,
        )

    @property
    def letters(self) -> Layout:
        """Where the dimensions are."""
        return LAYOUTS[self.layout.data]

    @property
    def axes(self) -> tuple[Axis2d, Axis2d]:
        """How the filter moves along the image's height and width."""
        return axes_of(_integers(self.strides), _integers(self.padding), _integers(self.dilations))

    @property
    def group_count(self) -> int:
        """``groups`` as a number."""
        return self.groups.value.data

    @classmethod
    def parse(cls, parser: Parser) -> Conv2dOp:
        parsed = Parsed(parser, cls)
        operands = parsed.operands(2)
        layout = parser.parse_identifier(f" for the layout, {' or '.join(LAYOUTS)}")
        strides = parsed.integers() if parsed.word("strides") else (1, 1)
        padding = parsed.integers() if parsed.word("padding") else (0, 0, 0, 0)
        dilations = parsed.integers() if parsed.word("dilations") else (1, 1)
        groups = parser.parse_integer() if parsed.word("groups") else 1
        parser.parse_keyword("accumulate")
        accumulator = parse_float_type(parser)
        parsed.flags_and_attributes()
        image, filter_ = parsed.types(operands)
        element = None if parsed.result is None else parsed.result.element_type
        flags = parsed.fastmath
        steps = strides, padding, dilations, groups
        return parsed.finish(cls(image, filter_, accumulator, layout, *steps, flags, element, parsed.precision))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_list(self.operands, printer.print_operand)
        printer.print_string(f" {self.layout.data}")
        for name, default in (("strides", (1, 1)), ("padding", (0, 0, 0, 0)), ("dilations", (1, 1))):
            if (values := _integers(getattr(self, name))) != default:
                printer.print_string(f" {name} {list(values)}")
        if self.group_count != 1:
            printer.print_string(f" groups {self.group_count}")
        printer.print_string(" accumulate ")
        printer.print_attribute(self.accumulator_type)
        print_precision(printer, self.precision)
        self.print_end(printer, self.operands)


def axes_of(strides: Sequence[int], padding: Sequence[int], dilations: Sequence[int]) -> tuple[Axis2d, Axis2d]:
    """The movement along height and width; raises unless the lists are of legal lengths and values."""
    for what, values, count, least in (
        ("strides", strides, 2, 1),
        ("padding", padding, 4, 0),
        ("dilations", dilations, 2, 1),
    ):
        if len(values) != count or min(values) < least:
            raise VerifyException(f"expects {count} {what} of at least {least}, got {list(values)}")
    height, width = zip(strides, dilations, padding[::2], padding[1::2], strict=True)
    return Axis2d(*height), Axis2d(*width)


def _integers(attribute: DenseArrayBase[IntegerType]) -> tuple[int, ...]:
    return tuple(int(value) for value in attribute.get_values())
