"""What nest-to-tile refuses, and how it says so."""

import pytest

from crosstile.ir.context import make_context
from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.parsing import parse_module
from crosstile.ir.passes import run_passes
from crosstile.ir.pipeline import make_pass, parse_pipeline
from crosstile.ir.printing import print_module

PRODUCT = """
func.func @main(%x : tensor<?x?xf32>, %w : tensor<?x?xf32>) -> tensor<?x?xf32> {
  %y = nest.kernel @product (%a = %x : tensor<?x?xf32>, %b = %w : tensor<?x?xf32>) -> (tensor<?x?xf32>) SCHEDULES {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (m, k), %b (k, n) : tensor<?x?xf32>, tensor<?x?xf32>) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%p : f32, %q : f32):
      %t = arith.mulf %p, %q : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<?x?xf32>
  }
  func.return %y : tensor<?x?xf32>
}
"""
INTRINSIC = 'intrinsic = "x86.avx512.fma.1x16x1.f32"'


def lower(text: str) -> str:
    context = make_context()
    module = parse_module(text, "input.mlir", context)
    run_passes(context, module, [make_pass(spec) for spec in parse_pipeline("nest-to-tile")])
    return print_module(module)


@pytest.mark.parametrize(
    "schedules, message",
    [
        ("", "the kernel has no schedule: run choose-schedule first, or write one"),
        (
            f"schedules [#nest.schedule<loops = [m : 4, n : 64], lane = n, {INTRINSIC}>]",
            "the schedule has no loop over k: with an intrinsic it needs m, n and all of k",
        ),
    ],
)
def test_a_schedule_that_cannot_be_followed_is_refused(schedules: str, message: str):
    with pytest.raises(CrosstileError, match=f"nest-to-tile: 'nest.kernel': {message}") as caught:
        lower(PRODUCT.replace("SCHEDULES", schedules))
    assert caught.value.location is not None


def test_the_register_tile_is_the_schedules():
    schedule = f"schedules [#nest.schedule<loops = [k : 512, m : 3, n : 48], lane = n, {INTRINSIC}>]"
    assert "!tile.tile<3x48xf32>" in lower(PRODUCT.replace("SCHEDULES", schedule))
