"""Chains of two products have, in one kernel, the bits that they have in several: whatever the sizes and the mask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import call
from xdsl.dialects.builtin import ModuleOp

import crosstile
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.ir.passes import run_passes
from crosstile.ir.pipeline import make_pass, parse_pipeline
from crosstile.ir.printing import print_module
from crosstile.tools.check import main

Array = np.ndarray[Any, Any]
TO_NESTS = "decompose,canonicalize,nn-to-nest,fuse"


def nests(text: str, pipeline: str = TO_NESTS) -> ModuleOp:
    context = make_context()
    module = parse_module(text, "input.mlir", context)
    run_passes(context, module, [make_pass(spec) for spec in parse_pipeline(pipeline)])
    return module


def kernels(module: ModuleOp) -> int:
    return sum(isinstance(op, KernelOp) for op in module.walk())


def check_bits(text: str, inputs: list[list[Array]]) -> None:
    """The program is one kernel, and gives the bits of its kernels one by one, with one thread and with three."""
    apart = nests(text)
    assert kernels(apart) > 1
    assert kernels(nests(text, f"{TO_NESTS},fuse-attention,fuse-row-chains{{target=host}}")) == 1
    fused, expected = crosstile.compile(text), crosstile.compile(print_module(apart), start="nest")
    for arguments in inputs:
        found, wanted = fused(*arguments, threads=1), expected(*arguments, threads=1)
        assert_same_bits(found, wanted)
        assert_same_bits(fused(*arguments, threads=3), wanted)


def assert_same_bits(found: Array, wanted: Array) -> None:
    """The same numbers, the same zeros, and no number at the same places."""
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    numbers = ~np.isnan(wanted)
    np.testing.assert_array_equal(found[numbers].view(np.uint32), wanted[numbers].view(np.uint32))


def normal(*shapes: tuple[int, ...]) -> list[Array]:
    random = np.random.default_rng(sum(map(sum, shapes)))
    return [random.standard_normal(shape, np.float32) for shape in shapes]


def attention(heads: int = 2, shared: int = 2, options: str = "") -> str:
    q, kv = f"tensor<?x{heads}x?x24xf32>", f"tensor<?x{shared}x?x24xf32>"
    return f"""func.func @main(%q: {q}, %k: {kv}, %v: {kv}) -> {q} {{
      %y = nn.attention %q, %k, %v {options} accumulate f32 fastmath<none> : {q}, {kv}, {kv}
      func.return %y : {q}
    }}"""


SIZES = [(1, 1), (0, 5), (5, 0), (1, 67), (53, 53), (131, 17), (101, 211)]


@pytest.mark.parametrize("options", ["", "causal", "scale 0.3"])
def test_attention_in_order_has_the_bits_of_three_kernels(options: str):
    shapes = [((1, 2, m, 24), (1, 2, n, 24), (1, 2, n, 24)) for m, n in SIZES]
    check_bits(attention(options=options), [normal(*each) for each in shapes])


def test_heads_share_keys():
    shapes = [((2, 6, m, 24), (2, 2, n, 24), (2, 2, n, 24)) for m, n in ((1, 67), (53, 53), (50, 131))]
    check_bits(attention(6, 2, "causal"), [normal(*each) for each in shapes])


def test_rows_too_long_for_scratch_are_computed_again():
    """33000 rows of 16 queries exceed half of any second cache up to 4 MB."""
    check_bits(attention(options="causal"), [normal((1, 2, 3, 24), (1, 2, 33000, 24), (1, 2, 33000, 24))])
    check_bits(attention(), [normal((1, 2, 49, 24), (1, 2, 12001, 24), (1, 2, 12001, 24))])


def test_hidden_values_that_are_no_numbers_or_infinite_count():
    """Zero times what is hidden is added, as without skipping it."""
    inputs: list[list[Array]] = []
    for m, n in ((53, 53), (131, 17), (60, 333), (200, 200)):
        q, k, v = normal((1, 2, m, 24), (1, 2, n, 24), (1, 2, n, 24))
        v[:, :, -3:, 5], v[:, :, n // 2 :, 7], v[:, :, -1:, 9] = np.inf, np.nan, -np.inf
        inputs.append([q, k, v])
        inputs.append([q * np.float32(1e20), k * np.float32(1e20), v])
    check_bits(attention(options="causal"), inputs)


def test_hidden_zeros_have_signs():
    """A sum that has become -0 stays so only if all zeros that are added are negative."""
    inputs: list[list[Array]] = []
    for m, n in ((53, 53), (131, 17), (60, 333), (200, 200)):
        q, k, v = normal((1, 2, m, 24), (1, 2, n, 24), (1, 2, n, 24))
        q[:], v[..., 3:5] = 0, np.float32(-1.4e-45)
        v[:, :, -10:, 4] = 1
        inputs.append([q, k, v])
    check_bits(attention(options="causal"), inputs)


def written_out(between: str, transposed: bool = False) -> str:
    """Two products with what stands ``between`` %s and %w."""
    k, index = ("tensor<24x?xf32>", "k, n") if transposed else ("tensor<?x24xf32>", "n, k")
    return f"""func.func @main(%q: tensor<?x24xf32>, %k: {k}, %v: tensor<?x40xf32>, %b: tensor<?x?xf32>)
        -> tensor<?x40xf32> {{
      %one = nn.constant dense<1.0> : tensor<f32>
      %two = nn.constant dense<2.0> : tensor<f32>
      %s = nn.contract [m, n, k] %q (m, k), %k ({index}) -> (m, n) accumulate f32
          : tensor<?x24xf32>, {k} -> tensor<?x?xf32>
      {between}
      %y = nn.contract [m, n, k] %w (m, k), %v (k, n) -> (m, n) accumulate f32
          : tensor<?x?xf32>, tensor<?x40xf32> -> tensor<?x40xf32>
      func.return %y : tensor<?x40xf32>
    }}"""


SOFT_CAP_AND_MASK = """%r = nn.div %s, %two : tensor<?x?xf32>, tensor<f32>
      %t = nn.tanh %r : tensor<?x?xf32>
      %c = nn.mul %t, %two : tensor<?x?xf32>, tensor<f32>
      %d = nn.add %c, %b : tensor<?x?xf32>, tensor<?x?xf32>
      %w = nn.softmax %d dim 1 fastmath<none> : tensor<?x?xf32>"""
NORM = """%f = nn.add %s, %b : tensor<?x?xf32>, tensor<?x?xf32>
      %m = nn.mul %f, %f : tensor<?x?xf32>, tensor<?x?xf32>
      %l = nn.reduce add %m dims [1] keep_dims fastmath<none> : tensor<?x?xf32> -> tensor<?x1xf32>
      %p = nn.add %l, %one : tensor<?x1xf32>, tensor<f32>
      %i = nn.sqrt %p : tensor<?x1xf32>
      %w = nn.div %f, %i : tensor<?x?xf32>, tensor<?x1xf32> -> tensor<?x?xf32>"""


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("between", [SOFT_CAP_AND_MASK, NORM], ids=["softmax", "norm"])
def test_any_folds_along_rows_may_stand_between_products(between: str, transposed: bool):
    """Rows of minus infinity alone have no maximum: the softmax says that they are no numbers."""
    inputs: list[list[Array]] = []
    for m, n in SIZES:
        q, k, v, b = normal((m, 24), (n, 24), (n, 40), (m, n))
        b[b > 1] = -np.inf
        b[m // 2 : m // 2 + 1] = -np.inf
        inputs.append([q, np.ascontiguousarray(k.T) if transposed else k, v, b])
    check_bits(written_out(between, transposed), inputs)


@pytest.mark.parametrize(("m", "n"), [(1, 1), (19, 67), (50, 0)])
@pytest.mark.parametrize("options", ["", "causal"])
def test_it_is_right_at_every_level(options: str, m: int, n: int, tmp_path: Path):
    q, kv = (f'tensor<1x2x?x24xf32> {{nn.dims = ["_", "_", "{name}", "_"]}}' for name in "MN")
    text = attention(options=options).replace("?x2x?", "1x2x?")
    text = text.replace("%q: tensor<1x2x?x24xf32>", f"%q: {q}")
    text = text.replace("%k: tensor<1x2x?x24xf32>, %v: tensor<1x2x?x24xf32>", f"%k: {kv}, %v: {kv}")
    path = tmp_path / "attention.mlir"
    path.write_text(text)
    result = call(main, path, "--dim", f"M={m}", "--dim", f"N={n}", "--json")
    assert result.code == 0, result.out + result.err
    assert json.loads(result.out)["right"]


def test_the_softmax_of_a_factor_stays_in_order():
    """A factor's kernel folds in lanes, which a sum that is to be in order forbids: the softmax has its own."""
    text = """func.func @main(%x: tensor<?x?xf32>, %w: tensor<?x40xf32>) -> tensor<?x40xf32> {
      %s = nn.softmax %x dim 1 FLAGS : tensor<?x?xf32>
      %y = nn.matmul %s, %w accumulate f32 : tensor<?x?xf32>, tensor<?x40xf32> -> tensor<?x40xf32>
      func.return %y : tensor<?x40xf32>
    }"""
    counts = [
        kernels(nests(text.replace("FLAGS", flags), f"{TO_NESTS},fuse-factors")) for flags in ("", "fastmath<none>")
    ]
    assert counts == [1, 2]
