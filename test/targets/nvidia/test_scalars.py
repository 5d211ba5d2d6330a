"""Every scalar operation that is printed as PTX, executed in the simulator and compared with its meaning in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.upstream_meaning import MEANINGS
from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.targets.nvidia.emit import emit
from crosstile.targets.nvidia.printing.scalars import FLOATS, INTEGERS
from crosstile.targets.nvidia.simulate import GlobalMemory, simulate

Array = NDArray[Any]

OPERANDS = {"math.fma": 3} | dict.fromkeys(
    (
        *("arith.negf", "math.absf", "math.sqrt", "math.rsqrt", "math.exp2"),
        *("math.floor", "math.ceil", "math.trunc", "math.roundeven"),
    ),
    1,
)
"""How many operands an operation has, if not two."""
APPROXIMATE = ("math.rsqrt", "math.exp2")
ABSENT = [(name, "f64") for name in APPROXIMATE]
"""Instructions that there are for f32 only."""

KERNEL = """
llvm.func @k({parameters}) attributes {{nvvm.kernel, nvvm.reqntid = array<i32: 32>, crosstile.target = "sm_80"}} {{
  %t = nvvm.read.ptx.sreg.tid.x : i32
  %size = arith.constant {size} : i32
  %byte = arith.muli %t, %size : i32
{loads}
  %r = {operation}
  %p = llvm.getelementptr %to[%byte] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i8
  llvm.store %r, %p : {type}, !llvm.ptr<1>
  llvm.return
}}
func.func @meaning({arguments}) -> {type} {{
  %r = {operation}
  func.return %r : {type}
}}
"""
LOAD = """  %p{i} = llvm.getelementptr %x{i}[%byte] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i8
  %{i} = llvm.load %p{i} : !llvm.ptr<1> -> {type}"""


def both(name: str, type_: str, inputs: list[Array]) -> tuple[Array, Array]:
    """What the kernel writes, and what the operation means."""
    count = range(len(inputs))
    values = ", ".join(f"%a{i}" for i in count)
    text = KERNEL.format(
        parameters=", ".join([*(f"%x{i}: !llvm.ptr<1>" for i in count), "%to: !llvm.ptr<1>"]),
        loads="\n".join(LOAD.format(i=i, type=type_).replace(f"%{i} =", f"%a{i} =") for i in count),
        operation=f"{name} {values} : {type_}",
        arguments=", ".join(f"%a{i}: {type_}" for i in count),
        type=type_,
        size=inputs[0].itemsize,
    )
    module = parse_module(text, "k.mlir", make_context())
    memory = GlobalMemory()
    addresses = [memory.allocate(array) for array in inputs]
    to = memory.empty((32,), inputs[0].dtype)
    simulate(emit(module), "k", (1,), (32,), [*addresses, to], memory)
    (want,) = Interpreter(module, MEANINGS).call("meaning", inputs)
    return memory.read(to), want


@pytest.mark.parametrize(
    ("name", "type_"),
    [(name, type_) for name in FLOATS for type_ in ("f32", "f64") if (name, type_) not in ABSENT],
)
def test_floats(name: str, type_: str) -> None:
    dtype = np.float32 if type_ == "f32" else np.float64
    rng = np.random.default_rng(len(name))
    inputs = [rng.standard_normal(32).astype(dtype) * dtype(4) for _ in range(OPERANDS.get(name, 2))]
    inputs[0][:6] = [0.0, -0.0, 2.5, -2.5, 0.5, np.inf]
    if name in ("math.sqrt", "math.rsqrt"):
        inputs[0] = np.abs(inputs[0])
    found, want = both(name, type_, inputs)
    if name in APPROXIMATE:
        np.testing.assert_allclose(found, want, rtol=2.0**-21)
    else:
        np.testing.assert_array_equal(found, want)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(want))


@pytest.mark.parametrize("type_", ["i32", "i64"])
@pytest.mark.parametrize("name", INTEGERS)
def test_integers(name: str, type_: str) -> None:
    dtype = np.int32 if type_ == "i32" else np.int64
    limits, rng = np.iinfo(dtype), np.random.default_rng(len(name))
    x = rng.integers(limits.min, limits.max, 32, dtype=dtype)
    y = (
        rng.integers(1, 31, 32, dtype=dtype)
        if "sh" in name
        else rng.integers(-9, 9, 32, dtype=dtype) * dtype(2) + dtype(1)
    )
    found, want = both(name, type_, [x, y])
    np.testing.assert_array_equal(found, want)
