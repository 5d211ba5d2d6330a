"""What one core can do, measured: multiply-adds in registers, and bytes from memory at a row's working-set size.

In: an element type, or a number of bytes. Out: operations or bytes per second, best of a few short loops. The f32 loop
is the compiler's own measure of the peak; those for bf16 and int8 and those over memory are LLVM IR::

    %s0 = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float> %a0, <32 x bfloat> %x, <32 x bfloat> %x)

A tile unit (AMX), where the system lets a process use one, is measured as well: what the core can do is the faster.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from importlib import import_module
from time import process_time
from typing import Any

import numpy as np

from crosstile.targets.host import host_machine
from crosstile.targets.tile_data import may_use_tiles
from crosstile.targets.x86.peak import measured_peak

llvm: Any = import_module("llvmlite.binding")
Array = np.ndarray[Any, np.dtype[Any]]
CHAINS = 12
NEWLINE = "\n"
SECONDS = 0.004
CHUNK = 1024
"""Bytes; what one step of a loop over memory reads."""
REPEAT = 3
DOTS = {
    "bf16": ("avx512bf16", "llvm.x86.avx512bf16.dpbf16ps.512", "<16 x float>", "<32 x bfloat>", 64),
    "int8": ("avx512vnni", "llvm.x86.avx512.vpdpbusd.512", "<16 x i32>", "<64 x i8>", 128),
}
"""Per element type: the feature, LLVM's intrinsic, the accumulator, an operand, operations of one instruction."""
TILES = {
    "bf16": ("amx-bf16", "llvm.x86.tdpbf16ps", 16 * 16 * 32 * 2),
    "int8": ("amx-int8", "llvm.x86.tdpbssd", 16 * 16 * 64 * 2),
}


def peak(element: str) -> float:
    """Operations per second of the core's fastest unit for products of ``element`` (f32, bf16, int8)."""
    if element == "f32":
        measured_peak.cache_clear()
        return measured_peak(host_machine())
    return max((_dot_rate(element), _tile_rate(element)))


def bandwidth(traffic: str, size: int) -> float:
    """Bytes per second over a set of ``size`` bytes that is only read (``read``), or half read, half written."""
    if traffic == "read":
        source = np.ones(max(size // CHUNK, 1) * CHUNK // 4, np.float32)
        read, steps_of_one = _memory("read"), source.nbytes // CHUNK
        address = source.ctypes.data
        return source.nbytes * _rate(lambda steps: [read(steps_of_one, address, 0) for _ in range(steps)])
    source = np.ones(max(size // CHUNK // 2, 1) * CHUNK // 4, np.float32)
    target = np.empty(source.size + 16, np.float32)
    arguments = (source.nbytes // CHUNK, source.ctypes.data, target.ctypes.data + -target.ctypes.data % 64)
    rates = [
        _rate(lambda steps, copy=copy: [copy(*arguments) for _ in range(steps)])
        for copy in (_memory("copy"), _memory("stream"))
    ]
    return 2 * source.nbytes * max(rates)


def _rate(run: Callable[[int], object]) -> float:
    """Steps per second: the best of a few measurements, each long enough."""
    steps = 1
    run(steps)
    while (elapsed := _seconds(run, steps)) < SECONDS:
        steps = int(steps * min(16.0, 1.25 * SECONDS / max(elapsed, 1e-7))) + 1
    return steps / min(_seconds(run, steps) for _ in range(REPEAT))


def _seconds(run: Callable[[int], object], steps: int) -> float:
    begin = process_time()
    run(steps)
    return process_time() - begin


def _dot_rate(element: str) -> float:
    feature, _, _, _, operations = DOTS[element]
    if not llvm.get_host_cpu_features().get(feature):
        return 0.0
    return operations * CHAINS * _rate(_compile(_dot_text(element), f"+avx512f,+{feature}").function("loop", 1))


def _tile_rate(element: str) -> float:
    feature, intrinsic, operations = TILES[element]
    if not llvm.get_host_cpu_features().get(feature) or not may_use_tiles():
        return 0.0
    # Palette 1; of the tiles 0 to 6 each has 16 rows of 64 bytes.
    configuration = np.zeros(64, np.uint8)
    configuration[0] = 1
    configuration[16:30:2] = 64
    configuration[48:55] = 16
    loop = _compile(_tile_text(intrinsic), f"+amx-tile,+{feature}").function("loop", 2)
    return 4 * operations * _rate(lambda steps: loop(steps, configuration.ctypes.data))


def _loop_text(carried: str, body: str) -> str:
    return f"""entry:
  br label %body
body:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  {carried}
  {body}
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %steps
  br i1 %more, label %body, label %done
done:"""


def _dot_text(element: str) -> str:
    _, name, sum_, operand, _ = DOTS[element]
    carried = [f"%a{at} = phi {sum_} [ zeroinitializer, %entry ], [ %s{at}, %body ]" for at in range(CHAINS)]
    body = [f"%s{at} = call {sum_} @{name}({sum_} %a{at}, {operand} %x, {operand} %x)" for at in range(CHAINS)]
    stores = [f"store volatile {sum_} %s{at}, ptr @result" for at in range(CHAINS)]
    return f"""declare {sum_} @{name}({sum_}, {operand}, {operand})
@operand = global [64 x i8] zeroinitializer, align 64
@result = global [64 x i8] zeroinitializer, align 64
define void @loop(i64 %steps) {{
start:
  %x = load volatile {operand}, ptr @operand
  br label %entry
{_loop_text(NEWLINE.join(carried), NEWLINE.join(body))}
  {NEWLINE.join(stores)}
  ret void
}}"""


def _tile_text(intrinsic: str) -> str:
    body = "\n".join(f"call void @{intrinsic}(i8 {at}, i8 4, i8 5)" for at in range(4))
    zeros = "\n".join(f"call void @llvm.x86.tilezero(i8 {at})" for at in range(6))
    return f"""declare void @llvm.x86.ldtilecfg(ptr)
declare void @llvm.x86.tilezero(i8)
declare void @llvm.x86.tilerelease()
declare void @{intrinsic}(i8, i8, i8)
define void @loop(i64 %steps, ptr %configuration) {{
start:
  call void @llvm.x86.ldtilecfg(ptr %configuration)
  {zeros}
  br label %entry
{_loop_text("", body)}
  call void @llvm.x86.tilerelease()
  ret void
}}"""


def _memory(kind: str) -> Callable[..., object]:
    """``loop(chunks, source, target)``: read, copy, or copy past the caches (``stream``)."""
    vectors = range(CHUNK // 64)
    type_ = "<16 x float>"
    places = [f"%p{at} = getelementptr i8, ptr %chunk, i64 {64 * at}" for at in vectors]
    # A source that is aligned to less than a vector costs what NumPy's own arrays cost everybody.
    loads = [f"%v{at} = load {type_}, ptr %p{at}, align 4" for at in vectors]
    head = [f"%offset = mul i64 %i, {CHUNK}", "%chunk = getelementptr i8, ptr %source, i64 %offset", *places, *loads]
    carried: list[str] = []
    tail: list[str] = []
    if kind == "read":
        carried = [f"%a{at} = phi {type_} [ zeroinitializer, %entry ], [ %s{at}, %body ]" for at in vectors]
        body = [f"%s{at} = fadd {type_} %a{at}, %v{at}" for at in vectors]
        tail = [f"store volatile {type_} %s{at}, ptr @result" for at in vectors]
    else:
        hint = ", !nontemporal !0" if kind == "stream" else ""
        body = ["%to = getelementptr i8, ptr %target, i64 %offset"]
        body += [f"%q{at} = getelementptr i8, ptr %to, i64 {64 * at}" for at in vectors]
        body += [f"store {type_} %v{at}, ptr %q{at}, align 64{hint}" for at in vectors]
    text = f"""@result = global [64 x i8] zeroinitializer, align 64
define void @loop(i64 %steps, ptr %source, ptr %target) {{
{_loop_text(NEWLINE.join(carried), NEWLINE.join([*head, *body]))}
  {NEWLINE.join(tail)}
  ret void
}}
!0 = !{{i32 1}}"""
    return _compile(text, "").function("loop", 3)


class _Compiled:
    """Machine code that lives as long as its functions."""

    def __init__(self, text: str, features: str):
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        target = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(),
            features=",".join(filter(None, (features, "-prefer-256-bit"))),
            opt=2,
            jit=True,
        )
        module = llvm.parse_assembly(text)
        module.verify()
        self._engine: Any = llvm.create_mcjit_compiler(module, target)
        self._engine.finalize_object()

    def function(self, name: str, arguments: int) -> Callable[..., object]:
        """A function of so many 64-bit integers."""
        type_ = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * arguments)
        return type_(self._engine.get_function_address(name))


@cache
def _compile(text: str, features: str) -> _Compiled:
    return _Compiled(text, features)
