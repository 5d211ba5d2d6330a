"""The peak of this machine, measured: a loop of nothing but fma in registers, compiled as kernels are.

In: a machine row that this process can run, an element type, a number of threads. Out: operations per second, to hold
a kernel's speed against. The loop is ``CHAINS`` independent sums, enough to hide the latency of every core so far and
few enough for 16 registers::

    %s0 = vector.fma %a0, %x, %y : vector<16xf32>        (scalar arith.mulf, arith.addf where the row has no fma)
    %s1 = vector.fma %a1, %x, %y : vector<16xf32>  ...
    %s0 = x86vector.avx512.dot %a0, %x, %y : vector<32xbf16> -> vector<16xf32>      (for bf16)
    %s0 = amx.tile_mulf %x, %y, %a0 : ...                       (on tile registers, of which four are sums)

A clock that changes under load, or a neighbour on the same core, changes the peak as it changes kernels; measure both
close together.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from crosstile.targets.model import Machine, MmaIntrinsic
from crosstile.targets.numerics import SequentialFma
from crosstile.targets.x86.launch import Array
from crosstile.targets.x86.run import LoadedObject, compile_module

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

CHAINS = 12
TILE_CHAINS = 4
"""Sums in tile registers; two of the other four hold the factors."""
SECONDS = 0.01
"""How long one measurement takes, about; the best of ``REPEAT`` counts."""
REPEAT = 7


def peak_code(machine: Machine, row: MmaIntrinsic) -> bytes:
    """The object code of the loop for one intrinsic row."""
    return compile_module(lowered_peak(row), machine).code


@cache
def measured_peak(
    machine: Machine,
    element: str = "f32",
    threads: int = 1,
    code_of: Callable[[Machine, MmaIntrinsic], bytes] = peak_code,
) -> float:
    """Operations per second of ``threads`` threads that multiply and add numbers of type ``element`` in registers.

    bf16 is multiplied in pairs, or in tile registers, and summed in f32. Measured once per process and argument.
    ``code_of`` gives the loop's object code. Raises UnknownNameError if the machine has no intrinsic for ``element``.
    """
    row = machine.choose(element, element, "f32" if element == "bf16" else element)
    loop = _loop(code_of(machine, row), row)
    steps = 1000
    while (elapsed := _seconds(loop, steps, 1)) < SECONDS:
        steps = int(steps * min(16.0, 1.25 * SECONDS / max(elapsed, 1e-7))) + 1
    best = min(_seconds(loop, steps, threads) for _ in range(REPEAT))
    return row.operations * chains_of(row) * steps * threads / best


def chains_of(row: MmaIntrinsic) -> int:
    """How many independent sums the loop for ``row`` has."""
    return TILE_CHAINS if row.in_tiles else CHAINS


def peak_module(row: MmaIntrinsic) -> str:
    """The text of the loop for one intrinsic row, at the hardware level."""
    if row.in_tiles:
        return _tile_peak_module(row)
    element = row.accumulator.element
    fused = isinstance(row.numerics, SequentialFma)
    type_ = f"vector<{row.n}x{element}>" if row.n > 1 else element

    def literal(number: float) -> str:
        return f"dense<{number}>" if row.n > 1 else str(number)

    names = [f"%a{chain}" for chain in range(CHAINS)]
    starts = [f"%i{chain} = arith.constant {literal(1.0 + chain / CHAINS)} : {type_}" for chain in range(CHAINS)]
    factor = type_
    if row.k > 1:
        factor = f"vector<{row.n * row.k}x{row.lhs.element}>"
        body = [
            f"%s{chain} = x86vector.avx512.dot {name}, %x, %y : {factor} -> {type_}" for chain, name in enumerate(names)
        ]
    elif fused:
        body = [f"%s{chain} = vector.fma {name}, %x, %y : {type_}" for chain, name in enumerate(names)]
    else:
        body = [
            f"%p{chain} = arith.mulf {name}, %x : {type_}\n      %s{chain} = arith.addf %p{chain}, %y : {type_}"
            for chain, name in enumerate(names)
        ]
    sums = [f"%t0 = arith.addf %r#0, %r#1 : {type_}"]
    sums += [f"%t{at} = arith.addf %t{at - 1}, %r#{at + 1} : {type_}" for at in range(1, CHAINS - 1)]
    last = f"%t{CHAINS - 2}"
    store = f"vector.store {last}, %out[%zero] : memref<?x{element}>, {type_}"
    if row.n == 1:
        store = f"memref.store {last}, %out[%zero] : memref<?x{element}>"
    separator = "\n      "
    carried = ", ".join(f"{name} = %i{chain}" for chain, name in enumerate(names))
    return f"""func.func @peak(%out : memref<?x{element}>, %steps : index) -> i32 attributes {{crosstile.entry}} {{
      %zero = arith.constant 0 : index
      %one = arith.constant 1 : index
      %status = arith.constant 0 : i32
      %x = arith.constant {literal(0.75)} : {factor}
      %y = arith.constant {literal(0.25)} : {factor}
      {separator.join(starts)}
      %r:{CHAINS} = scf.for %i = %zero to %steps step %one iter_args({carried}) -> ({", ".join([type_] * CHAINS)}) {{
      {separator.join(body)}
      scf.yield {", ".join(f"%s{chain}" for chain in range(CHAINS))} : {", ".join([type_] * CHAINS)}
      }}
      {separator.join(sums)}
      {store}
      func.return %status : i32
    }}"""


def _tile_peak_module(row: MmaIntrinsic) -> str:
    """The same on tile registers, which hold zeros: the rate that the unit has at full clock."""
    sums = f"!amx.tile<{row.m}x{row.n}x{row.accumulator.element}>"
    factor = f"!amx.tile<16x{row.k}x{row.lhs.element}>"
    chains = range(TILE_CHAINS)
    products = "\n      ".join(
        f"%s{chain} = amx.tile_mulf %x, %y, %a{chain} : {factor}, {factor}, {sums}" for chain in chains
    )
    carried = ", ".join(f"%a{chain} = %i" for chain in chains)
    types = ", ".join([sums] * TILE_CHAINS)
    stores = "\n      ".join(
        f"amx.tile_store %out[%zero], %r#{chain}, %width : memref<?x{row.accumulator.element}>, {sums}"
        for chain in chains
    )
    return f"""func.func @peak(%out : memref<?x{row.accumulator.element}>, %steps : index) -> i32
      attributes {{crosstile.entry}} {{
      %zero = arith.constant 0 : index
      %one = arith.constant 1 : index
      %width = arith.constant {row.n} : index
      %status = arith.constant 0 : i32
      %x = amx.tile_zero : {factor}
      %y = amx.tile_zero : {factor}
      %i = amx.tile_zero : {sums}
      %r:{TILE_CHAINS} = scf.for %step = %zero to %steps step %one iter_args({carried}) -> ({types}) {{
      {products}
      scf.yield {", ".join(f"%s{chain}" for chain in chains)} : {types}
      }}
      {stores}
      func.return %status : i32
    }}"""


def lowered_peak(row: MmaIntrinsic) -> ModuleOp:
    """The loop for one intrinsic row in the ``llvm`` dialect."""
    from crosstile.ir.context import make_context
    from crosstile.ir.parsing import parse_module
    from crosstile.ir.passes import run_passes
    from crosstile.ir.pipeline import make_pass, parse_pipeline

    context = make_context()
    module = parse_module(peak_module(row), "peak.mlir", context)
    passes = [make_pass(spec) for spec in parse_pipeline("convert-scf-to-cf,convert-to-llvm")]
    run_passes(context, module, passes, verify_each=False)
    return module


def _loop(code: bytes, row: MmaIntrinsic) -> Callable[[int], object]:
    """The loop as a function of its number of steps."""
    loaded = LoadedObject([code], ["peak.entry"])
    entry = loaded.entry("peak")

    def run(steps: int) -> object:
        out: Array = np.zeros(max(row.m * row.n, 8), np.float64)
        words = np.array([out.ctypes.data, row.m * row.n, steps], np.int64)
        return entry(words.ctypes.data)

    return run


def _seconds(loop: Callable[[int], object], steps: int, threads: int) -> float:
    if threads == 1:
        begin = perf_counter()
        loop(steps)
        return perf_counter() - begin
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(loop, [1] * threads))
        begin = perf_counter()
        list(pool.map(loop, [steps] * threads))
        return perf_counter() - begin
