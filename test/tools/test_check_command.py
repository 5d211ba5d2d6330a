"""``crosstile check`` as a command: reports, exit codes, bisection, one perturbed operation at each level."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import call
from xdsl.context import Context
from xdsl.dialects import arith
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from crosstile.dialects.nn.elementwise import AddOp, SubOp
from crosstile.ir import registry
from crosstile.ir.registry import PassRow
from crosstile.targets import cpu_pipeline
from crosstile.tools.arguments import Parameters, random_inputs
from crosstile.tools.check import main
from crosstile.tools.evaluate import evaluate_level
from crosstile.tools.program import Program

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
MATMUL = EXAMPLES / "matmul.mlir"
SIZES = ("--dim", "M=13", "--dim", "N=21", "--dim", "K=34")
ROW_SIZES = ("--dim", "M=13", "--dim", "N=21")
PRODUCT = """func.func @main(%x: tensor<13x34xf32>, %w: tensor<34x21xf32>, %b: tensor<21xf32>) -> tensor<13x21xf32> {
  %t = nn.matmul %x, %w accumulate f32 : tensor<13x34xf32>, tensor<34x21xf32> -> tensor<13x21xf32>
  %r = nn.add %t, %b : tensor<13x21xf32>, tensor<21xf32>
  func.return %r : tensor<13x21xf32>
}
"""

DIMS: dict[str, tuple[str, ...]] = {
    "attention.mlir": ("--dim", "B=2", *ROW_SIZES),
    "batch_matmul.mlir": ("--dim", "B=2", *ROW_SIZES),
    "broadcast_chain.mlir": ROW_SIZES,
    "encoder.mlir": ("--dim", "S=13"),
    "conv2d.mlir": ("--dim", "N=1", "--dim", "H=3", "--dim", "W=17"),
    "gelu.mlir": ROW_SIZES,
    "layer_norm.mlir": ROW_SIZES,
    "matmul.mlir": SIZES,
    "matmul_bf16.mlir": SIZES,
    "matmul_bias_gelu.mlir": SIZES,
    "matmul_int8.mlir": SIZES,
    "matmul_long_k.mlir": (),
    "matmul_transposed.mlir": SIZES,
    "mlp.mlir": ("--dim", "N=13"),
    "rms_norm.mlir": ROW_SIZES,
    "row_sum.mlir": ROW_SIZES,
    "softmax.mlir": ROW_SIZES,
    "digits/digits.mlir": ("--dim", "N=13"),
}


LOOSE = {"encoder.mlir": 1e7, "matmul_long_k.mlir": 1e6}
"""How far a bound may be above the error: worst cases of many layers, or of any order of many terms, never happen
together."""


def test_every_example_is_checked():
    found = {str(path.relative_to(EXAMPLES)) for path in [*EXAMPLES.glob("*.mlir"), *EXAMPLES.glob("digits/*.mlir")]}
    assert found == set(DIMS)


@pytest.mark.parametrize("name", DIMS)
def test_examples_are_right_and_their_bounds_bite(name: str):
    result = call(main, EXAMPLES / name, *DIMS[name], "--json")
    assert result.code == 0, result.out + result.err
    report = json.loads(result.out)
    assert report["right"] and report["first_wrong_pass"] is None
    assert [level["level"] for level in report["levels"]] == ["nn", "nest", "tile", "mma", "machine code"]
    for level in report["levels"]:
        assert level["right"] and level["error"] is None
        exact = level["ulps"] == 0 and "int8" in name
        assert exact or 1.0 <= level["bound_over_error"] < LOOSE.get(name, 1000), level
    assert any(remark == "the same bits as mma" for remark in report["levels"][-1]["remarks"])


def test_report_for_people():
    result = call(main, MATMUL, *SIZES, "--threads", "3")
    assert result.code == 0
    for level in ("nn", "nest", "tile", "mma", "machine code"):
        assert re.search(rf"^  {level} +right +[\d.e+-]+ ulp +([\d.e+]+|exact) ", result.out, re.MULTILINE), result.out
    assert "the same bits with 3 threads" in result.out and result.out.endswith("\nright\n")


def test_large_sizes_are_sampled_and_say_so():
    result = call(main, MATMUL, "--dim", "M=70", "--dim", "N=65", "--dim", "K=9", "--sample", "3")
    assert result.code == 0, result.out
    assert len(re.findall(r"a sample: 3 of \d+ instances, [\d.]+ % of the elements", result.out)) == 2
    assert "a sample" not in call(main, MATMUL, *SIZES, "--sample", "all").out


def test_a_sample_that_computes_nothing_gives_way_to_all():
    result = call(main, EXAMPLES / "mlp.mlir", "--dim", "N=40", "--sample", "2")
    assert result.code == 0 and "exact" not in result.out, result.out


# Bisection


class SabotagePass(ModulePass):
    """Makes the mistake of the test that runs."""

    name = "sabotage"
    mistake: Callable[[ModuleOp], None]

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        type(self).mistake(op)


def subtract_instead(module: ModuleOp) -> None:
    """Every float addition becomes a subtraction; which of them runs depends on the variants of a kernel."""
    for add in [op for op in module.walk() if isinstance(op, arith.AddfOp)]:
        block = add.parent
        assert block is not None
        new = arith.SubfOp(add.lhs, add.rhs)
        block.insert_op_before(new, add)
        add.results[0].replace_all_uses_with(new.results[0])
        block.erase_op(add)


@pytest.fixture
def sabotage(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int, Callable[[ModuleOp], None]], None]:
    """Insert a pass that makes a mistake into the steps to a level."""

    load = registry.load_object

    def find(target: str) -> object:
        return SabotagePass if target == row.target else load(target)

    row = PassRow("sabotage", f"{__name__}:SabotagePass", "any", "make a mistake")

    def insert(level: str, position: int, mistake: Callable[[ModuleOp], None]) -> None:
        steps = list(cpu_pipeline.STEPS[level])
        steps.insert(position, "sabotage")
        monkeypatch.setitem(cpu_pipeline.STEPS, level, tuple(steps))
        monkeypatch.setattr(SabotagePass, "mistake", staticmethod(mistake), raising=False)
        monkeypatch.setattr(registry, "PASSES", (*registry.PASSES, row))
        monkeypatch.setattr(registry, "load_object", find)

    return insert


@pytest.mark.parametrize(
    ("level", "position", "wrong"),
    [
        ("nest", 5, ["nest", "tile", "mma", "machine code"]),
        ("tile", 2, ["tile", "mma", "machine code"]),
        ("mma", 1, ["mma", "machine code"]),
        ("hardware", 2, ["machine code"]),
    ],
)
def test_names_the_pass_that_is_wrong(
    tmp_path: Path, sabotage: Callable[..., None], level: str, position: int, wrong: list[str]
):
    sabotage(level, position, subtract_instead)
    path = tmp_path / "product.mlir"
    path.write_text(PRODUCT)
    result = call(main, path, "--json")
    assert result.code == 1, result.out + result.err
    report = json.loads(result.out)
    assert not report["right"] and report["first_wrong_pass"] == "sabotage"
    assert [row["level"] for row in report["levels"] if not row["right"]] == wrong
    text = call(main, path).out
    assert "wrong: the first pass after which the answer is wrong is sabotage" in text
    assert re.search(r"worst element: \[\d+, \d+\] of result 0 at " + wrong[0], text)
    assert re.search(r"got [-\d.e]+, expected [-\d.e]+, bound [\d.e-]+", text)


def test_other_bits_than_mma_are_wrong_though_inside_the_bound(tmp_path: Path, sabotage: Callable[..., None]):
    def multiply_then_add(module: ModuleOp) -> None:
        from xdsl.dialects import vector

        for op in [op for op in module.walk() if isinstance(op, vector.FMAOp)]:
            block = op.parent
            assert block is not None
            product = arith.MulfOp(op.lhs, op.rhs)
            total = arith.AddfOp(product.results[0], op.acc)
            block.insert_ops_before([product, total], op)
            op.results[0].replace_all_uses_with(total.results[0])
            block.erase_op(op)

    sabotage("hardware", 2, multiply_then_add)
    path = tmp_path / "product.mlir"
    path.write_text(PRODUCT)
    result = call(main, path)
    assert result.code == 1, result.out
    assert re.search(r"\d+ elements have OTHER BITS than as mma", result.out)


def test_a_pass_that_fails_is_reported_after_the_levels_above(tmp_path: Path, sabotage: Callable[..., None]):
    def fail(_: ModuleOp) -> None:
        raise AssertionError("broken")

    sabotage("tile", 1, fail)
    path = tmp_path / "product.mlir"
    path.write_text(PRODUCT)
    result = call(main, path)
    assert result.code == 1 and "nest          right" in result.out and "tile          failed" in result.out
    assert "not checked further: tile failed" in result.out
    assert "sabotage: internal error" in result.err and "Traceback" not in result.err


# One perturbed operation


def results_of(program: Program, inputs: list[Any]) -> dict[str, Any]:
    """The result at every level, and of the machine code."""
    found = {level: evaluate_level(program, level, inputs).results[0] for level in ("nn", "nest", "tile", "mma")}
    function = program.compile().function
    outputs = function.new_outputs(inputs)
    function(inputs, outputs)
    return {**found, "machine code": outputs[0]}


def subtract_in_nn(module: ModuleOp) -> None:
    (add,) = [op for op in module.walk() if isinstance(op, AddOp)]
    block = add.parent
    assert block is not None
    new = SubOp(add.lhs, add.rhs)
    block.insert_op_before(new, add)
    add.results[0].replace_all_uses_with(new.results[0])
    block.erase_op(add)


@pytest.mark.parametrize(
    ("level", "perturb"),
    [("nn", subtract_in_nn), ("nest", subtract_instead), ("tile", subtract_instead), ("mma", subtract_instead)],
)
def test_a_perturbed_operation_changes_its_level_and_those_below(level: str, perturb: Callable[[ModuleOp], None]):
    program = Program.load(PRODUCT)
    inputs = random_inputs(Parameters.of(program), {}, 0)
    before = results_of(program, inputs)
    module = program.at(level).clone()
    perturb(module)
    program.replace(level, module)
    after = results_of(program, inputs)
    levels = list(before)
    changed = [name for name in levels if not np.array_equal(before[name], after[name])]
    assert changed == levels[levels.index(level) :]


# Programs that start below nn


def test_a_program_from_the_tile_level(tmp_path: Path):
    from crosstile.ir.printing import print_module

    path = tmp_path / "tile.mlir"
    path.write_text(print_module(Program.load(MATMUL).at("tile")))
    result = call(main, path, "--from", "tile", *SIZES)
    assert result.code == 0, result.out + result.err
    assert "differences from level tile" in result.out and "the same bits as mma" in result.out
    levels = re.findall(r"^  (\w[\w ]+?)  +right", result.out, re.MULTILINE)
    assert levels == ["tile", "mma", "machine code"]


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "which program?"),
        (("nothing.mlir",), "cannot read 'nothing.mlir'"),
        ((str(MATMUL),), "the sizes of dimensions 'M', 'K', 'N' are not given"),
        ((str(MATMUL), *SIZES, "--from", "llvm"), "cannot be checked"),
        ((str(MATMUL), *SIZES, "--level", "nn"), "unknown flag '--level'"),
    ],
)
def test_errors(arguments: tuple[str, ...], message: str):
    result = call(main, *arguments)
    assert result.code == 1 and result.out == ""
    assert result.err.count("error:") == 1 and message in result.err, result.err
