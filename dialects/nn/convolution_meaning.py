"""What a convolution computes: the image becomes patches, one for every place of the result, and those are contracted.

image [n, g, c, h, w]  ->  patches [n, g, h, w, r, s, c]  contracted with  filter [g, o, r, s, c]  ->  [n, g, o, h, w]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crosstile.dialects.element_types import Array
from crosstile.dialects.nn.convolution import Conv2dOp
from crosstile.ir.diagnostics import CrosstileError

ITERATORS = "ngohwrsc"
"""The iterators of the contraction; the last three are summed, in this order."""


def positions(op: Conv2dOp) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The iterators of the patches, the filter and the result, by number in ``ITERATORS``."""
    lists = ("nghwrsc", "gorsc", op.letters.result.replace("o", "go"))
    patches, filter_, result = (tuple(map(ITERATORS.index, letters)) for letters in lists)
    return patches, filter_, result


def check_sizes(op: Conv2dOp, image: Sequence[int], filter_: Sequence[int]) -> None:
    """Raise a CrosstileError unless arrays of these shapes can be convolved."""
    x = dict(zip(op.letters.image, image, strict=True))
    f = dict(zip(op.letters.filter, filter_, strict=True))
    if x["c"] != f["c"] * op.group_count:
        raise CrosstileError(f"the image has {x['c']} channels, the filter {f['c']} in each of {op.group_count} groups")
    for name, place, axis in zip("hw", "rs", op.axes, strict=True):
        if axis.result_size(x[name], f[place]) < 0:
            raise CrosstileError(
                f"a filter of {f[place]} with dilation {axis.dilation} does not fit into an image of {x[name]} "
                f"with padding {axis.before} and {axis.after}"
            )


def patches(op: Conv2dOp, image: Array, filter_: Sequence[int]) -> Array:
    """The part of ``image`` that a filter of shape ``filter_`` covers at every place: [n, g, h, w, r, s, c]."""
    check_sizes(op, image.shape, filter_)
    x = np.transpose(image, [op.letters.image.index(letter) for letter in "nchw"])
    batch, channels, *sizes = x.shape
    x = x.reshape(batch, op.group_count, channels // op.group_count, *sizes)
    x = np.pad(x, [(0, 0)] * 3 + [(axis.before, axis.after) for axis in op.axes])
    for dim, axis, letter, size in zip((3, 5), op.axes, "rs", sizes, strict=True):
        count = filter_[op.letters.filter.index(letter)]
        places = np.arange(axis.result_size(size, count))[:, None]
        x = np.take(x, axis.stride * places + axis.dilation * np.arange(count), axis=dim)
    return np.transpose(x, (0, 1, 3, 5, 4, 6, 2))


def filters(op: Conv2dOp, filter_: Array) -> Array:
    """The filter as [g, o, r, s, c]."""
    f = np.transpose(filter_, [op.letters.filter.index(letter) for letter in "orsc"])
    return f.reshape(op.group_count, -1 if f.size else f.shape[0] // op.group_count, *f.shape[1:])


def merged(op: Conv2dOp, result: Array) -> Array:
    """The result with its groups next to each other in one dimension of channels."""
    at = op.letters.result.index("o")
    shape = result.shape
    return result.reshape(*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :])
