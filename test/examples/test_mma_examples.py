"""The kernels of ``examples/mma``: right on ragged sizes, wrong as soon as a piece of synchronisation is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mma_examples import EXAMPLES, FOLDER, Example, read, run
from mma_mutants import Mutant, mutants, verdict
from round_trip import assert_round_trips

from crosstile.ir.diagnostics import CrosstileError

RUNS = [pytest.param(example, sizes, id=f"{example}-{sizes}") for example in EXAMPLES for sizes in example.sizes]
MUTANTS = [(example, mutant) for example in EXAMPLES for mutant in mutants(read(example))]


def test_every_file_is_tested():
    assert {example.file for example in EXAMPLES} == {path.name for path in FOLDER.glob("*.mlir")}


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_round_trip(example: Example):
    assert_round_trips(read(example))


@pytest.mark.parametrize(("example", "sizes"), RUNS)
def test_answer_is_right(example: Example, sizes: tuple[int, ...]):
    problem = example.problem(*sizes)
    run(read(example), example.kernel, problem)
    assert problem.is_right()


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_bound_bites(example: Example):
    """An error of a bf16 rounding, or one element left out, is not within the bound."""
    problem = example.problem(*example.sizes[2])
    run(read(example), example.kernel, problem)
    right = problem.output.copy()
    problem.output[...] = right * 1.02
    assert not problem.is_right()
    problem.output[...] = right
    problem.output.reshape(-1)[-1] = np.nan
    assert not problem.is_right()


@pytest.mark.parametrize("file", ["gemm_cpu.mlir", "layer_norm.mlir"])
def test_result_does_not_depend_on_workers(file: str):
    (example,) = (example for example in EXAMPLES if example.file == file)
    outputs: list[Any] = []
    for workers in (1, 3):
        problem = example.problem(*example.sizes[1])
        run(read(example), example.kernel, problem, workers)
        outputs.append(problem.output)
    np.testing.assert_array_equal(outputs[0], outputs[1])


def found_out(example: Example, mutant: Mutant) -> str | None:
    """What finds a mutant out: nothing well-formed, the verifier, an error at run time, a wrong answer; or None."""
    return verdict(mutant) or found_out_running(example, mutant)


def found_out_running(example: Example, mutant: Mutant) -> str | None:
    """What finds a mutant out that is run without being verified; None if nothing does."""
    assert mutant.module is not None
    for sizes in example.mutant_sizes:
        problem = example.problem(*sizes)
        try:
            run(mutant.module, example.kernel, problem)
        except CrosstileError as error:
            return f"run: {error.message}"
        if not problem.is_right():
            return "wrong answer"
    return None


@pytest.mark.parametrize(("example", "mutant"), [pytest.param(*pair, id=f"{pair[0]}-{pair[1]}") for pair in MUTANTS])
def test_missing_synchronisation_is_found_out(example: Example, mutant: Mutant):
    assert found_out(example, mutant) is not None


@pytest.mark.parametrize(
    ("example", "mutant"), [pytest.param(*pair, id=f"{pair[0]}-{pair[1]}") for pair in MUTANTS if pair[1].module]
)
def test_interpreter_finds_out_by_itself(example: Example, mutant: Mutant):
    """What the verifier refuses goes wrong when it runs all the same: the verifier does not cry wolf."""
    assert found_out_running(example, mutant) is not None
