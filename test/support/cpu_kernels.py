"""Kernels of the tile or mma level run three ways: by the interpreter of their level, of the mma level, and as code.

check_kernel(text, "gemm", target, lambda: [a, b, np.zeros((m, n))])     all three must agree bit for bit
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
from xdsl.dialects.builtin import DYNAMIC_INDEX, MemRefType, ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.dialects.llvm import FuncOp as LLVMFuncOp
from xdsl.dialects.llvm import LinkageAttr
from xdsl.ir import Attribute
from xdsl.utils.hints import isa

from crosstile.dialects import mma, tile
from crosstile.dialects.element_types import is_float
from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.mma.meaning import MEANINGS as MMA
from crosstile.dialects.tile.meaning import MEANINGS as TILE
from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM
from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.ir.passes import run_passes
from crosstile.ir.pipeline import make_pass, parse_pipeline
from crosstile.ir.verification import verify_module
from crosstile.lowering.mma_to_hardware.control import SCRATCH_BYTES
from crosstile.targets import llvm_codegen
from crosstile.targets.host import resolve_machine
from crosstile.targets.model import Machine
from crosstile.targets.x86.run import LoadedObject, compile_module

TARGETS = ("x86-64-avx512", "x86-64-avx2", "generic")
Arrays = Sequence[Any]


@cache
def host_features() -> frozenset[str]:
    """What this processor can do, in LLVM's names."""
    features: dict[str, bool] = llvm_codegen.llvm().get_host_cpu_features()
    return frozenset(name for name, has in features.items() if has)


def lowered(text: str, passes: str, name: str = "kernel.mlir") -> ModuleOp:
    """``text`` after ``passes``, verified after each."""
    context = make_context()
    module = parse_module(text, name, context)
    verify_module(module)
    run_passes(context, module, [make_pass(spec) for spec in parse_pipeline(passes)])
    return module


def interpret(module: ModuleOp, kernel: str, arguments: Arrays, workers: int = 1) -> None:
    """Run a kernel in the interpreter of its level; results are in the arguments."""
    Interpreter(module, UPSTREAM, TILE, MMA, workers=workers).call(kernel, arguments)


class CompiledKernel:
    """Machine code of one kernel of an mma module, to be called on arrays and scalars."""

    def __init__(self, module: ModuleOp, kernel: str, machine: Machine):
        context = make_context()
        module = module.clone()
        (op,) = (op for op in module.ops if isinstance(op, mma.KernelOp) and op.sym_name.data == kernel)
        self.types: list[Attribute] = list(op.body.block.arg_types)
        to_hardware, to_llvm = (
            "plan-buffers,mma-to-hardware",
            f"expand-math{{target={machine.name}}},convert-scf-to-cf,convert-to-llvm",
        )
        run_passes(context, module, [make_pass(spec) for spec in parse_pipeline(to_hardware)])
        functions = {op.sym_name.data: op for op in module.ops if isinstance(op, FuncOp)}
        scratch: Any = functions[kernel].attributes[SCRATCH_BYTES]
        self.scratch_bytes: int = scratch.value.data
        run_passes(context, module, [make_pass(spec) for spec in parse_pipeline(to_llvm)])
        for function in module.ops:
            if isinstance(function, LLVMFuncOp):
                function.linkage = LinkageAttr("external")
        self.code = compile_module(module, machine).code
        self.kernel = kernel
        self._loaded: LoadedObject | None = None

    def __call__(self, arguments: Arrays, parts: int = 1) -> None:
        """Run every one of ``parts`` workers, one after the other."""
        self._loaded = self._loaded or LoadedObject([self.code], [self.kernel])
        scratch = np.full(self.scratch_bytes + 64, 0xA5, np.uint8)  # what is read before it is written shows
        start = scratch.ctypes.data + (-scratch.ctypes.data) % 64
        words: list[Any] = []
        for argument, type_ in zip(arguments, self.types, strict=True):
            words += _words(argument, type_)
        for part in range(parts):
            last = [ctypes.c_void_p(start), *map(ctypes.c_int64, (self.scratch_bytes, part, parts))]
            everything = [*words, *last]
            self._loaded.function(self.kernel, None, *map(type, everything))(*everything)


def _words(argument: Any, type_: Attribute) -> list[Any]:
    """An argument as ``convert-to-llvm`` passes it: a memref as its pointer, dynamic sizes, dynamic strides."""
    if not isa(type_, MemRefType):
        return [ctypes.c_float(argument) if str(type_) == "f32" else ctypes.c_int64(argument)]
    shape = type_.get_shape()
    sizes = [have for have, want in zip(argument.shape, shape, strict=True) if want == DYNAMIC_INDEX]
    known = type_.get_strides() if "strided" in str(type_) else [0] * len(shape)
    assert known is not None
    strides = [s // argument.itemsize for s, want in zip(argument.strides, known, strict=True) if want is None]
    return [ctypes.c_void_p(argument.ctypes.data), *map(ctypes.c_int64, [*sizes, *strides])]


@cache
def prepared(text: str, kernel: str, target: str) -> tuple[ModuleOp, ModuleOp, CompiledKernel]:
    """The kernel at the level it is written in, at the mma level, and as machine code."""
    module = lowered(text, "")
    is_tile = any(isinstance(op, tile.KernelOp) for op in module.ops)
    at_mma = lowered(text, f"tile-to-mma{{target={target}}}") if is_tile else module
    return module, at_mma, CompiledKernel(at_mma, kernel, resolve_machine(target))


def check_kernel(
    text: str,
    kernel: str,
    target: str,
    arguments: Arrays,
    parts: int = 1,
    reassociates: bool = False,
    has_math: bool = False,
) -> Arrays:
    """Run ``kernel`` all ways, each on copies of ``arguments``; returns what the last way left in them.

    The mma interpreter and the code must agree bit for bit, and so must the tile interpreter. What differs must be
    close: the tile level from the others if the kernel ``reassociates`` sums, code from the others if it ``has_math``,
    whose functions the interpreters evaluate in float64. Code is made for any target and run where this processor can.
    """
    module, at_mma, code = prepared(text, kernel, target)
    at_tile_level, at_mma_level, by_code = (deepcopy(list(arguments)) for _ in range(3))
    interpret(module, kernel, at_tile_level, parts)
    interpret(at_mma, kernel, at_mma_level, parts)
    for found, expected in zip(at_mma_level, at_tile_level, strict=True):
        compare(found, expected, not reassociates, "the mma level differs from the tile level")
    if not host_features().issuperset(resolve_machine(target).features):
        return at_mma_level
    code(by_code, parts)
    for ran, found in zip(by_code, at_mma_level, strict=True):
        compare(ran, found, not has_math, "machine code differs from the mma level")
    return by_code


def compare(actual: Any, expected: Any, exactly: bool, message: str) -> None:
    """The bits of two arrays are the same, or the numbers close."""
    if exactly:
        np.testing.assert_array_equal(_bits(actual), _bits(expected), err_msg=message)
    else:
        np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5, err_msg=message)


def _bits(value: Any) -> Any:
    """The bits of an array, so that zeros of either sign differ and a NaN equals itself."""
    array = np.ascontiguousarray(value)
    return array.view(f"u{array.itemsize}") if is_float(array.dtype) else array
