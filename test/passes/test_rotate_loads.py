"""Rotated and peeled kernels give the same bits in the interpreter, which delivers copies as late as it may."""

from __future__ import annotations

import numpy as np
import pytest
from mma_examples import EXAMPLES, read, run
from xdsl.dialects import scf

from crosstile.dialects import mma
from crosstile.ir.context import make_context
from crosstile.ir.passes import run_passes
from crosstile.passes.peel_loops import PeelLoopsPass
from crosstile.passes.rotate_loads import RotateLoadsPass

SIZES = {
    "gemm_sm80_ring": [(5, 7, k) for k in (0, 1, 16, 31, 32, 33, 97, 128, 131, 200, 257)],
    "grouped_matmul_sm80": [(1, 9, 4, 0, 3), (130, 8, 5, 130), (200, 20, 3, 0, 129)],
}


@pytest.mark.parametrize("passes", [(RotateLoadsPass(),), (PeelLoopsPass(),), (RotateLoadsPass(), PeelLoopsPass())])
@pytest.mark.parametrize("name", SIZES)
def test_results_are_the_same(name: str, passes: tuple[RotateLoadsPass | PeelLoopsPass, ...]):
    (example,) = [one for one in EXAMPLES if str(one) == name]
    changed = read(example).clone()
    run_passes(make_context(), changed, list(passes))
    assert not changed.is_structurally_equivalent(read(example))
    for sizes in SIZES[name]:
        wanted, found = example.problem(*sizes), example.problem(*sizes)
        run(read(example), example.kernel, wanted)
        run(changed, example.kernel, found)
        assert wanted.is_right()
        np.testing.assert_array_equal(wanted.output, found.output)


def test_steady_trips_have_neither_branches_nor_masks():
    (example,) = [one for one in EXAMPLES if str(one) == "gemm_sm80_ring"]
    module = read(example).clone()
    run_passes(make_context(), module, [RotateLoadsPass(), PeelLoopsPass()])
    loops = [op for op in module.walk() if isinstance(op, scf.ForOp)]
    steady, last = (loop for loop in loops if any(isinstance(op, mma.MmaOp) for op in loop.walk()))
    assert not any(isinstance(op, scf.IfOp) for op in steady.walk())
    assert any(isinstance(op, scf.IfOp) for op in last.walk())


@pytest.mark.parametrize("name", ["gemm_cpu", "layer_norm", "gemm_sm90a_roles", "flash_attention_sm90a"])
def test_other_kernels_are_left_alone(name: str):
    (example,) = [one for one in EXAMPLES if str(one) == name]
    module = read(example).clone()
    run_passes(make_context(), module, [RotateLoadsPass(), PeelLoopsPass()])
    assert module.is_structurally_equivalent(read(example))
