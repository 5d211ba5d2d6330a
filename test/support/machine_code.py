"""Functions of the hardware level run as machine code and by their meaning in NumPy, to be compared bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp

from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.upstream_meaning import MEANINGS
from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.ir.verification import verify_module
from crosstile.lowering.convert_scf_to_cf import ConvertScfToCfPass
from crosstile.lowering.convert_to_llvm import ConvertToLlvmPass
from crosstile.passes.expand_math import ExpandMathPass
from crosstile.targets.host import host_machine
from crosstile.targets.model import Machine, machines
from crosstile.targets.x86.run import LoadedObject, compile_module

CONTEXT = make_context()


def parse(text: str) -> ModuleOp:
    module = parse_module(text, "test.mlir", CONTEXT)
    verify_module(module)
    return module


def lower(module: ModuleOp, context: Context = CONTEXT) -> ModuleOp:
    """``module``, lowered in place to the ``llvm`` dialect and verified after each step."""
    for pass_ in (ConvertScfToCfPass(), ConvertToLlvmPass()):
        pass_.apply(context, module)
        verify_module(module)
    return module


def expand(module: ModuleOp, target: str | None = None) -> ModuleOp:
    ExpandMathPass(target).apply(CONTEXT, module)
    verify_module(module)
    return module


class MachineCode:
    """Entry functions of a module, callable with arrays (row-major memrefs, all dimensions dynamic) and integers."""

    def __init__(self, module: ModuleOp, name: str = "f", machine: Machine | None = None):
        compiled = compile_module(lower(module.clone()), machine or host_machine())
        self.entry = LoadedObject([compiled.code], [f"{name}.entry"]).entry(name)

    def __call__(self, *arguments: Any) -> int:
        words: list[int] = []
        for argument in arguments:
            if is_array(argument):
                assert argument.flags.c_contiguous
                words += [argument.ctypes.data, *argument.shape]
            else:
                words.append(int(argument))
        array = np.array(words, np.int64)
        return self.entry(array.ctypes.data)


def interpret(module: ModuleOp, *arguments: Any, name: str = "f") -> tuple[Any, ...]:
    return Interpreter(module, MEANINGS).call(name, arguments)


def assert_same_bits(actual: Sequence[Any], expected: Sequence[Any]) -> None:
    """Arrays of equal bits; any NaN equals any NaN."""
    for got, want in zip(actual, expected, strict=True):
        assert got.dtype == want.dtype and got.shape == want.shape
        if got.dtype.kind in "iub":
            np.testing.assert_array_equal(got, want)
            continue
        nan = np.isnan(got) & np.isnan(want)
        bits = np.dtype(f"u{got.dtype.itemsize}")
        wrong = (got.view(bits) != want.view(bits)) & ~nan
        assert not wrong.any(), f"at {np.argwhere(wrong)[:5].tolist()}: {got[wrong][:5]} is not {want[wrong][:5]}"


def runnable_machines() -> list[Machine]:
    """The CPU rows whose code this processor runs: without vectors, AVX2, AVX-512, as far as they are there."""
    host = host_machine()
    architecture = host.triple.partition("-")[0]
    return [
        row
        for row in machines().values()
        if row.triple.partition("-")[0] in ("", architecture) and set(row.features) <= set(host.features)
    ]


def is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def compare(text: str, *arguments: Any) -> None:
    """Run function ``f`` of ``text`` both ways on copies of ``arguments``; all arrays must end with the same bits."""
    module = parse(text)
    meant: list[Any] = [argument.copy() if is_array(argument) else argument for argument in arguments]
    ran: list[Any] = [argument.copy() if is_array(argument) else argument for argument in arguments]
    interpret(module, *meant)
    MachineCode(module)(*ran)
    assert_same_bits([got for got in ran if is_array(got)], [want for want in meant if is_array(want)])
