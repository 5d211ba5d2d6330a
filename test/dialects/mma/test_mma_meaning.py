"""The mma level in NumPy: places in memory, the order of reductions, instances, and what goes wrong at run time."""

from __future__ import annotations

import functools
import re
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from round_trip import parse
from xdsl.ir.affine import AffineMap

from crosstile.dialects import upstream_meaning
from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.mma import meaning
from crosstile.dialects.mma.place_meaning import Rule, elements
from crosstile.dialects.mma.reduction import reduce
from crosstile.dialects.reductions import COMBINE
from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.layout import Layout

Array = NDArray[Any]
RNG = np.random.default_rng(0)
ALIASES = """
#tile = #mma.layout<tile(4, 8) register(4:8) lane(8:1)>
#row = #mma.layout<tile(4, 1) register(4:1) lane(8:0)>
!tile = !mma.fragment<4x8xf32, #tile>
!row = !mma.fragment<4x1xf32, #row>
!rows = !mma.fragment<4x1xindex, #row>
"""


def run(text: str, *arguments: Any, workers: int = 1, sample: int | None = None) -> None:
    module = parse(ALIASES + text)
    tables = upstream_meaning.MEANINGS, meaning.MEANINGS
    Interpreter(module, *tables, workers=workers, sample=sample).call("f", arguments)


def kernel(body: str, arguments: str = "%A: memref<?x?xf32>, %C: memref<4x8xf32>, %i: index, %n: index") -> str:
    return f"mma.kernel @f({arguments}) {{ %zero = arith.constant 0 : index\n{body}\n}}"


# Memory


def loaded(load: str, source: Array, i: int = 0, n: int = 0) -> Array:
    result = np.full((4, 8), 7, np.float32)
    body = f"%t = mma.load {load} : memref<?x?xf32> -> !tile\nmma.store %t, %C[%zero, %zero] : !tile, memref<4x8xf32>"
    run(kernel(body), source, result, i, n)
    return result


def matrix(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def test_load_takes_a_box_at_the_indices():
    a = matrix(9, 20)
    np.testing.assert_array_equal(loaded("%A[%i, %n]", a, 5, 3), a[5:9, 3:11])


def test_elements_beyond_the_extent_are_padding():
    a = matrix(4, 5)
    expected = np.full((4, 8), -np.inf, np.float32)
    expected[:, :5] = a
    np.testing.assert_array_equal(loaded("%A[%zero, %zero] extent [_, %n] pad -inf", a, n=5), expected)


def test_clamped_elements_repeat_the_last_valid_one():
    a = matrix(2, 8)
    np.testing.assert_array_equal(loaded("%A[%zero, %zero] extent [%n, _] clamp [0]", a, n=2), a[[0, 1, 1, 1]])


def test_clip_makes_elements_outside_the_memory_invalid():
    a = matrix(6, 8)
    expected = np.zeros((4, 8), np.float32)
    expected[2:] = a[:2]
    np.testing.assert_array_equal(loaded("%A[%i, %zero] clip", a, i=-2), expected)


def test_a_map_transposes_and_strides():
    a = matrix(20, 9)
    place = "%A by affine_map<(r, c)[i] -> (c * 2 + i, r)>[%i]"
    np.testing.assert_array_equal(loaded(place, a, i=1), a[1:17:2, :4].T)


def test_an_element_outside_the_memory_is_an_error():
    with pytest.raises(CrosstileError, match=r"'mma.load' reads element \[3, 0\] of memory of shape \[3, 8\]"):
        loaded("%A[%zero, %zero]", matrix(3, 8))


def test_gather_and_scatter_skip_negative_indices():
    rows = np.array([3, -1, 0, 2])
    a, c = matrix(5, 8), np.zeros((6, 8), np.float32)
    by = "by affine_map<(r, c)[i] -> (i + r)>[%zero]"
    body = f"""
      %rows = mma.load %R {by} : memref<?xindex> -> !rows
      %t = mma.load %A[%rows : !rows, %zero] pad 5.0 : memref<?x?xf32> -> !tile
      mma.store %t, %C[%rows : !rows, %zero] : !tile, memref<?x?xf32>"""
    run(kernel(body, "%A: memref<?x?xf32>, %R: memref<?xindex>, %C: memref<?x?xf32>"), a, rows, c)
    expected = np.zeros_like(c)
    expected[[3, 0, 2]] = a[[3, 0, 2]]
    np.testing.assert_array_equal(c, expected)


def test_a_condition_that_is_false_reads_nothing():
    c = np.zeros((4, 8), np.float32)
    body = """
      %no = arith.constant false
      %t = mma.load %A[%i, %n] if %no else 2.5 : memref<?x?xf32> -> !tile
      mma.store %t, %C[%zero, %zero] extent [%n] : !tile, memref<4x8xf32>"""
    run(kernel(body), matrix(0, 0), c, 100, 3)
    np.testing.assert_array_equal(c, [[2.5] * 8] * 3 + [[0] * 8])


def test_a_view_is_the_same_scratch():
    a, c = matrix(4, 8), np.zeros((4, 8), np.float32)
    body = """
      %b = mma.alloc : !mma.buffer<8x4xf32>
      %v = mma.view %b by affine_map<(m, n) -> (n, m)>
        : !mma.buffer<8x4xf32> -> !mma.buffer<4x8xf32, affine_map<(m, n) -> (n, m)>>
      %t = mma.load %A[%zero, %zero] : memref<?x?xf32> -> !tile
      mma.store %t, %v[%zero, %zero] : !tile, !mma.buffer<4x8xf32, affine_map<(m, n) -> (n, m)>>
      %u = mma.load %b by affine_map<(m, n)[i, j] -> (n + i, m + j)>[%zero, %zero] : !mma.buffer<8x4xf32> -> !tile
      mma.store %u, %C[%zero, %zero] : !tile, memref<4x8xf32>"""
    run(kernel(body), a, c, 0, 0)
    np.testing.assert_array_equal(c, a)


# Fragments


def lane_by_lane(kind: str, values: Array, layout: Layout, dims: tuple[int, ...]) -> Array:
    """The order of mma.reduce taken literally: one Python scalar per register and lane, lanes in lock step."""
    combine = COMBINE[kind]
    result = np.empty([1 if dim in dims else size for dim, size in enumerate(values.shape)], values.dtype)
    lanes = layout.size("lane")
    kept_of = {lane: set[tuple[int, ...]]() for lane in range(lanes)}
    parts: dict[tuple[int, tuple[int, ...]], list[Any]] = {}
    for lane, register in product(range(lanes), range(layout.size("register"))):
        place = layout.place(lane=lane, register=register)
        kept = tuple(0 if dim in dims else at for dim, at in enumerate(place))
        key = lane, kept
        parts.setdefault(key, []).append(values[place])
        kept_of[lane].add(kept)
    crosses = any(_differ(layout, 0, 1 << bit, dims) for bit in range(lanes.bit_length() - 1))
    in_pairs = crosses and len(kept_of[0]) == 1 and kind in ("add", "mul")
    partial: dict[tuple[int, tuple[int, ...]], Any] = {}
    for key, own in parts.items():
        while in_pairs and len(own) > 1:
            own = [combine(*own[at : at + 2]) if at + 1 < len(own) else own[at] for at in range(0, len(own), 2)]
        partial[key] = functools.reduce(combine, own)
    distance = lanes // 2
    while distance:
        partners = {
            (lane, kept): partial[(lane ^ distance, kept)]
            for lane, kept in partial
            if (lane ^ distance, kept) in partial and _differ(layout, lane, distance, dims)
        }
        partial |= {key: combine(partial[key], other) for key, other in partners.items()}
        distance //= 2
    for (_, kept), value in partial.items():
        result[kept] = value
    return result


def _differ(layout: Layout, lane: int, distance: int, dims: tuple[int, ...]) -> bool:
    """Whether two lanes hold different places, which differ along ``dims``."""
    one, other = layout.place(lane=lane), layout.place(lane=lane ^ distance)
    return any(one[dim] != other[dim] for dim in dims)


@pytest.mark.parametrize(
    "layout",
    [
        "tile(8, 64) register(8:64, 4:16) lane(16:1)",
        "tile(8, 64) register(4:16, 8:64) lane(16:1)",
        "tile(3, 48) register(3:48, 3:16) lane(16:1)",
        "tile(16, 8) register(2:64, 2:1) lane(8:8, 4:2)",
        "tile(16, 32) register(4:8, 2:256, 2:1) lane(8:32, 4:2)",
        "tile(4, 4) register(16:1) lane(1:0)",
    ],
)
@pytest.mark.parametrize("dims", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("kind", ["add", "mul", "max", "maxnum"])
def test_the_order_of_a_reduction_is_registers_then_butterfly(layout: str, dims: tuple[int, ...], kind: str):
    parsed = Layout.parse(layout)
    values = matrix(*parsed.tile)
    np.testing.assert_array_equal(reduce(kind, values, parsed, dims), lane_by_lane(kind, values, parsed, dims))


def test_a_butterfly_over_lanes_that_are_no_power_of_two_is_refused():
    with pytest.raises(CrosstileError, match="a butterfly is defined for powers of two"):
        reduce("add", matrix(1, 6), Layout.parse("tile(1, 6) lane(6:1)"), (1,))


def test_reduce_ignores_what_is_beyond_the_extent_and_goes_on_from_into():
    a, c = matrix(4, 8), np.zeros((4, 1), np.float32)
    body = """
      %t = mma.load %A[%zero, %zero] : memref<?x?xf32> -> !tile
      %start = mma.reduce max %t dims [1] : !tile -> !row
      %sum = mma.reduce add %t into %start dims [1] extent [_, %n] : !tile -> !row
      mma.store %sum, %C[%zero, %zero] : !row, memref<4x1xf32>"""
    run(kernel(body, "%A: memref<?x?xf32>, %C: memref<4x1xf32>, %n: index"), a, c, 3)
    np.testing.assert_allclose(c, a.max(1, keepdims=True) + a[:, :3].sum(1, keepdims=True), rtol=1e-6)


def test_iota_mask_and_relayout():
    c = np.zeros((4, 8), np.float32)
    body = """
      %columns = mma.iota dim 1 start %i : !mma.fragment<4x8xi32, #tile>
      %numbers = mma.map (%columns : !mma.fragment<4x8xi32, #tile>) -> !tile {
      ^bb0(%x: i32):
        %y = arith.sitofp %x : i32 to f32
        mma.yield %y : f32
      }
      %masked = mma.mask %numbers extent [%n, _] else -1.0 : !tile
      %moved = mma.relayout %masked : !tile -> !mma.fragment<4x8xf32, #mma.layout<tile(4, 8) register(8:1) lane(4:8)>>
      mma.store %moved, %C[%zero, %zero]
        : !mma.fragment<4x8xf32, #mma.layout<tile(4, 8) register(8:1) lane(4:8)>>, memref<4x8xf32>"""
    run(kernel(body), matrix(1, 1), c, 10, 3)
    np.testing.assert_array_equal(c, [list(range(10, 18))] * 3 + [[-1] * 8])


def test_transpose():
    c = np.zeros((8, 4), np.float32)
    body = """
      %block = mma.load %A[%zero, %zero] : memref<?x?xf32> -> !tile
      %columns = mma.transpose %block : !tile -> !mma.fragment<8x4xf32, #mma.layout<tile(8, 4) lane(4:1) register(8:4)>>
      mma.store %columns, %C[%zero, %zero]
        : !mma.fragment<8x4xf32, #mma.layout<tile(8, 4) lane(4:1) register(8:4)>>, memref<8x4xf32>"""
    a = matrix(4, 8)
    run(kernel(body, "%A: memref<?x?xf32>, %C: memref<8x4xf32>, %n: index"), a, c, 3)
    np.testing.assert_array_equal(c, a.T)


def test_a_product_has_the_arithmetic_of_its_intrinsic():
    """Hopper adds 16 products and the accumulator at once, cut off 25 bits below the largest; Ampere 8 at 24 bits."""
    a, b = np.zeros((64, 16), ml_dtypes.bfloat16), np.zeros((16, 64), ml_dtypes.bfloat16)
    a[:, :9], b[:9] = 1, 2.0**-25
    b[0] = 1
    text = """
      %one = arith.constant 0.0 : f32
      %c = mma.splat %one : f32 -> !c
      %x = mma.load %A[%zero, %zero] : memref<64x16xbf16> -> !a
      %y = mma.load %B[%zero, %zero] : memref<16x64xbf16> -> !b
      %d = mma.mma %x, %y, %c {intrinsic = "nvidia.mma.m16n8k16.f32.bf16"} : !a, !b, !c
      mma.store %d, %C[%zero, %zero] : !c, memref<64x64xf32>"""
    aliases = """
      #a = #mma.layout<tile(64, 16) register(4:256, 2:8, 2:128, 2:1) lane(8:16, 4:2)>
      #b = #mma.layout<tile(16, 64) register(8:8, 2:512, 2:64) lane(8:1, 4:128)>
      #c = #mma.layout<tile(64, 64) register(4:1024, 8:8, 2:512, 2:1) lane(8:64, 4:2)>
      !a = !mma.fragment<64x16xbf16, #a>
      !b = !mma.fragment<16x64xbf16, #b>
      !c = !mma.fragment<64x64xf32, #c>"""
    c = np.zeros((64, 64), np.float32)
    run(aliases + kernel(text, "%A: memref<64x16xbf16>, %B: memref<16x64xbf16>, %C: memref<64x64xf32>"), a, b, c)
    assert (c == 1).all()  # 1 + 8 * 2^-25, each term truncated to nothing; exactly it would round to 1 + 2^-22


# Instances


def instances(text: str, *bounds: int, workers: int = 1, sample: int | None = None) -> list[tuple[int, ...]]:
    """The block arguments of every instance, as the kernel itself writes them into a row of memory."""
    log = np.full((10000, 4), -1)
    count = np.zeros(1, np.int64)
    stores = "\n".join(
        f"%c{number} = arith.constant {number} : index\nmemref.store {name}, %log[%n, %c{number}] : memref<?x4xindex>"
        for number, name in enumerate(re.findall(r"%[bem]\w*", text.split("=")[0]))
    )
    body = f"""
      mma.parallel {text} {{
        %n = memref.load %count[%zero] : memref<1xindex>
        {stores}
        %one = arith.constant 1 : index
        %next = arith.addi %n, %one : index
        memref.store %next, %count[%zero] : memref<1xindex>
      }}"""
    names = ", ".join(f"%u{number}: index" for number in range(len(bounds)))
    run(
        kernel(body, f"%log: memref<?x4xindex>, %count: memref<1xindex>, {names}"),
        log,
        count,
        *bounds,
        workers=workers,
        sample=sample,
    )
    return [tuple(int(value) for value in row if value >= 0) for row in log[: count[0]]]


def test_workers_get_ranges_in_multiples_of_the_grain():
    text = "%b to %e = %zero to %u0 grain 8"
    assert instances(text, 21, workers=2) == [(0, 8), (8, 21)]
    assert instances(text, 0, workers=4) == []
    assert instances(text, 64, workers=3) == [(0, 16), (16, 40), (40, 64)]


def test_a_grid_has_ragged_tiles_and_may_be_sampled():
    text = "(%b0, %b1), (%m0, %m1) = (%zero, %zero) to (%u0, %u1) step (128, 64)"
    assert instances(text, 300, 10) == [(0, 0, 128, 10), (128, 0, 128, 10), (256, 0, 44, 10)]
    assert instances(text, 0, 10) == []
    sampled = instances(text, 12800, 6400, sample=20)
    assert len(sampled) == 20
    assert {(0, 0, 128, 64), (12672, 6336, 128, 64)} <= set(sampled)


# Asynchrony: what the verifier cannot see

RING = "!mma.ring<2 x 4x8xf32>"
WRITE, READ = "!mma.slot<write 4x8xf32>", "!mma.slot<read 4x8xf32>"
FILL = f"""
  %s = mma.acquire %ring : {RING}
  mma.copy_async %A[%zero, %zero] to %s : memref<?x?xf32> to {WRITE}
  mma.commit %s : {WRITE}"""


def test_a_copy_reads_its_source_as_late_as_it_may():
    a, c = np.zeros((4, 8), np.float32), np.zeros((4, 8), np.float32)
    body = f"""
      %ring = mma.ring : {RING}
      {FILL}
      %three = arith.constant 3.0 : f32
      %late = mma.splat %three : f32 -> !tile
      mma.store %late, %A[%zero, %zero] : !tile, memref<?x?xf32>
      %t = mma.wait %ring : {RING}
      %x = mma.load %t[%zero, %zero] : {READ} -> !tile
      mma.release %t : {READ}
      mma.store %x, %C[%zero, %zero] : !tile, memref<4x8xf32>"""
    run(kernel(body), a, c, 0, 0)
    assert (c == 3).all()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (FILL, "slot 0 of ring %ring is committed and not waited for"),
        (f"%s = mma.acquire %ring : {RING}", "slot 0 of ring %ring is acquired and not committed"),
        (f"{FILL}\n%t = mma.wait %ring : {RING}", "slot 0 of ring %ring is waited for and not released"),
        (f"%t = mma.wait %ring : {RING}", "deadlock: the program stands here alone, waiting for a full slot of ring"),
        (
            f"{FILL}\n%t = mma.wait %ring : {RING}\nmma.release %t : {READ}\nmma.release %t : {READ}",
            "releases a slot of ring %ring that is free; it must be waited for",
        ),
        (
            f"{FILL}\n%t = mma.wait %ring : {RING}\nmma.release %t : {READ}\n"
            f"%x = mma.load %t[%zero, %zero] : {READ} -> !tile",
            "reads a slot of ring %ring that is free",
        ),
        (
            f"{FILL}\nmma.copy_async %A[%zero, %zero] to %s : memref<?x?xf32> to {WRITE}",
            "copies into a slot of ring %ring that is committed",
        ),
        (
            f"%a = mma.acquire %ring : {RING}\n%b = mma.acquire %ring : {RING}\nmma.commit %b : {WRITE}",
            "commits a slot of ring %ring before one that was acquired earlier",
        ),
        (
            "\n".join(FILL.replace("%s", f"%s{number}") for number in range(3)),
            "deadlock: the program stands here alone, waiting for a free slot of ring %ring",
        ),
    ],
)
def test_misuse_of_a_ring_is_an_error(body: str, message: str):
    with pytest.raises(CrosstileError) as raised:
        run(kernel(f"%ring = mma.ring : {RING}\n{body}"), matrix(4, 8), np.zeros((4, 8), np.float32), 0, 0)
    assert message in raised.value.message


def test_an_unwaited_group_leaves_poison():
    ring, read = "!mma.ring<2 x 4x8xf32, groups>", READ
    c = np.zeros((4, 8), np.float32)
    body = f"""
      %ring = mma.ring : {ring}
      %s = mma.acquire %ring : {ring}
      mma.copy_async %A[%zero, %zero] to %s : memref<?x?xf32> to {WRITE}
      mma.commit %s : {WRITE}
      %t = mma.wait %ring in_flight 1 : {ring}
      %x = mma.load %t[%zero, %zero] : {read} -> !tile
      mma.release %t : {read}
      mma.store %x, %C[%zero, %zero] : !tile, memref<4x8xf32>"""
    run(kernel(body), matrix(4, 8), c, 0, 0)
    assert np.isnan(c).all()


def test_a_deadlock_names_the_roles_and_where_each_stands():
    text = f"""mma.kernel @f(%A: memref<?x?xf32>) warps(2) {{
      %zero = arith.constant 0 : index
      %there = mma.ring : {RING}
      %back = mma.ring : {RING}
      mma.roles {{
        role @ping warps(1) {{ %t = mma.wait %back : {RING}
          mma.release %t : {READ} }}
        role @pong warps(1) {{ %t = mma.wait %there : {RING}
          mma.release %t : {READ} }}
      }} }}"""
    with pytest.raises(CrosstileError) as raised:
        run(text, matrix(4, 8))
    assert raised.value.message.startswith("deadlock: role @ping stands at mma.wait (line ")
    assert "waiting for a full slot of ring %back; role @pong stands at mma.wait" in raised.value.message
    assert len(raised.value.notes) == 1


def test_memory_of_no_dimension_is_one_number() -> None:
    place = elements(Rule((1, 1), AffineMap(2, 0, ())), (), [], [])
    memory = np.zeros((), np.float32)
    place.write(memory, np.full((1, 1), 3.0, np.float32))
    np.testing.assert_array_equal(place.read(memory), [[3.0]])
