"""The tensors and index maps of a convolution as a nest, for ``nn-to-nest``.

    image [n, c, h + r - 1, w + s - 1], zero outside;  filter [o, c, r, s]  ->  result [n, o, h, w], summed over c, r, s

The sum has the order of the image in memory, so that what is staged of it at once is summed at once.
With several groups the channels of all three are two dimensions, group and channel in it: the tensors are reshaped,
which moves nothing. Where each channel is a group they stay as they are. Sizes of the result that are only known at run
time are those of empty tensors that are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, ArrayAttr, IntegerAttr, TensorType, i64
from xdsl.ir import Attribute, SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap

from crosstile.dialects.nn.convolution import Conv2dOp
from crosstile.dialects.nn.shapes import tensor_of
from crosstile.lowering.driver import Lowering


@dataclass
class Convolution:
    """A convolution being lowered. Dimensions are letters: those of ``nn.convolution.Layout``, and ``g``, the group."""

    op: Conv2dOp
    lowering: Lowering

    @property
    def by_channel(self) -> bool:
        """Whether each channel is a group: a channel is the group then, and nothing is divided."""
        filter_, groups = tensor_of(self.op.filter).get_shape(), self.op.group_count
        return groups > 1 and all(
            filter_[self.op.letters.filter.index(c)] == size for c, size in (("c", 1), ("o", groups))
        )

    @property
    def grouped(self) -> bool:
        """Whether there is more than one group, and channels in it."""
        return self.op.group_count > 1 and not self.by_channel

    @property
    def iterators(self) -> str:
        """The iterators in order; the last ones are summed, in the order in which the image lies in memory."""
        letters = self.op.letters.image
        if self.by_channel:
            return "nghwrs"
        summed = "crs" if letters.index("c") < letters.index("h") else "rsc"
        return ("ngohw" if self.grouped else "nohw") + summed

    def _split(self, letters: str, channel: str) -> str:
        if self.by_channel:
            return letters.replace(channel, "g")
        return letters.replace(channel, "g" + channel) if self.grouped else letters

    @property
    def written(self) -> AffineMap:
        """Where the result is written."""
        return self._map(self._split(self.op.letters.result, "o"), {})

    def maps(self) -> list[AffineMap]:
        """Where image and filter are read."""
        moved: dict[str, AffineExpr] = {}
        for name, place, axis in zip("hw", "rs", self.op.axes, strict=True):
            moved[name] = self._iterator(name) * axis.stride + self._iterator(place) * axis.dilation - axis.before
        image, filter_ = self._split(self.op.letters.image, "c"), self._split(self.op.letters.filter, "o")
        return [self._map(image, moved), self._map(filter_, {})]

    def _iterator(self, letter: str) -> AffineExpr:
        return AffineExpr.dimension(self.iterators.index(letter))

    def _map(self, letters: str, moved: dict[str, AffineExpr]) -> AffineMap:
        def index(letter: str) -> AffineExpr:
            return moved.get(letter) or (self._iterator(letter) if letter in self.iterators else AffineExpr.constant(0))

        return AffineMap(len(self.iterators), 0, tuple(index(letter) for letter in letters))

    def inputs(self) -> list[SSAValue]:
        """Image and filter, their channels divided into groups."""
        image, filter_ = self.lowering.value(self.op.image), self.lowering.value(self.op.filter)
        return [
            self._divided(image, self.op.letters.image.index("c")),
            self._divided(filter_, self.op.letters.filter.index("o")),
        ]

    @property
    def result_type(self) -> TensorType[Attribute]:
        """The type of the nest's result."""
        type_ = tensor_of(self.op.result)
        return self._divided_type(type_, self.op.letters.result.index("o")) if self.grouped else type_

    def _divided_type(self, type_: TensorType[Attribute], at: int) -> TensorType[Attribute]:
        shape, groups = type_.get_shape(), self.op.group_count
        return TensorType(type_.element_type, [*shape[:at], groups, shape[at] // groups, *shape[at + 1 :]])

    def _divided(self, value: SSAValue, at: int) -> SSAValue:
        if not self.grouped:
            return value
        type_ = self._divided_type(tensor_of(value), at)
        shape = tensor_of(value).get_shape()
        sizes = [self._size(value, dim) for dim, size in enumerate(shape) if size == DYNAMIC_INDEX]
        groups = _reassociation(len(shape), at)
        return self.lowering.insert(tensor.ExpandShapeOp(value, sizes, groups, type_.get_shape(), type_)).result

    def finish(self, value: SSAValue) -> SSAValue:
        """The nest's result with its channels in one dimension."""
        if not self.grouped:
            return value
        result = tensor_of(self.op.result)
        groups = _reassociation(result.get_num_dims(), self.op.letters.result.index("o"))
        properties = {"reassociation": groups}
        op = tensor.CollapseShapeOp(operands=[value], result_types=[result], properties=properties)
        return self.lowering.insert(op).result

    def size_inputs(self) -> list[tuple[SSAValue, str]]:
        """An empty tensor for each of the result's height and width that is only known at run time, and its letter."""
        image, filter_ = self.lowering.value(self.op.image), tensor_of(self.op.filter).get_shape()
        found: list[tuple[SSAValue, str]] = []
        for name, place, axis in zip("hw", "rs", self.op.axes, strict=True):
            dim = self.op.letters.image.index(name)
            if tensor_of(image).get_shape()[dim] != DYNAMIC_INDEX:
                continue
            slack = self._index(axis.slack(filter_[self.op.letters.filter.index(place)]))
            padded = self.lowering.insert(arith.AddiOp(self._size(image, dim), slack)).result
            size = self.lowering.insert(arith.FloorDivSIOp(padded, self._index(axis.stride))).result
            empty = tensor.EmptyOp([size], TensorType(tensor_of(image).element_type, [DYNAMIC_INDEX]))
            found.append((self.lowering.insert(empty).tensor, name))
        return found

    def _size(self, value: SSAValue, dim: int) -> SSAValue:
        return self.lowering.insert(tensor.DimOp(value, self._index(dim))).result

    def _index(self, value: int) -> SSAValue:
        return self.lowering.insert(arith.ConstantOp(IntegerAttr.from_index_int_value(value))).result


def _reassociation(rank: int, divided: int) -> ArrayAttr[ArrayAttr[IntegerAttr]]:
    """The dimensions of the larger shape for each of the smaller one's ``rank``, of which ``divided`` is two."""
    groups: list[Sequence[int]] = []
    for dim in range(rank):
        first = dim + (dim > divided)
        groups.append((first, first + 1) if dim == divided else (first,))
    return ArrayAttr([ArrayAttr([IntegerAttr(dim, i64) for dim in group]) for group in groups])
