"""Names of dimensions: what ``--dim N=17`` may say."""

from __future__ import annotations

import pytest
from round_trip import parse
from xdsl.dialects.func import FuncOp

from crosstile.dialects.nn.dims import argument_shapes, dim_names
from crosstile.ir.diagnostics import CrosstileError


def function(arguments: str) -> FuncOp:
    (op,) = parse(f"func.func @main({arguments}) {{ func.return }}").ops
    assert isinstance(op, FuncOp)
    return op


MATMUL = """%a: tensor<?x?xf32> {nn.dims = ["M", "K"]}, %s: f32,
    %b: tensor<?x8xf32> {nn.dims = ["K", "N"]}, %c: tensor<?x?xf32>"""


def test_names_stand_for_equal_sizes_and_unnamed_dimensions_have_a_name_by_place():
    op = function(MATMUL)
    assert dim_names(op) == ("M", "K", "d3_0", "d3_1")
    shapes = argument_shapes(op, {"M": 2, "K": 3, "N": 8, "d3_0": 4, "d3_1": 0})
    assert shapes == {0: (2, 3), 2: (3, 8), 3: (4, 0)}


def test_a_static_size_names_the_dynamic_ones_too():
    op = function('%a: tensor<?xf32> {nn.dims = ["K"]}, %b: tensor<7xf32> {nn.dims = ["K"]}')
    assert dim_names(op) == ()
    assert argument_shapes(op, {}) == {0: (7,), 1: (7,)}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"M": 1}, "the sizes of dimensions 'K', 'd3_0', 'd3_1' are not given: the dimensions of 'main' are M, K"),
        ({"Q": 1}, "no dimension is called 'Q': the dimensions of 'main' are M, K, d3_0, d3_1"),
        ({"N": 9}, "dimension 'N' is 8 in the program and cannot be 9"),
        ({"M": -1}, "dimension 'M' cannot have size -1"),
    ],
)
def test_wrong_sizes_are_explained(sizes: dict[str, int], message: str):
    with pytest.raises(CrosstileError, match=message):
        argument_shapes(function(MATMUL), sizes)


def test_a_program_without_dynamic_sizes_says_so():
    with pytest.raises(CrosstileError, match="no dimension is called 'N': all sizes are static"):
        argument_shapes(function("%a: tensor<2xf32>"), {"N": 2})


@pytest.mark.parametrize("dims", ['["M"]', '"M"', "[1, 2]"])
def test_malformed_names_are_explained(dims: str):
    with pytest.raises(CrosstileError, match=r"argument 0: nn\.dims must be 2 strings, one per dimension"):
        dim_names(function(f"%a: tensor<?x?xf32> {{nn.dims = {dims}}}"))
