"""Kernels apart from their host functions: declared where they are called, visible where they are, the same results."""

from __future__ import annotations

import pytest
from xdsl.dialects.func import FuncOp

from crosstile.dialects import mma
from crosstile.dialects.host import host_functions
from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.ir.passes import run_pass
from crosstile.ir.pipeline import make_pass, parse_pipeline
from crosstile.ir.printing import print_module
from crosstile.ir.verification import verify_module
from crosstile.lowering.split_kernels import certain_launches, split_kernels

KERNELS = "\n".join(
    f"""mma.kernel @{name}(%A : memref<?xf32>) target "x86-64-avx512" {{
      %scratch = mma.alloc : !mma.buffer<{size}xf32>
      mma.return
    }}"""
    for name, size in (("small", 16), ("large", 64), ("always", 32))
)
HOST = """func.func @main(%x : memref<?xf32>, %flag : memref<i1>) attributes {
    crosstile.inputs = 2 : index, crosstile.result_shapes = []} {
  %zero = arith.constant 0 : index
  %n = memref.dim %x, %zero : memref<?xf32>
  %few = arith.cmpi slt, %n, %zero : index
  %set = memref.load %flag[] : memref<i1>
  scf.if %CONDITION {
    tile.launch @small(%x : memref<?xf32>) {stage = 0}
  } else {
    tile.launch @large(%x : memref<?xf32>) {stage = 0}
  }
  tile.launch @always(%x : memref<?xf32>) {stage = 1}
  func.return
}"""


@pytest.mark.parametrize(("condition", "certain"), [("few", {"always"}), ("set", {"always", "small", "large"})])
def test_what_sizes_alone_choose_is_not_certain(condition: str, certain: set[str]):
    module = parse_module(KERNELS + HOST.replace("CONDITION", condition), "split.mlir", make_context())
    (host,) = host_functions(module)
    assert certain_launches(host) == certain


def test_both_sides_agree_on_the_function():
    context = make_context()
    module = parse_module(KERNELS + HOST.replace("CONDITION", "few"), "split.mlir", context)
    verify_module(module)
    kernels = split_kernels(module)
    assert list(kernels) == ["small", "large", "always"]
    assert not any(isinstance(op, mma.KernelOp) for op in module.ops)
    for part in (module, *kernels.values()):
        for spec in parse_pipeline("plan-buffers,mma-to-hardware"):
            run_pass(context, part, make_pass(spec))
        verify_module(part)
    declared = {op.sym_name.data: op for op in module.ops if isinstance(op, FuncOp) and op.is_declaration}
    for name, part in kernels.items():
        (defined,) = part.ops
        assert isinstance(defined, FuncOp) and defined.sym_visibility is None
        declaration = declared[f"{name}.kernel"]
        assert declaration.function_type == defined.function_type
        assert declaration.attributes["crosstile.scratch"] == defined.attributes["crosstile.scratch"]
    text = print_module(module)
    assert "func.call @small.kernel" in text and "func.call @always.kernel" in text
    assert text.count("arith.constant 256 : index") >= 1, "the arena has room for the largest kernel's scratch"
