"""Blocks transposed in registers: tiles and packed factors that lie the other way in memory, on every kind of core."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from cpu_kernels import TARGETS, check_kernel, resolve_machine

from crosstile.lowering.vector_registers import lanes_of

Array = np.ndarray[Any, np.dtype[Any]]
DTYPES: dict[str, Any] = {"f32": np.float32, "f64": np.float64, "i16": np.int16, "i8": np.int8}
TURNED = "by affine_map<(d0, d1)[s0, s1] -> (s0 + d1, s1 + d0)>"

TURN = f"""tile.kernel @turn(%x : memref<?x?xT>, %y : memref<?x?xT>, %z : memref<?x?xT>) {{
  %zero = arith.constant 0 : index
  %m = tile.dim %x, 0 : memref<?x?xT>
  %n = tile.dim %x, 1 : memref<?x?xT>
  tile.parallel (%i, %j), (%mc, %nc) = (%zero, %zero) to (%m, %n) step (W, V) {{
    %in = tile.window %x {TURNED} [%i, %j] extent [%nc, %mc] : memref<?x?xT> -> !tile.window<VxWxT>
    %t = tile.load %in : !tile.window<VxWxT> -> !tile.tile<VxWxT>
    %out = tile.window %y[%j, %i] extent [%nc, %mc] : memref<?x?xT> -> !tile.window<VxWxT>
    tile.store %t, %out : !tile.tile<VxWxT>, !tile.window<VxWxT>
    %u = tile.transpose %t [1, 0] : !tile.tile<VxWxT> -> !tile.tile<WxVxT>
    %back = tile.window %z {TURNED} [%j, %i] extent [%mc, %nc] : memref<?x?xT> -> !tile.window<WxVxT>
    tile.store %u, %back : !tile.tile<WxVxT>, !tile.window<WxVxT>
  }}
}}"""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("element", DTYPES)
def test_tiles_are_read_transposed_and_written(target: str, element: str):
    """Loaded the other way, transposed as a value, stored the other way."""
    lanes = lanes_of(resolve_machine(target), element)
    text = TURN.replace("xT", f"x{element}").replace("W", str(2 * lanes)).replace("V", str(lanes))
    for m, n in [(1, 1), (2 * lanes, lanes), (4 * lanes + 1, 2 * lanes - 1), (0, 3), (67, 41)]:
        x = (np.arange(m * n) % 120).reshape(m, n).astype(DTYPES[element])
        y, z = (np.zeros((n, m), x.dtype) for _ in range(2))
        _, found, again = check_kernel(text, "turn", target, [x, y, z])
        np.testing.assert_array_equal(found, x.T)
        np.testing.assert_array_equal(again, x.T)


PACKED = f"""tile.kernel @gemm(%A : memref<?x?xT>, %B : memref<?x?xT>, %C : memref<?x?xT>) {{
  %zero = arith.constant 0 : index
  %m = tile.dim %C, 0 : memref<?x?xT>
  %n = tile.dim %C, 1 : memref<?x?xT>
  %k = tile.dim %B, 1 : memref<?x?xT>
  %aw = tile.window %A AMAP [%zero, %zero] extent [%m, %k] : memref<?x?xT> -> !tile.window<Rx40xT>
  %a = tile.stage %aw : !tile.window<Rx40xT> -> !tile.buffer<Rx40xT>
  %bw = tile.window %B {TURNED} [%zero, %zero] extent [%k, %n] : memref<?x?xT> -> !tile.window<40xNxT>
  %b = tile.stage %bw : !tile.window<40xNxT> -> !tile.buffer<40xNxT>
  tile.for %j, %nc = %zero to %n step V {{
    tile.for %i, %mc = %zero to %m step S {{
      %at = tile.window %a[%i, 0] extent [%mc, %k] : !tile.buffer<Rx40xT> -> !tile.window<Sx40xT>
      %bt = tile.window %b[0, %j] extent [%k, %nc] : !tile.buffer<40xNxT> -> !tile.window<40xVxT>
      %cw = tile.window %C[%i, %j] extent [%mc, %nc] : memref<?x?xT> -> !tile.window<SxVxT>
      %c = tile.load %cw : !tile.window<SxVxT> -> !tile.tile<SxVxT>
      %r = tile.contract %at, %bt, %c extent %k intrinsic "INTRINSIC"
        : !tile.window<Sx40xT>, !tile.window<40xVxT> -> !tile.tile<SxVxT>
      tile.store %r, %cw : !tile.tile<SxVxT>, !tile.window<SxVxT>
    }}
  }}
}}"""


FITTING = [
    (target, panel)
    for target, panel in product(TARGETS, [1, 4, 6, 12])
    if panel <= 2 * resolve_machine(target).vector_registers // 3
]
"""Heights of panels whose accumulators fit the registers of a machine."""


@pytest.mark.parametrize("target, panel", FITTING)
@pytest.mark.parametrize("element", ["f32", "f64"])
@pytest.mark.parametrize("lhs_turned", [False, True])
def test_factors_of_either_orientation_are_packed(target: str, element: str, panel: int, lhs_turned: bool):
    """Panels of columns from rows; panels of rows, of any height, from rows and from columns."""
    machine = resolve_machine(target)
    lanes = lanes_of(machine, element)
    text = PACKED.replace("AMAP", TURNED if lhs_turned else "by affine_map<(d0, d1)[s0, s1] -> (s0 + d0, s1 + d1)>")
    text = text.replace("xT>", f"x{element}>").replace("INTRINSIC", machine.choose(element, element, element).name)
    text = text.replace("<Rx", f"<{3 * panel}x").replace("Nx", f"{3 * lanes}x")
    text = text.replace("<Sx", f"<{panel}x").replace("step S ", f"step {panel} ")
    text = text.replace("xVx", f"x{lanes}x").replace("step V ", f"step {lanes} ")
    rows, columns = 3 * panel, 3 * lanes
    for m, n, k in [(rows, columns, 40), (rows - 1, columns - 1, 33), (1, 1, 1), (rows, 2, 16), (2, columns, 0)]:
        random = np.random.default_rng(m + n + k)
        a, b, c = (random.standard_normal(shape).astype(DTYPES[element]) for shape in ((m, k), (k, n), (m, n)))
        given = np.ascontiguousarray(a.T) if lhs_turned else a
        _, _, found = check_kernel(text, "gemm", target, [given, np.ascontiguousarray(b.T), np.array(c)])
        np.testing.assert_allclose(found, c + a.astype(float) @ b.astype(float), rtol=1e-4, atol=1e-4)
