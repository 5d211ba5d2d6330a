"""Fused attention at the nest and the tile level against NumPy: ragged sizes, blocks of every shape, masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import ArrayAttr, ModuleOp

import crosstile
from crosstile.dialects.host import host_functions, host_signature
from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.nest.attention_roles import AttentionRoles, attention_roles
from crosstile.dialects.nest.axes import KernelAxes
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.dialects.nest.meaning import MEANINGS as NEST
from crosstile.dialects.nest.schedule import GuardAttr, GuardedScheduleAttr, Loop, Schedule, ScheduleAttr
from crosstile.dialects.tile.meaning import MEANINGS as TILE
from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM
from crosstile.ir.context import make_context
from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.parsing import parse_module
from crosstile.ir.passes import run_passes
from crosstile.ir.pipeline import make_pass, parse_pipeline

Array = np.ndarray[Any, Any]
CONTEXT = make_context()
TO_NESTS = "decompose,canonicalize,nn-to-nest,fuse,fuse-attention"
FMA = "x86.avx512.fma.1x16x1.f32"


def run_pipeline(module: ModuleOp, pipeline: str) -> None:
    run_passes(CONTEXT, module, [make_pass(spec) for spec in parse_pipeline(pipeline)])


def fused(text: str) -> tuple[ModuleOp, KernelOp]:
    """The program with its attention fused, and the kernel."""
    module = parse_module(text, "input.mlir", CONTEXT)
    run_pipeline(module, TO_NESTS)
    (kernel,) = (op for op in module.walk() if isinstance(op, KernelOp))
    return module, kernel


def with_schedule(
    roles: AttentionRoles, lane: str, queries: int, keys: int, stage: bool, ordered: bool = False
) -> Schedule:
    """A schedule with queries or keys across ``lane``, packing what then is the right factor of the scores."""
    assert roles.m is not None
    steps = {roles.n: keys, roles.d: roles.d.size or 0, roles.e: roles.e.size or 0}
    loops = [*(Loop(axis.name, 1) for axis in roles.outer), *(Loop(axis.name, step) for axis, step in steps.items())]
    on_queries = lane == "queries"
    loops.append(Loop(roles.m.name, queries))
    return Schedule(
        loops=tuple(loops),
        grid=tuple(axis.name for axis in (*roles.outer, roles.m)),
        lane=(roles.m if on_queries else roles.n).name,
        stage=((roles.query if on_queries else roles.key),) if stage else (),
        intrinsic=FMA,
        ordered=ordered,
    )


def run_levels(text: str, inputs: list[Array], *schedule: Any, workers: int = 2) -> tuple[Array, Array]:
    """What the nests and what the tile program compute, with the schedule that is chosen or the one given."""
    nests, kernel = fused(text)
    (expected,) = Interpreter(nests, UPSTREAM, NEST).call("main", inputs)
    if schedule:
        roles = attention_roles(KernelAxes(kernel))
        assert roles is not None
        chosen = GuardedScheduleAttr(GuardAttr(()), ScheduleAttr(with_schedule(roles, *schedule)))
        kernel.schedules = ArrayAttr([chosen])
    run_pipeline(nests, "choose-schedule{target=x86-64-avx512},nest-to-tile")
    (host,) = host_functions(nests)
    (shape,) = host_signature(host).shapes_of_results([array.shape for array in inputs])
    result = np.full(shape, np.nan, np.float32)
    Interpreter(nests, UPSTREAM, TILE, workers=workers).call("main", [*inputs, result])
    return expected, result


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


def reference(q: Array, k: Array, v: Array, scale: float, bias: Array | float = 0.0, causal: bool = False) -> Array:
    """Attention in float64; a query that sees no key gets zeros."""
    q, k, v = (array.astype(np.float64) for array in (q, k, v))
    group = q.shape[1] // k.shape[1]
    k, v = (np.repeat(array, group, axis=1) for array in (k, v))
    scores: Array = q @ k.swapaxes(-1, -2) * scale + bias
    if causal:
        m, n = scores.shape[-2:]
        scores = np.where(np.tri(m, n, n - m, bool), scores, -np.inf)
    weights = np.exp(scores - np.max(scores, -1, keepdims=True, initial=-1e300))
    return weights / np.maximum(weights.sum(-1, keepdims=True), 1e-30) @ v


def attention(heads: int, key_heads: int, d: int, e: int, words: str = "", bias: str = "") -> str:
    """A program of one ``nn.attention``."""
    types = f"tensor<?x{heads}x?x{d}xf32>", f"tensor<?x{key_heads}x?x{d}xf32>", f"tensor<?x{key_heads}x?x{e}xf32>"
    added = f", %b : {bias}" if bias else ""
    result = f"tensor<?x{heads}x?x{e}xf32>"
    return f"""func.func @main(%q : {types[0]}, %k : {types[1]}, %v : {types[2]}{added}) -> {result} {{
      %y = nn.attention %q, %k, %v {"bias %b " if bias else ""}{words} scale 0.3 accumulate f32
          : {", ".join([*types, *([bias] if bias else [])])}
      func.return %y : {result}
    }}"""


SIZES = [(0, 1, 1), (1, 0, 5), (1, 3, 0), (1, 1, 1), (2, 7, 13), (1, 67, 131), (1, 5, 64)]
BLOCKS: list[tuple[Any, ...]] = [
    (),
    ("queries", 16, 8, True),
    ("queries", 16, 3, False),
    ("keys", 4, 16, True),
    ("keys", 5, 16, False),
    ("keys", 3, 16, True, True),
]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
def test_attention_in_blocks_of_every_shape(sizes: tuple[int, int, int], blocks: tuple[Any, ...], causal: bool):
    batch, m, n = sizes
    q, k, v = random(batch, 4, m, 5), random(batch, 2, n, 5, seed=1), random(batch, 2, n, 7, seed=2)
    # Results across 16 lanes where keys are, as the last dimension of the sums then is a value's.
    if blocks and blocks[0] == "keys":
        v = random(batch, 2, n, 16, seed=2)
    text = attention(4, 2, 5, v.shape[3], "causal" if causal else "")
    nests, tiles = run_levels(text, [q, k, v], *blocks)
    expected = reference(q, k, v, 0.3, causal=causal)
    np.testing.assert_allclose(nests, expected, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(tiles, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("bias", ["tensor<?x?xf32>", "tensor<4x1x?xf32>", "tensor<?x1x?x1xf32>", "tensor<f32>"])
def test_a_bias_broadcasts_and_hides(bias: str):
    sizes = {"tensor<?x?xf32>": (9, 21), "tensor<4x1x?xf32>": (4, 1, 21), "tensor<?x1x?x1xf32>": (2, 1, 9, 1)}
    q, k, v, b = random(2, 4, 9, 8), random(2, 4, 21, 8), random(2, 4, 21, 8), random(*sizes.get(bias, ()))
    if b.ndim == 2:
        b[:, 3:17] = -np.inf
        b[5] = -np.inf
    nests, tiles = run_levels(attention(4, 4, 8, 8, "causal", bias), [q, k, v, np.asarray(b)], "queries", 16, 8, True)
    expected = reference(q, k, v, 0.3, b.astype(np.float64), causal=True)
    np.testing.assert_allclose(nests, expected, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(tiles, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("lane", ["queries", "keys"])
def test_results_depend_neither_on_workers_nor_on_the_block_of_queries_nor_on_the_batch(lane: str):
    q, k, v = random(3, 2, 37, 16), random(3, 2, 53, 16, seed=1), random(3, 2, 53, 16, seed=2)
    text = attention(2, 2, 16, 16, "causal")
    few = 16 if lane == "queries" else 3
    _, one = run_levels(text, [q, k, v], lane, few, 16, True, workers=1)
    _, many = run_levels(text, [q, k, v], lane, 48, 16, True, workers=7)
    _, last = run_levels(text, [q[2:], k[2:], v[2:]], lane, 48, 16, True, workers=2)
    np.testing.assert_array_equal(one, many)
    np.testing.assert_array_equal(many[2:], last)


@pytest.mark.parametrize(("m", "n"), [(1025, 67), (1030, 129), (1030, 0)])
def test_machine_code_of_many_queries_computes_what_that_of_few_does(m: int, n: int):
    """More than 1024 queries fetch keys and values ahead, in blocks of another size; no bit depends on it."""
    q, k, v = random(1, 2, m, 16), random(1, 2, n, 16, seed=1), random(1, 2, n, 16, seed=2)
    function = crosstile.compile(attention(2, 2, 16, 16))
    many, few = function(q, k, v, threads=1), function(np.ascontiguousarray(q[:, :, :64]), k, v, threads=1)
    np.testing.assert_allclose(many, reference(q, k, v, 0.3), rtol=2e-5, atol=2e-6)
    np.testing.assert_array_equal(many[:, :, :64], few)


def test_keys_that_are_hidden_from_a_whole_block_are_not_visited():
    """NaN in their place would show: 0 times NaN is NaN."""
    q, k, v = random(1, 1, 40, 8), random(1, 1, 40, 8), random(1, 1, 40, 8)
    v[:, :, 16:] = np.nan
    _, result = run_levels(attention(1, 1, 8, 8, "causal"), [q, k, v], "queries", 16, 8, True)
    assert np.isfinite(result[:, :, :16]).all() and np.isnan(result[:, :, 16:]).all()


def test_a_softmax_of_nothing_is_an_empty_sum_and_one_of_minus_infinity_is_no_number():
    """Without the floors of ``nn.attention``: as the operators one by one."""
    text = """func.func @main(%q : tensor<?x4xf32>, %k : tensor<?x4xf32>, %v : tensor<?x4xf32>, %b : tensor<?xf32>)
        -> tensor<?x4xf32> {
      %s = nn.matmul %q, %k {transpose_b} accumulate f32 : tensor<?x4xf32>, tensor<?x4xf32> -> tensor<?x?xf32>
      %t = nn.add %s, %b : tensor<?x?xf32>, tensor<?xf32>
      %w = nn.softmax %t dim 1 : tensor<?x?xf32>
      %y = nn.matmul %w, %v accumulate f32 : tensor<?x?xf32>, tensor<?x4xf32> -> tensor<?x4xf32>
      func.return %y : tensor<?x4xf32>
    }"""
    for result in run_levels(text, [random(3, 4), random(0, 4), random(0, 4), random(0)]):
        np.testing.assert_array_equal(result, np.zeros((3, 4)))
    for result in run_levels(text, [random(3, 4), random(2, 4), random(2, 4), np.full(2, -np.inf, np.float32)]):
        assert np.isnan(result).all()


def test_a_schedule_without_what_attention_needs_says_so():
    _, kernel = fused(attention(2, 2, 8, 8))
    roles = attention_roles(KernelAxes(kernel))
    assert roles is not None
    good = with_schedule(roles, "queries", 16, 8, True)
    missing = tuple(loop for loop in good.loops if loop.iterator != roles.n.name)
    for loops, lane, message in (
        (missing, good.lane, "no loop over 'n', which attention needs"),
        (good.loops, roles.outer[0].name, "attention has n or m across lanes, got the schedule's lane b0"),
    ):
        module, kernel = fused(attention(2, 2, 8, 8))
        schedule = Schedule(loops, grid=good.grid, lane=lane)
        kernel.schedules = ArrayAttr([GuardedScheduleAttr(GuardAttr(()), ScheduleAttr(schedule))])
        with pytest.raises(CrosstileError, match=message):
            run_pipeline(module, "nest-to-tile")
