"""Programs of bf16 and f16, which few cores have instructions for: right, and the same bits at mma and as code."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from crosstile.targets.host import host_machine
from crosstile.tools.judge import Judge
from crosstile.tools.program import Program

DTYPES: dict[str, Any] = {"bf16": ml_dtypes.bfloat16, "f16": np.float16}
PROGRAM = """func.func @main(%x: tensor<?x?xTYPE>, %b: tensor<?xTYPE>) -> tensor<?x?xTYPE> {
  %0 = nn.add %x, %b : tensor<?x?xTYPE>, tensor<?xTYPE>
  %1 = nn.gelu %0 : tensor<?x?xTYPE>
  %2 = nn.exp %1 : tensor<?x?xTYPE>
  %y = nn.max %2, %b : tensor<?x?xTYPE>, tensor<?xTYPE>
  func.return %y : tensor<?x?xTYPE>
}"""


@pytest.mark.parametrize("element", DTYPES)
@pytest.mark.parametrize("target", [host_machine().name, "x86-64-avx2"])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 37)])
def test_elementwise_programs(element: str, target: str, shape: tuple[int, int]):
    random = np.random.default_rng(0)
    arguments = [random.standard_normal(size).astype(DTYPES[element]) for size in (shape, shape[1:])]
    report = Judge(Program.load(PROGRAM.replace("TYPE", element), target), arguments).run()
    assert report.right, [(verdict.level, verdict.share, verdict.error, verdict.remarks) for verdict in report.verdicts]
    assert "the same bits as mma" in report.verdicts[-1].remarks
