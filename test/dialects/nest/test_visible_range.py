"""The ends that are read off a mask are those of what it shows."""

from __future__ import annotations

import numpy as np
import pytest

from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.nest.generic import GenericOp
from crosstile.dialects.nest.meaning import MEANINGS as NEST
from crosstile.dialects.nest.visible_range import Bound, Mask, mask_of
from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM
from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module

M, N, SHIFT = 9, 12, 3


def masked(lines: str) -> tuple[Mask, np.ndarray]:
    """The mask of a nest over m and n whose body is ``lines`` on a score %p and an index %shift, and what it shows."""
    text = f"""func.func @main(%x: tensor<{M}x{N}xf32>, %s: tensor<index>) -> tensor<{M}x{N}xf32> {{
      %y = nest.generic [m : parallel, n : parallel] ins(%x (m, n), %s () : tensor<{M}x{N}xf32>, tensor<index>)
          -> (m, n) : tensor<{M}x{N}xf32> {{
      ^bb0(%p: f32, %shift: index):
        %i = nest.index m
        %j = nest.index n
        %hidden = arith.constant 0xFF800000 : f32
        {lines}
        nest.yield %r : f32
      }}
      func.return %y : tensor<{M}x{N}xf32>
    }}"""
    module = parse_module(text, "input.mlir", make_context())
    (nest,) = (op for op in module.walk() if isinstance(op, GenericOp))
    arguments = [np.ones((M, N), np.float32), np.array(SHIFT)]
    (result,) = Interpreter(module, UPSTREAM, NEST).call("main", arguments)
    return mask_of(nest, 1), np.isfinite(result)


def shown_by(bounds: tuple[Bound, ...]) -> np.ndarray:
    """What lies within the ends."""
    rows, columns = np.arange(M)[:, None], np.arange(N)[None, :]
    shown = np.ones((M, N), bool)
    for bound in bounds:
        edge = bound.factor * (rows if bound.row == 0 else 0) + bound.constant
        edge = edge + sum(factor * SHIFT for _, factor in bound.inputs)
        shown &= columns <= edge if bound.is_upper else columns >= edge
    return shown


EXACT = {
    "causal": "%d = arith.subi %j, %i : index %c = arith.cmpi sle, %d, %shift : index "
    "%r = arith.select %c, %p, %hidden : f32",
    "causal, the other way": "%d = arith.addi %i, %shift : index %c = arith.cmpi sgt, %j, %d : index "
    "%r = arith.select %c, %hidden, %p : f32",
    "strictly before": "%c = arith.cmpi slt, %j, %i : index %r = arith.select %c, %p, %hidden : f32",
    "a length": "%c = arith.cmpi sgt, %shift, %j : index %r = arith.select %c, %p, %hidden : f32",
    "mirrored": "%d = arith.addi %i, %j : index %e = arith.constant 9 : index %c = arith.cmpi sge, %d, %e : index "
    "%r = arith.select %c, %p, %hidden : f32",
    "a window": "%d = arith.subi %j, %i : index %a = arith.cmpi sle, %d, %shift : index "
    "%e = arith.constant -2 : index %b = arith.cmpi sgt, %d, %e : index %c = arith.andi %a, %b : i1 "
    "%r = arith.select %c, %p, %hidden : f32",
    "two selections": "%a = arith.cmpi sle, %j, %i : index %t = arith.select %a, %p, %hidden : f32 "
    "%e = arith.constant 2 : index %b = arith.cmpi slt, %j, %e : index %r = arith.select %b, %hidden, %t : f32",
    "hidden on either side": "%a = arith.cmpi sgt, %j, %i : index %e = arith.constant 2 : index "
    "%b = arith.cmpi slt, %j, %e : index %c = arith.ori %a, %b : i1 %r = arith.select %c, %hidden, %p : f32",
}


@pytest.mark.parametrize("lines", EXACT.values(), ids=EXACT.keys())
def test_comparisons_of_indices_are_ends(lines: str):
    mask, shown = masked(lines)
    assert mask.is_exact and mask.bounds
    np.testing.assert_array_equal(shown_by(mask.bounds), shown)


PARTIAL = {
    "every other": "%two = arith.constant 2 : index %h = arith.remsi %j, %two : index "
    "%a = arith.cmpi eq, %h, %shift : index %b = arith.cmpi sle, %j, %i : index %c = arith.andi %a, %b : i1 "
    "%r = arith.select %c, %p, %hidden : f32",
    "shown on either side": "%a = arith.cmpi sgt, %j, %i : index %b = arith.cmpi slt, %j, %shift : index "
    "%c = arith.ori %a, %b : i1 %r = arith.select %c, %p, %hidden : f32",
}


@pytest.mark.parametrize("lines", PARTIAL.values(), ids=PARTIAL.keys())
def test_what_is_not_understood_hides_nothing(lines: str):
    mask, shown = masked(lines)
    assert not mask.is_exact
    assert not np.any(shown & ~shown_by(mask.bounds))


def test_other_selections_are_no_masks():
    mask, _ = masked(
        "%c = arith.cmpi sle, %j, %i : index %z = arith.constant 0.0 : f32 %r = arith.select %c, %p, %z : f32"
    )
    assert mask.bounds == () and mask.is_exact
