"""``channels-last``: convolutions of layout nchw that pay for it become ones of layout nhwc between transpositions.

Level: nn.

    %y = nn.conv2d %x, %w nchw ... : tensor<?x64x56x56xbf16>, tensor<128x64x3x3xbf16>
    ==>
    %a = nn.transpose %x [0, 2, 3, 1]       %b = nn.transpose %w [2, 3, 1, 0]
    %c = nn.conv2d %a, %b nhwc ...
    %y = nn.transpose %c [0, 3, 1, 2]

Instructions that multiply words of several k take neighbours in memory, which are channels only if these come last; and
an image that is walked with a stride is then read in whole rows of channels, where lanes along its width would have to
be picked one by one. A transposition goes through memory once, at its speed. The sum of an element is over the filter's
places first and over channels then.

On a machine whose programs are blocks of warps a step of k is channels where these come last, else columns of the
filter, and short ones are filled up with zeros; and only there is a block a rectangle of the image. So channels are put
last wherever steps are then less than half as many, which groups of several channels are too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, prod

from xdsl.context import Context
from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from crosstile.dialects.nn.convolution import LAYOUTS, Conv2dOp
from crosstile.dialects.nn.reshaping import TransposeOp
from crosstile.dialects.nn.shapes import tensor_of
from crosstile.ir.diagnostics import op_error
from crosstile.passes.schedules.register_tiles import bits
from crosstile.targets.host import default_target, resolve_machine
from crosstile.targets.model import Machine, UnknownNameError

ENOUGH_PRODUCTS = 256
"""Products in an element of the result that are worth writing and reading it once more. Measured with stride 2: 576 are
a third faster between transpositions, 147 are not."""


LEAST_STEP = 16
"""Elements of k that a block of warps multiplies at least, whatever k is."""


def pays(op: Conv2dOp, machine: Machine) -> bool:
    """Whether channels are better last on ``machine``."""
    if op.layout.data != "nchw":
        return False
    sizes = dict(zip(op.letters.filter, tensor_of(op.filter).get_shape(), strict=True))
    if sizes["c"] == 0:
        return False
    return _pays_in_warps(sizes) if machine.warp_lanes is not None else _pays_on_a_core(op, sizes)


def _pays_in_warps(sizes: Mapping[str, int]) -> bool:
    """Whether steps of channels, for each column of the filter, are less than half as many as steps of columns.

    Numbers that are not known are taken to be large.
    """
    channels, columns = (LEAST_STEP if sizes[letter] == DYNAMIC_INDEX else sizes[letter] for letter in "cs")
    return 2 * columns * ceil(channels / LEAST_STEP) < channels * ceil(columns / LEAST_STEP)


def _pays_on_a_core(op: Conv2dOp, sizes: Mapping[str, int]) -> bool:
    """Whether factors are narrower than the sums, or there is a stride and much to sum up."""
    if op.group_count != 1 or sizes["c"] == DYNAMIC_INDEX:
        return False
    if bits(tensor_of(op.filter).element_type) < bits(op.accumulator_type):
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
        op.group_count,
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
    """Convolutions whose channels are better last on ``target`` (``host``: this machine), between transpositions."""

    name = "channels-last"

    target: str = field(default_factory=default_target)

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the convolutions of the module ``op`` in place."""
        convolutions = [each for each in op.walk() if isinstance(each, Conv2dOp)]
        if not convolutions:
            return
        try:
            machine = resolve_machine(self.target)
        except UnknownNameError as error:
            raise op_error(op, f"channels-last: {error}") from error
        for each in convolutions:
            if pays(each, machine):
                put_last(each)
