"""Any legal schedule of a matrix product gives the same bits: blocks, orders, packing, unrolling, splits, threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crosstile.targets.host import host_machine
from crosstile.targets.model import Machine, machine
from crosstile.tools.api import CompiledFunction, compile

DTYPES: dict[str, Any] = {"f32": np.float32, "f64": np.float64, "bf16": ml_dtypes.bfloat16}
SIZES = (0, 1, 2, 7, 16, 31, 65, 130)
MACHINES = [host_machine().name, "x86-64-avx2"]


def program(element: str, transposed: tuple[bool, bool], schedules: str) -> str:
    """A product at the nest level; either factor may lie transposed in memory."""
    total = "f64" if element == "f64" else "f32"
    factor, result = f"tensor<?x?x{element}>", f"tensor<?x?x{total}>"
    lhs, rhs = ("k, m" if transposed[0] else "m, k"), ("n, k" if transposed[1] else "k, n")
    extended = (
        f"""
      %u = arith.extf %p : {element} to {total}
      %v = arith.extf %q : {element} to {total}"""
        if element != total
        else ""
    )
    names = "%u, %v" if element != total else "%p, %q"
    return f"""func.func @main(%x : {factor}, %w : {factor}) -> {result} {{
  %y = nest.kernel @product (%a = %x : {factor}, %b = %w : {factor}) -> ({result}) {schedules} {{
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate {total}
        ins(%a ({lhs}), %b ({rhs}) : {factor}, {factor}) -> (m, n) : {result} {{
    ^bb0(%p : {element}, %q : {element}):{extended}
      %t = arith.mulf {names} : {total}
      nest.yield %t : {total}
    }}
    nest.yield %c : {result}
  }}
  func.return %y : {result}
}}"""


@cache
def chosen(element: str, transposed: tuple[bool, bool], target: str) -> CompiledFunction:
    """The same product with the schedules of choose-schedule."""
    return compile(program(element, transposed, ""), target=target, start="nest")


def schedule(draw: Callable[[st.SearchStrategy[Any]], Any], chip: Machine, element: str) -> str:
    """A schedule whose register tile fits, with blocks of its multiples in any order that stages what it names."""
    total = "f64" if element == "f64" else "f32"
    row = chip.choose(element, element, total)
    if row.in_tiles:
        down, across = draw(st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (3, 1)]))
        rows, columns = row.m * down, row.n * across
    else:
        vectors = draw(st.integers(1, 4 if chip.vector_registers >= 32 else 2))
        most_rows = (chip.vector_registers - 1 - vectors) // vectors // row.m
        rows, columns = row.m * draw(st.integers(1, min(most_rows, 8))), row.n * vectors
    k = draw(st.sampled_from([row.k * 8, 64, 512]))
    outer = [
        f"m : {rows * draw(st.sampled_from([1, 3, 20]))}",
        f"n : {columns * draw(st.sampled_from([1, 2]))}",
        f"k : {k}" + draw(st.sampled_from(["", " balanced 8"])),
    ]
    inner = [f"m : {rows}", f"n : {columns}"]
    loops = [*draw(st.permutations(outer)), *draw(st.permutations(inner))]
    stage = draw(st.sampled_from(["", ", stage = [1]", ", stage = [0, 1]"]))
    split = draw(st.sampled_from(["", f", parallel = m grain {rows}", f", parallel = n grain {columns}"]))
    unroll = draw(st.sampled_from(["", ", unroll = 2", ", unroll = 3"]))
    narrower = [f", rest = {row.n * vectors}" for vectors in range(1, columns // row.n) if not row.in_tiles]
    rest = draw(st.sampled_from(["", *narrower]))
    parts = f'loops = [{", ".join(loops)}]{split}, lane = n{stage}, intrinsic = "{row.name}"{unroll}{rest}'
    return f"schedules [#nest.schedule<{parts}>]"


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_every_schedule_gives_the_same_bits(data: st.DataObject):
    target = data.draw(st.sampled_from(MACHINES))
    chip = machine(target)
    element = data.draw(st.sampled_from([name for name in DTYPES if _has_row(chip, name)]))
    transposed = (data.draw(st.booleans()), data.draw(st.booleans()))
    written = compile(program(element, transposed, schedule(data.draw, chip, element)), target=target, start="nest")
    m, n, k = (data.draw(st.sampled_from(SIZES)) for _ in range(3))
    random = np.random.default_rng(m * 10007 + n * 101 + k)
    a, b = (random.standard_normal(shape).astype(DTYPES[element]) for shape in ((m, k), (k, n)))
    arguments = [array.T.copy() if turn else array for array, turn in zip((a, b), transposed, strict=True)]
    found = written(*arguments, threads=data.draw(st.integers(1, 3)))
    expected = chosen(element, transposed, target)(*arguments, threads=1)
    np.testing.assert_array_equal(found.view(np.uint8), expected.view(np.uint8))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    allowed = (k + 1) * np.finfo(found.dtype).eps * (abs(a.astype(np.float64)) @ abs(b.astype(np.float64)))
    assert (abs(found - exact) <= allowed + np.finfo(np.float32).tiny).all()


def _has_row(chip: Machine, element: str) -> bool:
    total = "f64" if element == "f64" else "f32"
    return any(
        (row.lhs.element, row.rhs.element, row.accumulator.element) == (element, element, total)
        for row in chip.intrinsics
    )
