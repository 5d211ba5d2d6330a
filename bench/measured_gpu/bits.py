"""mma.sync and wgmma against the simulator's arithmetic, bit by bit, on random and adversarial operands.

In: a device, an instruction and how many blocks. Out: how many elements of D differ. Each block runs one instruction on
registers that it reads from memory: an element of D is a sum of k products and one more term, so that 1000 blocks of
m16n8k16 are 128,000 vectors. Where the simulator is the device the same kernels run in it.
"""

from __future__ import annotations

from typing import Any, cast

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from crosstile.targets.nvidia.launch import Launch
from crosstile.targets.nvidia.run import Device
from crosstile.targets.nvidia.simulator.matrix_units import mma_sync, wgmma

Array = NDArray[Any]
DTYPES = {"bf16": np.dtype(ml_dtypes.bfloat16), "f16": np.dtype(np.float16)}

HEAD = """.version 8.3
.target {target}
.address_size 64
.visible .entry {name}(.param .u64 a, .param .u64 b, .param .u64 c)
.reqntid {threads}
{{
  .reg .b64 %rd<8>;
  .reg .b32 %r<16>;
  .reg .b32 %a<4>;
  .reg .b32 %b<2>;
  .reg .f32 %c<4>;
  .reg .pred %p<2>;
  .shared .align 128 .b8 tile[256];
  mov.u32 %r0, %tid.x;
  mov.u32 %r1, %ctaid.x;
  ld.param.u64 %rd0, [a];
  ld.param.u64 %rd1, [b];
  ld.param.u64 %rd2, [c];
  mad.lo.u32 %r2, %r1, {threads}, %r0;
  mul.wide.u32 %rd3, %r2, 16;
  add.u64 %rd4, %rd0, %rd3;
  ld.global.v4.b32 {{%a0, %a1, %a2, %a3}}, [%rd4];
  add.u64 %rd5, %rd2, %rd3;
  ld.global.v4.f32 {{%c0, %c1, %c2, %c3}}, [%rd5];
"""
MMA = """  mul.wide.u32 %rd6, %r2, 8;
  add.u64 %rd6, %rd1, %rd6;
  ld.global.v2.b32 {{%b0, %b1}}, [%rd6];
  mma.sync.aligned.m16n8k16.row.col.f32.{type}.{type}.f32 {{%c0, %c1, %c2, %c3}}, {{%a0, %a1, %a2, %a3}}, {{%b0, %b1}},
    {{%c0, %c1, %c2, %c3}};
"""
WGMMA = """  setp.ge.u32 %p1, %r0, 64;
  @%p1 bra READY;
  mad.lo.u32 %r3, %r1, 64, %r0;
  mul.wide.u32 %rd6, %r3, 4;
  add.u64 %rd6, %rd1, %rd6;
  ld.global.b32 %r4, [%rd6];
  mov.u32 %r5, tile;
  mad.lo.u32 %r6, %r0, 4, %r5;
  st.shared.b32 [%r6], %r4;
READY:
  fence.proxy.async.shared::cta;
  bar.sync 0;
  mov.u32 %r5, tile;
  shr.u32 %r7, %r5, 4;
  cvt.u64.u32 %rd7, %r7;
  or.b64 %rd7, %rd7, {descriptor};
  setp.eq.u32 %p0, 0, 0;
  wgmma.fence.sync.aligned;
  wgmma.mma_async.sync.aligned.m64n8k16.f32.{type}.{type} {{%c0, %c1, %c2, %c3}}, {{%a0, %a1, %a2, %a3}}, %rd7, %p0,
    1, 1, 0;
  wgmma.commit_group.sync.aligned;
  wgmma.wait_group.sync.aligned 0;
"""
TAIL = """  st.global.v4.f32 [%rd5], {{%c0, %c1, %c2, %c3}};
  ret;
}}
"""
DESCRIPTOR = (128 >> 4) << 16 | (256 >> 4) << 32
"""Of eight columns of 16 elements without a swizzle: two core matrices, 128 bytes apart."""


def operands(element: str, shape: tuple[int, ...], seed: int) -> Array:
    """Numbers of like and of widely spread exponents, zeros, subnormals, the largest, infinities and NaN."""
    random, dtype = np.random.default_rng(seed), DTYPES[element]
    spread = {"bf16": 40, "f16": 9}[element]
    values = random.standard_normal(shape) * np.ldexp(1.0, random.integers(-spread, spread, shape))
    values = np.where(random.random(shape) < 0.6, random.standard_normal(shape), values)
    values = np.where(random.random(shape) < 0.1, 0, values)
    limits = cast("Any", ml_dtypes.finfo(dtype))
    special = np.array([limits.smallest_subnormal, -limits.smallest_normal, limits.max, -limits.max], np.float64)
    values = np.where(random.random(shape) < 0.03, special[random.integers(0, 4, shape)], values)
    odd = np.array([np.inf, -np.inf, np.nan])
    values = np.where(random.random(shape) < 2e-4, odd[random.integers(0, 3, shape)], values)
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def differing(device: Device, unit: str, element: str, target: str, blocks: int) -> tuple[int, int]:
    """How many elements of D have other bits than the simulator's arithmetic gives, and how many there are."""
    threads = {"mma": 32, "wgmma": 128}[unit]
    words = {"mma": 64, "wgmma": 64}[unit]  # of B in a block
    a = operands(element, (blocks, threads, 8), 1).view(np.uint32)
    b = operands(element, (blocks, 2 * words), 2).view(np.uint32)
    c = np.random.default_rng(3).standard_normal((blocks, threads, 4)).astype(np.float32)
    c[:, ::3] *= np.ldexp(1.0, np.random.default_rng(4).integers(-30, 30, c[:, ::3].shape)).astype(np.float32)
    found = _run(device, unit, element, target, a, b, c)
    expected = np.stack([_expected(unit, element, target, *pair) for pair in zip(a, b, c, strict=True)])
    is_nan = np.isnan(found) & np.isnan(expected)
    return int(np.sum((found.view(np.uint32) != expected.view(np.uint32)) & ~is_nan)), found.size


def _expected(unit: str, element: str, target: str, a: Array, b: Array, c: Array) -> Array:
    sums = np.ascontiguousarray(c.T).view(np.uint32)
    if unit == "mma":
        types = ("f32", element, element, "f32")
        result = mma_sync((16, 8, 16), types, a.T, b.reshape(32, 2).T, sums, target)
    else:
        # [k / 8][column][k mod 8], as the descriptor says
        columns = b.view(DTYPES[element]).reshape(2, 8, 8).transpose(1, 0, 2).reshape(8, 16)
        result = wgmma(8, ("f32", element, element), np.ascontiguousarray(a.T), columns, sums, target)
    return np.ascontiguousarray(result.T).view(np.float32)


def _run(device: Device, unit: str, element: str, target: str, a: Array, b: Array, c: Array) -> Array:
    blocks, threads = a.shape[:2]
    body = HEAD + {"mma": MMA, "wgmma": WGMMA}[unit] + TAIL
    text = body.format(target=target, name=unit, threads=threads, type=element, descriptor=DESCRIPTOR)
    found = np.empty_like(c)
    with device.entered():
        addresses = [device.allocate(one.nbytes) for one in (a, b, c)]
        for address, array in zip(addresses, (a, b, c), strict=True):
            device.write(address, array)
        launch = Launch(unit, (blocks, 1, 1), (threads, 1, 1), 0, tuple(addresses), ("ptr", "ptr", "ptr"))
        device.prepare(text, launch)(0)
        device.read(addresses[2], found)
        for address in addresses:
            device.release(address)
    return found
