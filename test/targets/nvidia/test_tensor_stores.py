"""Boxes of a tensor written from shared memory, from nvvm operations to PTX that ptxas takes and the simulator runs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray
from xdsl.utils.exceptions import VerifyException

from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.targets.nvidia.emit import emit
from crosstile.targets.nvidia.ptx.module import Module
from crosstile.targets.nvidia.ptx.parser import parse_ptx
from crosstile.targets.nvidia.ptxas import assemble
from crosstile.targets.nvidia.simulate import GlobalMemory, TensorMap, simulate
from crosstile.targets.nvidia.simulator.mutants import mutants

KERNEL = """
llvm.mlir.global external @shared_memory() {addr_space = 3 : i32} : !llvm.array<0 x i8>
llvm.func @k(%map: !llvm.ptr) attributes {nvvm.kernel, nvvm.reqntid = array<i32: 64>, crosstile.target = "sm_90a",
    crosstile.shared = 256 : i64} {
  %c0 = arith.constant 0 : i32
  %column = arith.constant 0 : i32
  %row = arith.constant 3 : i32
  %four = arith.constant 4 : i32
  %thread = nvvm.read.ptx.sreg.tid.x : i32
  %offset = arith.muli %thread, %four : i32
  %memory = llvm.mlir.addressof @shared_memory : !llvm.ptr<3>
  %place = llvm.getelementptr %memory[%offset] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i8
  llvm.store %thread, %place : i32, !llvm.ptr<3>
  nvvm.fence.proxy {kind = #nvvm.proxy_kind<async.shared>, space = #nvvm.shared_space<cta>}
  nvvm.barrier0
  %first = arith.cmpi eq, %thread, %c0 : i32
  nvvm.cp.async.bulk.tensor.global.shared.cta %map, %memory, box[%column, %row] predicate = %first
      : !llvm.ptr, !llvm.ptr<3>
  nvvm.cp.async.bulk.commit.group
  nvvm.cp.async.bulk.wait_group 0 {read}
  nvvm.barrier0
  llvm.store %c0, %place : i32, !llvm.ptr<3>
  nvvm.cp.async.bulk.wait_group 0
  llvm.return
}
"""


def run(module: Module) -> NDArray[np.uint32]:
    """A box of 4 x 16 from row 3 of a tensor of 5 x 16, whose sources are overwritten once they have been read."""
    memory = GlobalMemory()
    y = memory.allocate(np.full((5, 16), 999, np.uint32))
    simulate(module, "k", (1,), (64,), [TensorMap.row_major("u32", y, (5, 16), (16, 1), (4, 16))], memory, 256)
    return memory.read(y)


def compiled() -> str:
    """The PTX of the kernel."""
    return emit(parse_module(KERNEL, "store.mlir", make_context()))


def test_rows_beyond_the_tensor_are_not_written():
    expected = np.full((5, 16), 999)
    expected[3:] = np.arange(32).reshape(2, 16)
    np.testing.assert_array_equal(run(parse_ptx(compiled())), expected)


def test_ptxas_takes_it():
    assert assemble(compiled(), "sm_90a")[0]


def test_every_fence_wait_and_barrier_but_the_last_wait_matters():
    """A block that ends completes its copies: what waits for their writes serves this thread, which reads none."""
    found = list(mutants(parse_ptx(compiled()), "k", lambda changed: run(changed).tobytes()))
    survivors = Counter((one.instruction.name, one.change) for one in found if not one.caught)
    last = "cp.async.bulk.wait_group"
    assert survivors == {(last, "left out"): 1, (last, "waiting until 1 are left"): 1}, "\n".join(map(str, found))


def test_a_number_of_groups_is_not_negative():
    module = parse_module(KERNEL.replace("wait_group 0 {read}", "wait_group -1 {read}"), "k.mlir", make_context())
    with pytest.raises(VerifyException, match="waits for -1 groups; expects at least 0"):
        module.verify()
