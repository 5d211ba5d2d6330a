"""Kernels lowered from nn programs: every wait, barrier, arrive and fence that matters is missed when it is gone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from lowered_mutants import mutants_of

from crosstile.tools.program import Program

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
BF16 = np.dtype(ml_dtypes.bfloat16)


CASES: dict[tuple[str, str], tuple[list[tuple[tuple[int, ...], Any]], dict[tuple[str, str], int]]] = {
    ("matmul_bf16", "sm_80"): (
        [((72, 136), BF16), ((136, 72), BF16)],
        # A group without a copy: there is none where k has as many blocks as the ring has slots.
        {("commit", "cp.async.commit_group"): 1},
    ),
    ("matmul_bf16", "sm_90a"): (  # four instances on three blocks: one block goes on from the first to the last
        [((400, 328), BF16), ((328, 248), BF16)],
        {
            # Within a block bar.sync orders initialisation: blocks of a cluster that arrive relaxed need the fence.
            ("fence", "fence.mbarrier_init.release.cluster"): 1,
            # In the loop no instruction but wgmma touches the accumulators.
            ("fence", "wgmma.fence.sync.aligned"): 1,
        },
    ),
    ("softmax", "sm_80"): ([((2, 4000), np.float32)], {}),
}
"""The shapes of an example's arguments, and the mutants that survive with reason."""


@pytest.mark.parametrize(("name", "target"), CASES)
def test_every_mutant_that_matters_is_caught(name: str, target: str):
    shapes, survivors = CASES[name, target]
    random = np.random.default_rng(0)
    inputs = [random.standard_normal(shape).astype(dtype) for shape, dtype in shapes]
    program = Program.load(EXAMPLES / f"{name}.mlir", target)
    found = mutants_of(program, target, inputs)
    assert Counter((one.kind, one.instruction.name) for one in found if not one.caught) == survivors, "\n".join(
        map(str, found)
    )
    assert found and any(one.outcome == "fault" for one in found)
