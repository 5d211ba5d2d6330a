"""Bulk tensor copies in tiled mode: boxes, bounds, strides, swizzles, reductions, and what is refused."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.simulator.tensor_copy import box_copy, reduce_elements
from crosstile.targets.nvidia.tensor_map import TensorMap

BASE = 4096
"""Where the array lies in global memory."""


def load(tensor_map: TensorMap, array: Any, coordinates: tuple[int, ...]) -> Any:
    """The box in shared memory as the elements lie there, from the bytes of ``array``."""
    copy = box_copy(tensor_map, coordinates, 0)
    memory = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
    elements = np.tile(copy.fill, (copy.inside.size, 1))
    places = copy.global_addresses[copy.inside, np.newaxis] - BASE + np.arange(copy.element_bytes)
    elements[copy.inside] = memory[places]
    shared = np.zeros(copy.inside.size * copy.element_bytes, np.uint8)
    shared[copy.shared_addresses[:, np.newaxis] + np.arange(copy.element_bytes)] = elements
    return shared.view(array.dtype)


@settings(deadline=None)
@given(st.data())
def test_a_box_is_a_slice_with_padding(data: st.DataObject) -> None:
    """In 1 to 5 dimensions, at any coordinates, with any element strides: NumPy's slice of the padded array."""
    rank = data.draw(st.integers(1, 5))
    outer = [data.draw(st.integers(1, 4)) for _ in range(rank - 1)]
    inner = data.draw(st.integers(1, 12))
    padded = -(-inner // 4) * 4  # rows of 16 bytes, of which the map sees the first `inner` elements
    array = np.arange(np.prod([*outer, padded]), dtype=np.float32).reshape(*outer, padded) + 1
    shape = (*outer, inner)
    box = (*(data.draw(st.integers(1, 4)) for _ in outer), data.draw(st.sampled_from([4, 8])))
    steps = (*(data.draw(st.integers(1, 3)) for _ in outer), 1)
    start = tuple(data.draw(st.integers(-5, 5)) for _ in shape)
    strides = [stride // 4 for stride in array.strides]
    plain = TensorMap.row_major("f32", BASE, shape, strides, box)
    fields = plain.sizes, plain.strides, plain.box, tuple(reversed(steps))
    tensor_map = TensorMap("f32", BASE, *fields)
    found = load(tensor_map, array, tuple(reversed(start)))
    margin = [(8, 32)] * rank
    whole = np.pad(array[tuple(slice(size) for size in shape)], margin)
    window = tuple(slice(s + 8, s + 8 + b, step) for s, b, step in zip(start, box, steps, strict=True))
    np.testing.assert_array_equal(found, whole[window].reshape(-1))
    assert tensor_map.transaction_bytes == found.nbytes


@pytest.mark.parametrize("swizzle", [32, 64, 128])
def test_swizzles_exchange_chunks_of_16_bytes(swizzle: int) -> None:
    """Chunk c of line l of 128 bytes moves to c xor l, in as many bits as the swizzle has chunks."""
    columns = swizzle // 2
    array = np.arange(64 * columns, dtype=np.uint16).reshape(64, columns)
    tensor_map = TensorMap("u16", BASE, (columns, 64), (swizzle,), (columns, 64), swizzle=swizzle)
    found = load(tensor_map, array, (0, 0)).view(np.uint8).reshape(-1, 8, 16)  # [line, chunk]
    plain = array.view(np.uint8).reshape(-1, 8, 16)
    for line in range(len(plain)):
        for chunk in range(8):
            moved = chunk ^ (line & (swizzle // 16 - 1))
            np.testing.assert_array_equal(found[line, moved], plain[line, chunk])
    # Eight rows of one 16-byte column then lie in as many different bank groups as a line has chunks in the pattern.
    addresses = box_copy(tensor_map, (0, 0), 0).shared_addresses.reshape(64, columns)[:8, 0]
    assert len({int(a) // 16 % 8 for a in addresses}) == 8


def test_outside_reads_as_nan_where_asked() -> None:
    array = np.ones((2, 8), ml_dtypes.bfloat16)
    tensor_map = TensorMap("bf16", BASE, (8, 2), (16,), (8, 4), fill="nan")
    found = load(tensor_map, array, (0, -1)).reshape(4, 8)
    assert np.isnan(found[[0, 3]].astype(np.float32)).all()
    assert (found[1:3] == 1).all()


def test_a_store_writes_only_what_is_inside() -> None:
    copy = box_copy(TensorMap("f32", BASE, (6, 3), (32,), (8, 4)), (0, 1), 128)
    assert copy.inside.reshape(4, 8).sum() == 12
    assert copy.shared_addresses[0] == 128
    last = copy.global_addresses[copy.inside].max()
    assert last == BASE + 2 * 32 + 5 * 4


def test_reductions() -> None:
    def reduce(operation: str, element: str, old: Any, new: Any) -> list[float]:
        parts = (np.array(x).view(np.uint8).reshape(len(old), -1) for x in (old, new))
        return reduce_elements(operation, element, *parts).view(old.dtype).reshape(-1).tolist()

    a, b = np.array([1, 5, 7], np.uint32), np.array([4, 5, 6], np.uint32)
    assert reduce("add", "u32", a, b) == [5, 10, 13]
    assert reduce("min", "u32", a, b) == [1, 5, 6]
    assert reduce("inc", "u32", a, b) == [2, 0, 0]
    assert reduce("dec", "u32", a, b) == [0, 4, 6]
    assert reduce("xor", "u32", a, b) == [5, 0, 1]
    assert reduce("add", "bf16", np.array([1, 2], ml_dtypes.bfloat16), np.array([2, 2], ml_dtypes.bfloat16)) == [3, 4]
    assert reduce("max", "s64", np.array([-1]), np.array([-2])) == [-1]
    with pytest.raises(CrosstileError, match=r".inc does not exist for .f32; legal: .u32"):
        reduce("inc", "f32", np.ones(1, np.float32), np.ones(1, np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"element": "f8"}, r"has no elements of .f8; legal: u8, u16"),
        ({"address": 8}, "begins at address 0x8; legal: a multiple of 16 bytes"),
        ({"sizes": (64, 0)}, "has size 0 in dimension 1; legal: 1 to 2\\^32"),
        ({"strides": (100,)}, "has a stride of 100 bytes in dimension 1; legal: a multiple of 16"),
        ({"strides": ()}, "of 2 dimensions has 0 strides; legal: 1 of them"),
        ({"box": (64, 257)}, "has a box of 257 in dimension 1; legal: 1 to 256"),
        ({"box": (4, 8)}, "has a box whose rows are 8 bytes; legal: a multiple of 16"),
        ({"box": (128, 8)}, "swizzled in 128 bytes has a box whose rows are 256 bytes; legal: at most 128"),
        ({"element_strides": (2, 1)}, "has an element stride of 2 in dimension 0; legal: 1 to 1"),
        ({"element_strides": (1, 9)}, "has an element stride of 9 in dimension 1; legal: 1 to 8"),
        ({"interleave": "16B"}, "is interleaved by 16B; legal: an interleave of none"),
        ({"swizzle": 16}, "has a swizzle of 16 bytes; legal: 0, 32, 64 or 128"),
        ({"element": "u16", "fill": "nan"}, r"of .u16 is filled with NaN; legal: NaN for floating point"),
    ],
)
def test_maps_that_the_driver_refuses(change: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {
        "element": "bf16",
        "address": 256,
        "sizes": (64, 100),
        "strides": (128,),
        "box": (64, 128),
        "swizzle": 128,
    }
    TensorMap(**fields)
    with pytest.raises(CrosstileError, match=message):
        TensorMap(**(fields | change))


def test_copies_that_are_refused() -> None:
    tensor_map = TensorMap("bf16", 0, (64, 8), (128,), (64, 8), swizzle=128)
    with pytest.raises(CrosstileError, match="with 3 coordinates uses a tensor map of 2 dimensions"):
        box_copy(tensor_map, (0, 0, 0), 0)
    with pytest.raises(CrosstileError, match="0x40, is not a multiple of 128 bytes"):
        box_copy(tensor_map, (0, 0), 64)
    with pytest.raises(CrosstileError, match="rows of 64 bytes is swizzled in 128; only rows of the swizzle's length"):
        box_copy(TensorMap("bf16", 0, (64, 8), (128,), (32, 8), swizzle=128), (0, 0), 0)
    with pytest.raises(CrosstileError, match="innermost stride of 1 element, not 2"):
        TensorMap.row_major("bf16", 0, (8, 8), (16, 2), (8, 8))
