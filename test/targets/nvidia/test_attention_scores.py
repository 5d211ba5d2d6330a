"""Keys beyond the last, which copies fill with zeros, have no weight, however far below 0 all other scores are."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from crosstile.targets.nvidia.run import DeviceProgram, HostModule, SimulatedDevice, call_with_arrays
from crosstile.tools.device import DeviceKernels
from crosstile.tools.program import Program

DTYPES = {"bf16": ml_dtypes.bfloat16, "f16": np.float16, "f32": np.float32}


def program(element: str, words: str, head: int) -> str:
    type_ = f"tensor<1x1x?x{head}x{element}>"
    rows, keys = '{nn.dims = ["_", "_", "M", "_"]}', '{nn.dims = ["_", "_", "N", "_"]}'
    return f"""func.func @main(%q: {type_} {rows}, %k: {type_} {keys}, %v: {type_} {keys}) -> {type_} {{
      %y = nn.attention %q, %k, %v {words} accumulate f32 : {type_}, {type_}, {type_}
      func.return %y : {type_}
    }}"""


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize(
    ("element", "words", "head", "sizes"),
    [
        ("bf16", "", 16, (5, 131)),
        ("bf16", "causal", 16, (131, 259)),
        ("f16", "", 24, (66, 1)),
        ("bf16", "", 7, (3, 67)),
        ("f32", "", 16, (5, 67)),
    ],
    ids=str,
)
def test_weights_of_what_is_no_key_are_zero(
    element: str, words: str, head: int, sizes: tuple[int, int], target: str
) -> None:
    """Scores are -1600 times the root of ``head``: compared with them a key of zeros would have an infinite weight."""
    (m, n), dtype = sizes, DTYPES[element]
    q, k, v = (np.full((1, 1, rows, head), value, dtype) for rows, value in ((m, 40), (n, -40), (n, 1)))
    compiled = Program.of_text("attention.mlir", program(element, words, head), f"nvidia-{target}")
    kernels = DeviceKernels(compiled)
    host = HostModule(kernels.host, compiled.entry)
    (found,) = call_with_arrays(DeviceProgram(host, kernels, SimulatedDevice(target)), [q, k, v])
    np.testing.assert_array_equal(found.astype(np.float32), np.ones((1, 1, m, head), np.float32))
