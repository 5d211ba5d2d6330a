"""Packed arrays: every element is where the layout says, and what blocks lack is zero."""

from __future__ import annotations

from itertools import product

import ml_dtypes
import numpy as np
import pytest
from xdsl.dialects.builtin import DYNAMIC_INDEX, AffineMapAttr, TensorType, f32
from xdsl.ir.affine import AffineMap

from crosstile.dialects.packing import layout_map, packed_layout, packed_tensor
from crosstile.targets.packing import ALIGNMENT, PackedLayout, Part

PANELS = PackedLayout((Part(1, 64), Part(0), Part(1, 1, 64)))
NARROW = PackedLayout((Part(1, 64), Part(1, 16, 64), Part(0), Part(1, 1, 16)))
WORDS = PackedLayout((Part(1, 16), Part(0, 2), Part(1, 1, 16), Part(0, 1, 2)))
FILTER = PackedLayout((Part(0, 6), Part(2), Part(3), Part(1), Part(0, 1, 6)))


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        (layout, shape)
        for layout in (PANELS, NARROW, WORDS)
        for shape in ((5, 130), (0, 7), (7, 0), (4, 128), (1, 1), (3, 64))
    ]
    + [(FILTER, shape) for shape in ((6, 2, 3, 3), (13, 5, 1, 3), (1, 1, 1, 1), (0, 2, 3, 3))],
)
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_every_element_is_where_the_layout_says(layout: PackedLayout, shape: tuple[int, ...], dtype: type):
    array = np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).reshape(shape).astype(np.dtype(dtype))
    packed = layout.pack(array)
    assert packed.shape == layout.box(shape) and packed.flags.c_contiguous
    assert packed.size == 0 or packed.ctypes.data % ALIGNMENT == 0
    for at in product(*map(range, shape)):
        assert packed[tuple(part.place(at[part.dim]) for part in layout.parts)] == array[at]
    assert np.count_nonzero(packed.astype(np.float32)) == array.size


def test_strided_arrays_are_packed_as_they_are_read():
    array = np.arange(70 * 9, dtype=np.float32).reshape(70, 9).T[::2]
    assert np.array_equal(PANELS.pack(array), PANELS.pack(array.copy()))


@pytest.mark.parametrize(
    "parts",
    [
        (Part(0), Part(0)),
        (Part(0, 4), Part(0, 1, 8)),
        (Part(0, 64), Part(0, 16, 48), Part(0, 1, 16)),
        (Part(0, 4),),
        (Part(1),),
        (Part(0, 1), Part(0, 1, 1)),
    ],
)
def test_a_layout_holds_each_element_once(parts: tuple[Part, ...]):
    with pytest.raises(ValueError, match="a packed layout"):
        PackedLayout(parts)


def test_layouts_are_encodings_of_types():
    plain = TensorType(f32, [DYNAMIC_INDEX, DYNAMIC_INDEX, 3, 3])
    other = TensorType(f32, [4, 4], AffineMapAttr(AffineMap.from_callable(lambda i, j: (i + j, j))))
    assert packed_layout(plain) is None and packed_layout(other) is None
    narrow = TensorType(f32, [DYNAMIC_INDEX, DYNAMIC_INDEX])
    assert (
        packed_layout(packed_tensor(plain, FILTER)) == FILTER and packed_layout(packed_tensor(narrow, NARROW)) == NARROW
    )
    assert str(layout_map(FILTER)) == "(d0, d1, d2, d3) -> ((d0 floordiv 6), d2, d3, d1, (d0 mod 6))"
