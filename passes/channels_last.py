"""``channels-last``: convolutions of layout nchw that pay for it become ones of layout nhwc between transpositions.

Level: nn, for machines with vector registers.

    %y = nn.conv2d %x, %w nchw ... : tensor<?x64x56x56xbf16>, tensor<128x64x3x3xbf16>
    ==>
    %a = nn.transpose %x [0, 2, 3, 1]       %b = nn.transpose %w [2, 3, 1, 0]
    %c = nn.conv2d %a, %b nhwc ...
    %y = nn.transpose %c [0, 3, 1, 2]

Instructions that multiply words of several k take neighbours in memory, which are channels only if these come last; and
an image that is walked with a stride is then read in whole rows of channels, where lanes along its width would have to
be picked one by one. A transposition goes through memory once, at its speed. The sum of an element is over the filter's
places first and over channels then.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from xdsl.context import Context
from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from crosstile.dialects.nn.convolution import LAYOUTS, Conv2dOp
from crosstile.dialects.nn.reshaping import TransposeOp
from crosstile.dialects.nn.shapes import tensor_of
from crosstile.passes.schedules.register_tiles import bits

ENOUGH_PRODUCTS = 256
"""Products in an element of the result that are worth writing and reading it once more. Measured with stride 2: 576 are
a third faster between transpositions, 147 are not."""


def pays(op: Conv2dOp) -> bool:
    """Whether channels are better last: factors are narrower than the sums, or there is a stride and much to sum up."""
    if op.layout.data != "nchw" or op.group_count != 1:
        return False
    filter_ = tensor_of(op.filter)
    sizes = dict(zip(op.letters.filter, filter_.get_shape(), strict=True))
    if sizes["c"] in (DYNAMIC_INDEX, 0):
        return False
    if bits(filter_.element_type) < bits(op.accumulator_type):
        return True
    return op.axes[1].stride > 1 and prod(sizes[letter] for letter in "crs") >= ENOUGH_PRODUCTS


def _permutation(source: str, target: str) -> list[int]:
    return [source.index(letter) for letter in target]


def put_last(op: Conv2dOp) -> None:
    """Replace one convolution."""
    here, last = LAYOUTS["nchw"], LAYOUTS["nhwc"]
    image = TransposeOp(op.image, _permutation(here.image, last.image))
    filter_ = TransposeOp(op.filter, _permutation(here.filter, last.filter))
    strides, padding, dilations = (
        [int(value) for value in each.get_values()] for each in (op.strides, op.padding, op.dilations)
    )
    new = Conv2dOp(
        image,
        filter_,
        op.accumulator_type,
        "nhwc",
        strides,
        padding,
        dilations,
        fastmath=op.fastmath,
        result_element=tensor_of(op.result).element_type,
        precision=op.precision,
    )
    result = TransposeOp(new, _permutation(last.result, here.result))
    for each in (image, filter_, new, result):
        each.location = op.location
    name = op.result.name_hint
    Rewriter.replace_op(op, [image, filter_, new, result])
    result.result.name_hint = name


@dataclass(frozen=True)
class ChannelsLastPass(ModulePass):
    """Convolutions whose channels are better last, between transpositions."""

    name = "channels-last"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the convolutions of the module ``op`` in place."""
        for each in [each for each in op.walk() if isinstance(each, Conv2dOp)]:
            if pays(each):
                put_last(each)
