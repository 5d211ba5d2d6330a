"""The hand-written products, compiled: every wait, barrier, arrive and fence that matters is missed when it is gone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from xdsl.dialects import llvm

from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.ir.passes import run_passes
from crosstile.ir.pipeline import make_pass, parse_pipeline
from crosstile.targets.nvidia.emit import emit
from crosstile.targets.nvidia.launch import Argument, DeviceArray, plan_of
from crosstile.targets.nvidia.ptx.module import Module
from crosstile.targets.nvidia.ptx.parser import parse_ptx
from crosstile.targets.nvidia.simulate import GlobalMemory, simulate
from crosstile.targets.nvidia.simulator.mutants import mutants

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "mma"

SURVIVORS: dict[str, dict[tuple[str, str], int]] = {
    "gemm_sm80_ring": {},
    "gemm_sm90a_roles": {
        # Within a block bar.sync orders initialisation: blocks of a cluster that arrive relaxed need the fence.
        ("fence", "fence.mbarrier_init.release.cluster"): 1,
        # In the loop no instruction but wgmma touches the accumulators.
        ("fence", "wgmma.fence.sync.aligned"): 1,
        # The last slots are released to nobody.
        ("arrive", "mbarrier.arrive.shared.b64"): 1,
    },
}


@pytest.mark.parametrize("name", SURVIVORS)
def test_every_mutant_that_matters_is_a_fault(name: str):
    context = make_context()
    module = parse_module((EXAMPLES / f"{name}.mlir").read_text(), name, context)
    run_passes(context, module, [make_pass(spec) for spec in parse_pipeline("mma-to-nvvm{alignment=16}")])
    (function,) = [op for op in module.body.block.ops if isinstance(op, llvm.FuncOp)]
    plan = plan_of(function)
    random = np.random.default_rng(0)
    a, b = (random.standard_normal(shape).astype(ml_dtypes.bfloat16) for shape in ((128, 448), (448, 128)))
    arrays: list[NDArray[Any]] = [a, b, np.zeros((128, 128), np.float32)]

    def run(changed: Module) -> bytes:
        memory = GlobalMemory()
        given: list[Argument] = [
            DeviceArray(memory.allocate(array), array.shape, (array.shape[1], 1), array.itemsize) for array in arrays
        ]
        launch = plan.launch(given, 3)
        assert launch is not None
        arguments = list(launch.arguments)
        simulate(changed, launch.kernel, launch.grid, launch.block, arguments, memory, launch.shared_bytes)
        result = given[-1]
        assert isinstance(result, DeviceArray)
        return memory.read(result.address).tobytes()

    text = parse_ptx(emit(module))
    found = list(mutants(text, text.kernels()[0], run))
    survivors = Counter((one.kind, one.instruction.name) for one in found if one.outcome != "fault")
    assert survivors == SURVIVORS[name], "\n".join(map(str, found))
    assert sum(one.outcome == "fault" for one in found) >= 3
