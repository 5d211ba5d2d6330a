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
        # The last slots are released to nobody, and so are those of the result, where no other instance follows.
        ("arrive", "mbarrier.arrive.shared.b64"): 1,
        ("init", "mbarrier.init.shared.b64"): 1,
    },
}

CLUSTERS: dict[str, dict[str, str]] = {
    "two": {
        "step (128, 256) {": "step (128, 256) cluster [2, 1] persistent 1 {",
        "to %b : memref": "to %b multicast [0] : memref",
    },
    "four": {
        "step (128, 256) {": "step (128, 256) raster 2 cluster [2, 2] persistent 1 {",
        "to %a : memref": "to %a multicast [1] : memref",
        "to %b : memref": "to %b multicast [0] : memref",
    },
}
"""The product with roles on clusters, which copy for each other."""


@pytest.mark.parametrize("name", SURVIVORS)
def test_every_mutant_that_matters_is_a_fault(name: str):
    text = (EXAMPLES / f"{name}.mlir").read_text()
    assert_survivors(text, [(128, 448, 128), (128, 40, 128)], SURVIVORS[name])


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_mutant_of_clusters_is_a_fault(name: str):
    """Also the fence of initialisation, the arrivals at other blocks, and the barrier before the end."""
    text = (EXAMPLES / "gemm_sm90a_roles.mlir").read_text()
    for old, new in CLUSTERS[name].items():
        assert old in text
        text = text.replace(old, new)
    # Four instances in a column, and three processors: one cluster, which runs two of them, or two and two beside them.
    assert_survivors(text, [(400, 328, 40)], {("fence", "wgmma.fence.sync.aligned"): 1})


def assert_survivors(text: str, shapes: list[tuple[int, int, int]], survivors: dict[tuple[str, str], int]) -> None:
    """These mutants of products of (m, k) by (k, n), and no others, are faults on none of them."""
    context = make_context()
    module = parse_module(text, "gemm", context)
    run_passes(context, module, [make_pass(spec) for spec in parse_pipeline("mma-to-nvvm{alignment=16}")])
    (function,) = [op for op in module.body.block.ops if isinstance(op, llvm.FuncOp)]
    plan = plan_of(function)

    def run(changed: Module) -> bytes:
        return b"".join(product(changed, *shape) for shape in shapes)

    def product(changed: Module, m: int, k: int, n: int) -> bytes:
        random = np.random.default_rng(0)
        a, b = (random.standard_normal(sides).astype(ml_dtypes.bfloat16) for sides in ((m, k), (k, n)))
        arrays: list[NDArray[Any]] = [a, b, np.zeros((m, n), np.float32)]
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

    ptx = parse_ptx(emit(module))
    found = list(mutants(ptx, ptx.kernels()[0], run))
    survived = Counter((one.kind, one.instruction.name) for one in found if one.outcome != "fault")
    assert survived == survivors, "\n".join(map(str, found))
    assert sum(one.outcome == "fault" for one in found) >= 3
