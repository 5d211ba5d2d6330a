"""Attention's kernels: every wait, barrier, arrive and fence that matters is missed when it is gone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from xdsl.dialects import llvm

from crosstile.targets.nvidia.emit import emit
from crosstile.targets.nvidia.launch import Argument, DeviceArray, plan_of
from crosstile.targets.nvidia.ptx.module import Module
from crosstile.targets.nvidia.ptx.parser import parse_ptx
from crosstile.targets.nvidia.simulate import GlobalMemory, simulate
from crosstile.targets.nvidia.simulator.mutants import mutants
from crosstile.tools.program import Program

PROGRAM = """
func.func @main(%q: tensor<1x1x?x16xbf16> {nn.dims = ["_", "_", "M", "_"]},
    %k: tensor<1x1x?x16xbf16> {nn.dims = ["_", "_", "N", "_"]},
    %v: tensor<1x1x?x16xbf16> {nn.dims = ["_", "_", "N", "_"]}) -> tensor<1x1x?x16xbf16> {
  %y = nn.attention %q, %k, %v WORDS accumulate f32
      : tensor<1x1x?x16xbf16>, tensor<1x1x?x16xbf16>, tensor<1x1x?x16xbf16>
  func.return %y : tensor<1x1x?x16xbf16>
}
"""
WITH_ROLES = {
    # Barriers are initialised before a barrier of the block, which is all that the simulator asks for.
    ("fence", "fence.mbarrier_init.release.cluster"): 1,
    # Queries have one slot, which a block fills once: nobody waits for it to be free.
    ("wait", "mbarrier.try_wait.parity.shared.b64"): 1,
    # Behind the first product's fence no other instruction writes a register that the second one reads.
    ("fence", "wgmma.fence.sync.aligned"): 2,
    # The last slots of queries and keys, and the last two of values, are released to nobody.
    ("arrive", "mbarrier.arrive.shared.b64"): 4,
    ("init", "mbarrier.init.shared.b64"): 1,
}
SURVIVORS: dict[tuple[str, str], dict[tuple[str, str], int]] = {
    # Groups without a copy, where there is no block of keys left: every wait is for all groups.
    ("f32", "nvidia-sm_80"): {("commit", "cp.async.commit_group"): 2},
    ("bf16", "nvidia-sm_80"): {("commit", "cp.async.commit_group"): 2},
    ("bf16", "nvidia-sm_90a"): WITH_ROLES,
    # The loop of the last trips, which compare positions, has two: the first frees a slot of values that is filled.
    ("bf16 causal", "nvidia-sm_90a"): {**WITH_ROLES, ("arrive", "mbarrier.arrive.shared.b64"): 3},
}
SIZES = {"nvidia-sm_80": (64, 200), "nvidia-sm_90a": (128, 520)}
"""One block of queries, and enough of keys to come back to a slot; the last are masked, in a loop of their own."""
DTYPES = {"bf16": ml_dtypes.bfloat16, "f32": np.float32}


@pytest.mark.parametrize(("element", "target"), SURVIVORS)
def test_every_mutant_that_matters_is_a_fault(element: str, target: str):
    expected = SURVIVORS[element, target]
    element, _, words = element.partition(" ")
    text = PROGRAM.replace("bf16", element).replace("WORDS", words)
    program = Program.of_text("attention.mlir", text, target)
    module = program.lower_kernel(program.kernel_modules()[1]["attention"])
    (function,) = [op for op in module.body.block.ops if isinstance(op, llvm.FuncOp)]
    plan = plan_of(function)
    random = np.random.default_rng(0)
    queries, keys = SIZES[target]
    arrays: list[NDArray[Any]] = [
        random.standard_normal((1, 1, rows, 16)).astype(DTYPES[element]) for rows in (queries, keys, keys, queries)
    ]

    def run(changed: Module) -> bytes:
        memory = GlobalMemory()
        given: list[Argument] = [
            DeviceArray(memory.allocate(array), array.shape, (array.size, array.size, 16, 1), array.itemsize)
            for array in arrays
        ]
        if words:  # by how many keys the first query is behind the first key
            shift = memory.allocate(np.array([keys - queries], np.int64))
            given.insert(2, DeviceArray(shift, (), (), 8))
        launch = plan.launch(given, 1)
        assert launch is not None
        arguments = list(launch.arguments)
        simulate(changed, launch.kernel, launch.grid, launch.block, arguments, memory, launch.shared_bytes)
        result = given[-1]
        assert isinstance(result, DeviceArray)
        return memory.read(result.address).tobytes()

    parsed = parse_ptx(emit(module))
    found = list(mutants(parsed, parsed.kernels()[0], run))
    survivors = Counter((one.kind, one.instruction.name) for one in found if one.outcome != "fault")
    assert survivors == expected, "\n".join(map(str, found))
    assert sum(one.outcome == "fault" for one in found) >= 3
