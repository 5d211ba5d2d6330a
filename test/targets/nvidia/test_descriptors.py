"""Matrix descriptors: the canonical layouts of CUTLASS, the copies that fill them, and what is refused."""

from typing import Any

import numpy as np
import pytest

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.simulator.descriptors import Descriptor, Swizzle, read_matrix
from crosstile.targets.nvidia.simulator.elements import element
from crosstile.targets.nvidia.simulator.tensor_copy import box_copy
from crosstile.targets.nvidia.tensor_map import TensorMap

SWIZZLED = [Swizzle.B32, Swizzle.B64, Swizzle.B128]


def xor(address: int, bits: int) -> int:
    """CUTLASS's Swizzle<bits, 4, 3> on byte addresses."""
    mask = ((1 << bits) - 1) << 7
    return address ^ (address & mask) >> 3


@pytest.mark.parametrize("swizzle", Swizzle)
@pytest.mark.parametrize("mn_major", [False, True])
def test_the_canonical_layouts_of_cutlass(swizzle: Swizzle, mn_major: bool) -> None:
    """cute/atom/mma_traits_sm90_gmma.hpp, make_gmma_desc, in units of 16 bytes; T = 8 elements of 16 bits.

    MN: none ((T,1,m),(8,k)):((1,T,SBO),(1T,LBO)), swizzled ((T,W,m),(8,k)):((1,T,LBO),(W*T,SBO)); K: none
    ((8,m),(T,2)):((1T,SBO),(1,LBO)), swizzled ((8,m),(T,2)):((W*T,SBO),(1,T)).
    """
    leading, stride, start = 2048, 4096, 8192
    width, bits = swizzle.value // 16, swizzle.value.bit_length() - 5
    found = Descriptor(start, leading, stride, swizzle).addresses(64, 16, "bf16", mn_major)
    for row, k in np.ndindex(found.shape):
        if mn_major and width == 1:
            place = row % 8 * 2 + row // 8 * stride + k % 8 * 16 + k // 8 * leading
        elif mn_major:
            inner, group = row % (8 * width), row // (8 * width)
            place = inner * 2 + group * leading + k % 8 * 16 * width + k // 8 * stride
        elif width == 1:
            place = row % 8 * 16 + row // 8 * stride + k % 8 * 2 + k // 8 * leading
        else:
            place = row % 8 * 16 * width + row // 8 * stride + k * 2
        assert found[row, k] == xor(start + place, bits)


@pytest.mark.parametrize("swizzle", SWIZZLED)
@pytest.mark.parametrize("name", ["bf16", "tf32", "e4m3"])
def test_k_major_reads_what_a_bulk_copy_wrote(swizzle: Swizzle, name: str) -> None:
    """A box of 64 rows, as long as the swizzle: each instruction's k begins 32 bytes further in the same rows."""
    kind = element(name)
    columns = swizzle.value // kind.size
    matrix = (np.arange(64 * columns) % 251).astype(kind.dtype).reshape(64, columns)
    shared = copy_to_shared(matrix, swizzle, start=1024)
    for step in range(swizzle.value // 32):
        k = 32 // kind.size
        descriptor = Descriptor(1024 + 32 * step, 16, 8 * swizzle.value, swizzle)
        found = read_matrix(shared, descriptor.addresses(64, k, name), name)
        np.testing.assert_array_equal(found.view(np.uint8), matrix[:, step * k : step * k + k].copy().view(np.uint8))


@pytest.mark.parametrize("swizzle", SWIZZLED)
def test_mn_major_reads_what_a_bulk_copy_wrote(swizzle: Swizzle) -> None:
    """Boxes of 64 lines of k, side by side along n: 16 lines an instruction."""
    columns = swizzle.value // 2
    n = 256
    matrix = np.arange(64 * n, dtype=np.uint16).reshape(64, n)
    box = 64 * swizzle.value
    parts = [
        copy_to_shared(matrix[:, c : c + columns].copy().view(np.float16), swizzle, start=0)[:box]
        for c in range(0, n, columns)
    ]
    shared = np.concatenate(parts)
    for k in range(0, 64, 16):
        descriptor = Descriptor(k * swizzle.value, box, 8 * swizzle.value, swizzle)
        found = read_matrix(shared, descriptor.addresses(n, 16, "f16", mn_major=True), "f16")
        np.testing.assert_array_equal(found.view(np.uint16), matrix[k : k + 16].T)


def copy_to_shared(matrix: Any, swizzle: Swizzle, start: int) -> Any:
    """Shared memory after a bulk tensor copy of the whole matrix (of bytes: tensor maps have no 8-bit floats)."""
    memory = np.ascontiguousarray(matrix).view(np.uint8).reshape(-1)
    rows, row_bytes = matrix.shape[0], swizzle.value
    tensor_map = TensorMap.row_major("u8", 0, (rows, row_bytes), (row_bytes, 1), (rows, row_bytes), swizzle=row_bytes)
    copy = box_copy(tensor_map, (0, 0), start)
    shared = np.zeros(start + rows * row_bytes, np.uint8)
    shared[copy.shared_addresses] = memory[copy.global_addresses]
    return shared


def test_no_swizzle_takes_any_core_matrices() -> None:
    """Core matrices of 8 rows and 16 bytes: along k at the leading offset, along rows at the stride offset."""
    found = Descriptor(0, 128, 256).addresses(16, 16, "f16")
    assert [int(found[row, k]) for row, k in ((0, 0), (0, 7), (1, 0), (7, 0), (0, 8), (8, 0))] == [
        0,
        14,
        16,
        112,
        128,
        256,
    ]


def test_a_pattern_that_begins_elsewhere() -> None:
    """base offset = (pattern start >> 7) & 7: the same elements as at a multiple of 1024, moved."""
    moved = Descriptor(1024 + 384, 16, 1024, Swizzle.B128, base_offset=3).addresses(8, 16, "bf16")
    at_zero = Descriptor(0, 16, 1024, Swizzle.B128).addresses(8, 16, "bf16")
    np.testing.assert_array_equal(moved - 1408, at_zero)


def test_encoding() -> None:
    """Matrix Descriptor Format: bits 0-13, 16-29, 32-45, 49-51 and 62-63."""
    descriptor = Descriptor(0x1400, 0x400, 0x200, Swizzle.B64, 5)
    bits = 0x140 | 0x40 << 16 | 0x20 << 32 | 5 << 49 | 2 << 62
    assert descriptor.encode() == bits
    assert Descriptor.decode(bits) == descriptor
    assert [Descriptor.decode(mode << 62).swizzle.value for mode in range(4)] == [16, 128, 64, 32]


def test_what_is_wrong_is_refused() -> None:
    with pytest.raises(CrosstileError, match="the start address is a multiple of 16 below 2\\^18 bytes, not 8"):
        Descriptor(8, 16, 16)
    with pytest.raises(CrosstileError, match="the stride offset is a multiple of 16 below 2\\^18 bytes, not 262144"):
        Descriptor(0, 16, 1 << 18)
    with pytest.raises(CrosstileError, match="bits 0xc000 have no meaning and must be 0"):
        Descriptor.decode(0xC000)
    with pytest.raises(CrosstileError, match=r"wgmma reads .tf32 only K-major"):
        Descriptor(0, 16, 16).addresses(64, 8, "tf32", mn_major=True)
    with pytest.raises(CrosstileError, match="wgmma reads shared bytes 0 to 2047, there are only 1024"):
        read_matrix(np.zeros(1024, np.uint8), Descriptor(0, 128, 256).addresses(64, 16, "f16"), "f16")
