"""Attention whose products overlap with its softmax gives the same bits in the interpreter, whatever it has to mask."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from xdsl.dialects import scf
from xdsl.dialects.builtin import MemRefType, ModuleOp

from crosstile.dialects import mma, upstream_meaning
from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.mma import meaning
from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.ir.passes import run_passes
from crosstile.ir.pipeline import make_pass, parse_pipeline
from crosstile.ir.verification import verify_module
from crosstile.passes.overlap_products import OverlapProductsPass
from crosstile.passes.peel_loops import PeelLoopsPass
from crosstile.targets.nvidia.pipeline import steps

TARGET = "nvidia-sm_90a"
SIZES = [(3, 1), (130, 127), (7, 128), (129, 129), (1, 257), (200, 131), (5, 509)]
"""Numbers of queries and keys; with more queries than keys and ``causal`` the first ones see none."""


def attention(words: str, head: int, m: Any = "?", n: Any = "?") -> ModuleOp:
    """The kernel for aligned rows at the mma level, as ``tile-to-mma`` leaves it; two heads share keys and values."""
    q, kv = f"tensor<1x2x{m}x{head}xbf16>", f"tensor<1x1x{n}x{head}xbf16>"
    text = f"""func.func @main(%q: {q}, %k: {kv}, %v: {kv}) -> {q} {{
      %y = nn.attention %q, %k, %v {words} accumulate f32 : {q}, {kv}, {kv}
      func.return %y : {q}
    }}"""
    context = make_context()
    module = parse_module(text, "attention.mlir", context)
    passes = [*steps(TARGET, "nest"), *steps(TARGET, "tile"), f"tile-to-mma{{target={TARGET}}}"]
    run_passes(context, module, [make_pass(spec) for spec in parse_pipeline(",".join(passes))])
    return module


def run(module: ModuleOp, arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """What the kernel with roles writes."""
    kernel = next(op for op in module.walk() if isinstance(op, mma.KernelOp) and has_roles(op))
    types = [argument.type for argument in kernel.body.block.args]
    tensors = [type_.get_shape() for type_ in types if isinstance(type_, MemRefType) and type_.get_shape()]
    output: NDArray[Any] = np.full(arrays[0].shape, np.nan, arrays[0].dtype)
    rows = [array.shape[2] for array in (*arrays, output)]
    given: list[Any] = [
        array.reshape([size if size >= 0 else count for size in shape])
        for array, count, shape in zip((*arrays, output), rows, tensors, strict=True)
    ]
    if len(types) > len(given):  # by how many keys the first query is behind the first key
        given.insert(2, np.asarray(rows[1] - rows[0]))
    Interpreter(module, upstream_meaning.MEANINGS, meaning.MEANINGS).call(kernel.sym_name.data, given)
    return output


def has_roles(kernel: mma.KernelOp) -> bool:
    return any(isinstance(op, mma.RolesOp) for op in kernel.walk())


def in_flight(module: ModuleOp) -> list[int]:
    """How many products the awaits of the kernel with roles leave running."""
    kernel = next(op for op in module.walk() if isinstance(op, mma.KernelOp) and has_roles(op))
    return [op.count for op in kernel.walk() if isinstance(op, mma.AwaitOp)]


@pytest.mark.parametrize(("words", "head"), [("", 16), ("causal", 16), ("", 64), ("causal", 136)])
def test_results_are_the_same(words: str, head: int):
    before = attention(words, head)
    after, peeled = before.clone(), before.clone()
    run_passes(make_context(), after, [OverlapProductsPass()])
    run_passes(make_context(), peeled, [OverlapProductsPass(), PeelLoopsPass()])
    for module in (after, peeled):
        verify_module(module)
    assert in_flight(before) == [0, 0]
    assert in_flight(after) == [0, 1, 0, 0]
    assert in_flight(peeled) == [0, 1, 0, 1, 0, 0]
    for m, n in SIZES:
        random = np.random.default_rng(m + n)
        shapes = (1, 2, m, head), (1, 1, n, head), (1, 1, n, head)
        arrays: list[NDArray[Any]] = [random.standard_normal(shape).astype(ml_dtypes.bfloat16) for shape in shapes]
        wanted = run(before, arrays)
        assert np.isfinite(wanted.astype(np.float32)).all()
        for module in (after, peeled):
            np.testing.assert_array_equal(run(module, arrays).view(np.uint16), wanted.view(np.uint16))


def test_a_single_block_of_keys_is_left_alone():
    module = attention("", 64, m=128, n=100)
    before = module.clone()
    run_passes(make_context(), module, [OverlapProductsPass()])
    assert module.is_structurally_equivalent(before)


def test_what_does_not_fit_a_threads_registers_is_left_alone():
    module = attention("", 320)
    before = module.clone()
    run_passes(make_context(), module, [OverlapProductsPass()])
    assert module.is_structurally_equivalent(before)


def test_the_products_start_one_behind_the_other():
    """No branch, no wait and no other write to registers stands between them; the softmax is between start and end."""
    module = attention("causal", 64)
    run_passes(make_context(), module, [OverlapProductsPass(), PeelLoopsPass()])
    loops = [op for op in module.walk() if isinstance(op, scf.ForOp)]
    rotated = [loop for loop in loops if sum(isinstance(op, mma.MmaAsyncOp) for op in loop.body.block.ops) == 2]
    assert len(rotated) == 2
    for loop in rotated:
        names = [op.name for op in loop.body.block.ops]
        first = names.index("mma.mma_async")
        assert names[first + 1] == "mma.mma_async"
        last = len(names) - 1 - names[::-1].index("mma.await")
        assert "mma.reduce" in names[first:last] and names[last - 1] == "mma.wait"
